"""A training of which a record is kept: the checks before it, what the user is told of it, the network it writes."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from keras_pipeline.config import layers
from keras_pipeline.config.params import Params
from keras_pipeline.core import files, process
from keras_pipeline.core.errors import DataError, DivergedError, MachineError
from keras_pipeline.core.json_files import Scalar
from keras_pipeline.data.splits import Split
from keras_pipeline.data.statistics import Statistics, read_statistics, things
from keras_pipeline.data.task_spec import task_spec_from
from keras_pipeline.distribution import strategies
from keras_pipeline.distribution.strategies import OpenedStrategy, Plan
from keras_pipeline.models import architectures, frameworks
from keras_pipeline.records import provenance
from keras_pipeline.records.git import describe_git
from keras_pipeline.records.observer import Observer
from keras_pipeline.records.record import RunRecord, StrategyRecord, write_record
from keras_pipeline.training.checkpoints import Checkpoints
from keras_pipeline.training.training import Training, prepare_training

if TYPE_CHECKING:
    import keras

    from keras_pipeline.training.fit import NotFiniteError, Progress
    from keras_pipeline.training.state import TrainingState


def check_training(params: Params, normalized: Path) -> tuple[Plan, Statistics]:
    """Every check that needs no framework: what will train, and the statistics of what it will train on.

    Raises DataError where the arrays were made with other params, what `strategies.plan_training` raises, and
    MachineError when a training step cannot fit into this machine's memory by the least estimate.
    """
    statistics = read_statistics(normalized)
    _made_with(params, statistics, normalized)
    plan = strategies.plan_training(params.train, statistics["images"], os.environ)
    shape = task_spec_from(statistics).shape
    own, available = frameworks.LEAST_MEMORY[params.train.backend], frameworks.memory_limit()
    needed = own + least_memory(params, shape, plan.batch_size)
    needed_anyway = own + least_memory(params, shape, params.train.replicas)
    if needed > available:
        weights = layers.weight_count(architectures.hidden_layers(params.model), shape)
        smaller = ", or a smaller train.batch_size" if needed_anyway <= available else ""
        raise MachineError(
            f"params.yaml: model: a training step needs at least {needed / 1e9:.1f} GB of memory ({weights:,} weights, "
            f"batches of {plan.batch_size}; {own / 1e9:.1f} GB for {params.train.backend} itself), this machine lets "
            f"it have {available / 1e9:.1f} GB. Use fewer units, filters or layers{smaller}."
        )
    frameworks.require_framework(params.train.backend, 2 * (needed - own))
    return plan, statistics


def _made_with(params: Params, statistics: Statistics, normalized: Path) -> None:
    made: dict[str, Scalar] = {"fetch.dataset": statistics["dataset"]}
    made |= {f"normalize.{key}": value for key, value in statistics["normalize"].items()}
    wanted = provenance.flat_params({"fetch": params.fetch, "normalize": params.normalize})
    for key, value in wanted.items():
        if made.get(key) != value:
            raise DataError(
                f"{normalized}: made with {key}: {made.get(key)}, the params say {value}. Run `dvc repro normalize`."
            )


def least_memory(params: Params, shape: layers.Shape, batch_size: int) -> int:
    """The bytes that a training step of so many inputs of this shape needs at least."""
    return layers.training_memory(architectures.hidden_layers(params.model), shape, batch_size)


@dataclass(frozen=True)
class RecordedTraining(Training):
    """A training of which a record is kept: `run`."""

    run: RunRecord

    def fit(
        self,
        progress: "Progress",
        state: "TrainingState | None" = None,
        observers: Sequence[Observer] = (),
        *,
        quiet: bool = False,
    ) -> None:
        """As `fit.fit_network`; the record is told the time it took."""
        from keras_pipeline.training import fit

        began = time.monotonic() - progress.seconds
        try:
            with process.time_part("train"):
                fit.fit_network(self, progress, state, observers, quiet=quiet)
        finally:
            self.run["ended"], self.run["train_seconds"] = time.time(), time.monotonic() - began

    def diagnose_divergence(self, fault: "NotFiniteError", checkpoints: Checkpoints | None) -> DivergedError:
        """The fault of `fit` with its cause, looked for from its checkpoints if it keeps any, and told the record."""
        from keras_pipeline.training import divergence

        self.run["diverged"] = fault.received  # all that is known, should the search be interrupted
        diagnosis = divergence.explain_divergence(fault, checkpoints, self)
        self.run["diverged"] = diagnosis.cause
        return DivergedError(diagnosis.message)

    def summary(self) -> Iterator[str]:
        """What will be trained, on what, and what of it is worth a second look: a line each."""
        images, strategy, precision = self.run["dataset"]["images"], self.run["strategy"], self.params.train.precision
        task_spec = self.task_spec
        needed = least_memory(self.params, task_spec.shape, strategy["batch_per_replica"])
        yield (
            f"train: {self.params.model.architecture}, {self.run['weights']:,} weights, at least "
            f"{needed / 1e6:.0f} MB a replica; {images['train']:,} training and {images['validation']:,} validation "
            f"{things(self.run['dataset'])} of {self.run['dataset']['dataset']}"
        )
        several = strategy["replicas"] > 1
        share = f", {strategy['batch_per_replica']} on each of {strategy['replicas']} replicas" if several else ""
        of_each = " of each worker" if strategy["workers"] > 1 else ""
        yield (
            f"train: {strategy['backend']}, strategy {strategy['name']} on {', '.join(strategy['devices'])}{of_each}; "
            f"batches of {self.plan.batch_size}{share}"
        )
        if self.data.deformation:
            yield "train: every training image is deformed anew each time it is seen (train.augmentation)"
        if strategy["fused"]:
            yield "train: many steps run as one compiled program (train.fused); the first takes some seconds to compile"
        if several and architectures.has_batch_normalization(self.params.model):
            yield f"train: BatchNormalization's statistics: {strategy['batch_statistics']}"
        elif several:
            yield "train: no BatchNormalization in this network, so train.batch_statistics changes nothing"
        if self.strategy.requested:
            yield (
                f"train: {self.strategy.requested} was asked for and is not there; "
                "one device trains instead, as params.yaml allows"
            )
        if precision != "float32" and strategy["devices"][0].startswith("/cpu"):
            yield f"train: {precision} is slower than float32 on a CPU, and less exact"
        if not self.run["git"]["commit"]:
            yield (
                f"train: no commit is recorded, so `keras-pipeline certify` cannot repeat this run: "
                f"{describe_git(self.run['git'])}"
            )
        if self.run["resumed"]:
            yield f"train: {self._going_on()}, in the same run"

    def _going_on(self) -> str:
        from keras_pipeline.training import fit

        position = self.run["resumed"][-1]
        if position == "epoch 1 step 1":
            return "begins again, because it ended before its first checkpoint"
        if fit.is_finished(self.run["history"], self.params.train):
            return "goes on from its checkpoint after the last epoch"
        return f"goes on from its checkpoint at {position}"

    def write(self, model: Path, run: Path) -> "keras.Sequential":
        """Write the trained network to `model` and then the record to `run`; the network as it is kept.

        It is one copy without strategy, optimizer, synchronized BatchNormalization or the state of random generators.
        The devices are closed.
        """
        from keras_pipeline.models import model_file
        from keras_pipeline.training import fit

        self.run["best_epoch"] = fit.best_epoch(self.run["history"], self.params.train.early_stopping)
        self.strategy.close()
        with process.time_part("write"):
            trained = architectures.build_network(self.params.model, self.task_spec.shape, self.task_spec.outputs)
            trained.set_weights(self.model.get_weights())
            model_file.save_network(trained, model)
        self.run["sha256"]["model"] = files.file_sha256(model)
        self.run["seconds"] = process.part_seconds()
        write_record(run, self.run)
        return trained


def prepare_recorded_training(
    params: Params, plan: Plan, strategy: OpenedStrategy, splits: Sequence[Split], run: RunRecord
) -> RecordedTraining:
    """As `prepare_training`; the record `run` says what the dataset is, and is told what the network is and where."""
    from keras_pipeline.training.engines import fused

    dataset = run["dataset"]
    given = dataset["input"]
    black = given["low"] if given["kind"] == "images" else 0.0
    training = prepare_training(params, plan, strategy, splits, task_spec_from(dataset), dataset["scaling"], black)
    run["strategy"] = describe_strategy(
        plan,
        strategy,
        statistics=architectures.has_batch_normalization(params.model),
        fused=fused.can_fuse(training.model, strategy, training.data),
    )
    run["weights"] = training.model.count_params()
    return RecordedTraining(**vars(training), run=run)


def describe_strategy(plan: Plan, strategy: OpenedStrategy, *, statistics: bool, fused: bool) -> StrategyRecord:
    """Where and how the training really computes. `statistics`: whether the network has a BatchNormalization;
    `fused`: whether many steps run as one program."""
    return {
        "name": strategy.name,
        "asked": strategy.requested or strategy.name,
        "backend": plan.train.computed_by,
        "devices": list(strategy.devices),
        "workers": strategy.workers,
        "replicas": strategy.replicas,
        "batch_per_replica": plan.batch_size // strategy.replicas,
        "batch_statistics": plan.train.batch_statistics if statistics and strategy.replicas > 1 else "one device",
        "fused": fused,
    }

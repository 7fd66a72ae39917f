"""A training made ready to begin: the checks before it, its network on its devices, what the user is told of it."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from keras_pipeline.config import layers
from keras_pipeline.config.params import Params, Train
from keras_pipeline.config.tasks import TASKS
from keras_pipeline.core import files, process
from keras_pipeline.core.errors import DataError, DivergedError, MachineError
from keras_pipeline.data.splits import Split
from keras_pipeline.data.statistics import Statistics, read_statistics
from keras_pipeline.data.task_spec import TaskSpec, task_spec_from
from keras_pipeline.distribution import strategies
from keras_pipeline.distribution.strategies import Distribution, Plan
from keras_pipeline.models import architectures, frameworks
from keras_pipeline.records import provenance, record
from keras_pipeline.records.record import RunRecord, write_record
from keras_pipeline.training.checkpoints import Checkpoints

if TYPE_CHECKING:
    import keras

    from keras_pipeline.training.batches import Data
    from keras_pipeline.training.fit import FitHooks, NotFiniteError, Progress
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
    needed, available = least_memory(params, shape, plan.batch_size), frameworks.memory_limit()
    needed_anyway = least_memory(params, shape, params.train.replicas)
    if needed > available:
        weights = layers.weight_count(architectures.hidden_layers(params.model), shape)
        smaller = ", or a smaller train.batch_size" if needed_anyway <= available else ""
        raise MachineError(
            f"params.yaml: model: a training step needs at least {needed / 1e9:.1f} GB of memory "
            f"({weights:,} weights, batches of {plan.batch_size}), this machine lets it have "
            f"{available / 1e9:.1f} GB. Use fewer units, filters or layers{smaller}."
        )
    return plan, statistics


def _made_with(params: Params, statistics: Statistics, normalized: Path) -> None:
    made = {"fetch.dataset": statistics["dataset"]}
    made |= {f"normalize.{key}": value for key, value in statistics["normalize"].items()}
    asked = provenance.flat_params({"fetch": params.fetch, "normalize": params.normalize})
    for key, value in asked.items():
        if made.get(key) != value:
            raise DataError(
                f"{normalized}: made with {key}: {made.get(key)}, the params say {value}. Run `dvc repro normalize`."
            )


def least_memory(params: Params, shape: layers.Shape, batch_size: int) -> int:
    """The bytes that a training step of so many inputs of this shape needs at least."""
    return layers.training_memory(architectures.hidden_layers(params.model), shape, batch_size)


@dataclass(frozen=True)
class Prepared:
    """A compiled network on its devices, with the batches it will see; `run` is the record of its training."""

    params: Params
    plan: Plan
    strategy: Distribution
    data: "Data"
    model: "keras.Sequential"
    run: RunRecord

    @property
    def task_spec(self) -> TaskSpec:
        """What the network is to learn."""
        return task_spec_from(self.run["dataset"])

    def fit(
        self,
        train: Train,
        hooks: "FitHooks",
        progress: "Progress",
        state: "TrainingState | None" = None,
        strategy: Distribution | None = None,
    ) -> None:
        """As `fit.fit_network`, on `strategy` if given; the record is told the time it took."""
        from keras_pipeline.training import fit

        began = time.monotonic() - progress.seconds
        try:
            with process.time_part("train"):
                fit.fit_network(self.model, strategy or self.strategy, self.data, train, hooks, progress, state)
        finally:
            self.run["ended"], self.run["train_seconds"] = time.time(), time.monotonic() - began

    def explained(self, fault: "NotFiniteError", kept: Checkpoints | None) -> DivergedError:
        """The fault of `fit` with its cause, which is looked for from the checkpoints `kept`, and told the record."""
        from keras_pipeline.training import divergence

        self.run["diverged"] = fault.received  # all that is known, should the search be interrupted
        found = divergence.explain_divergence(fault, kept, self._build, self.strategy, self.data, self.params.train)
        self.run["diverged"] = found.cause
        return DivergedError(found.message)

    def _build(self, train: Train, strategy: Distribution) -> "keras.Sequential":
        return _new_network(self.params, train, strategy, self.data, self.run)

    def summary(self) -> Iterator[str]:
        """What will be trained, on what, and what of it is worth a second look: a line each."""
        images, where, precision = self.run["dataset"]["images"], self.run["strategy"], self.params.train.precision
        asked = self.task_spec
        needed = least_memory(self.params, asked.shape, where["batch_per_replica"])
        yield (
            f"train: {self.params.model.architecture}, {self.run['weights']:,} weights, at least "
            f"{needed / 1e6:.0f} MB a replica; {images['train']:,} training and {images['validation']:,} validation "
            f"{TASKS[asked.task].things} of {self.run['dataset']['dataset']}"
        )
        several = where["replicas"] > 1
        share = f", {where['batch_per_replica']} on each of {where['replicas']} replicas" if several else ""
        of_each = " of each worker" if where["workers"] > 1 else ""
        yield (
            f"train: {where['backend']}, strategy {where['name']} on {', '.join(where['devices'])}{of_each}; "
            f"batches of {self.plan.batch_size}{share}"
        )
        if self.data.deformation:
            yield "train: every training image is deformed anew each time it is seen (train.augmentation)"
        if where["fused"]:
            yield "train: many steps run as one compiled program (train.fused); the first takes some seconds to compile"
        if several and architectures.has_batch_normalization(self.params.model):
            yield f"train: BatchNormalization's statistics: {where['batch_statistics']}"
        elif several:
            yield "train: no BatchNormalization in this network, so train.batch_statistics changes nothing"
        if self.strategy.asked:
            yield (
                f"train: {self.strategy.asked} was asked for and is not there; "
                "one device trains instead, as params.yaml allows"
            )
        if precision != "float32" and where["devices"][0].startswith("/cpu"):
            yield f"train: {precision} is slower than float32 on a CPU, and less exact"
        if self.run["resumed"]:
            yield f"train: {self._going_on()}, in the same run"

    def _going_on(self) -> str:
        from keras_pipeline.training import fit

        position = self.run["resumed"][-1]
        if position == "epoch 1 step 1":
            return "begins again, because it ended before its first checkpoint"
        if fit.finished(self.run["history"], self.params.train):
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


def prepare_training(
    params: Params, plan: Plan, strategy: Distribution, splits: list[Split], run: RunRecord
) -> Prepared:
    """The network with its first weights on the opened devices; the record `run` is told what it is and where.

    `splits`: training and validation.
    """
    from keras_pipeline.training import augmentation, batches
    from keras_pipeline.training.engines import fused

    classes = task_spec_from(run["dataset"]).classes
    weights = batches.class_weights(splits[0].targets, classes, params.train.class_weights)
    deformation = augmentation.deformation_for(params.train.augmentation, params.seed, run["dataset"]["scaling"])
    data = batches.Data(splits[0], splits[1], weights, params.seed, plan.batch_size, plan.validation_batch, deformation)
    model = _new_network(params, params.train, strategy, data, run)
    run["strategy"] = record.describe_strategy(
        plan,
        strategy,
        statistics=architectures.has_batch_normalization(params.model),
        fused=fused.can_fuse(model, strategy, data),
    )
    run["weights"] = model.count_params()
    return Prepared(params, plan, strategy, data, model, run)


def _new_network(
    params: Params, train: Train, strategy: Distribution, data: "Data", run: RunRecord
) -> "keras.Sequential":
    from keras_pipeline.training import compilation

    with process.time_part("build"):
        return compilation.new_network(
            params.model, train, params.seed, strategy, data.steps, task_spec_from(run["dataset"])
        )

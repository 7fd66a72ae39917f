"""A training made ready to begin: the checks before it, its network on its devices, what the user is told of it."""

import csv
import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_pipeline import architectures, distribution, files, layers, memory, provenance, record, spent
from keras_pipeline.checkpoints import Checkpoints
from keras_pipeline.distribution import Distribution, Plan
from keras_pipeline.errors import DataError, DivergedError, MachineError
from keras_pipeline.params import Params, Train
from keras_pipeline.preprocessing import STATISTICS, Question, Split, question
from keras_pipeline.tasks import TASKS

if TYPE_CHECKING:
    import keras

    from keras_pipeline.fitting import NotFiniteError, Progress, Watcher
    from keras_pipeline.training import Data
    from keras_pipeline.training_state import State


def check(params: Params, normalized: Path) -> tuple[Plan, dict[str, Any]]:
    """Every check that needs no framework: what will train, and the statistics of what it will train on.

    Raises DataError where the arrays were made with other params, what `distribution.plan` raises, and MachineError
    when a training step cannot fit into this machine's memory by the least estimate.
    """
    keys = (*STATISTICS, "normalize")
    statistics = files.read_json(normalized / "statistics.json", written_by="normalize", keys=keys)
    _made_with(params, statistics, normalized)
    plan = distribution.plan(params.train, statistics["images"], os.environ)
    shape = question(statistics).shape
    needed, available = least_memory(params, shape, plan.batch_size), memory.limit()
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


def _made_with(params: Params, statistics: dict[str, Any], normalized: Path) -> None:
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
    place: Distribution
    data: "Data"
    model: "keras.Sequential"
    run: dict[str, Any]

    @property
    def question(self) -> Question:
        """What the network is to learn."""
        return question(self.run["dataset"])

    def fit(
        self,
        train: Train,
        watcher: "Watcher",
        progress: "Progress",
        state: "State | None" = None,
        place: Distribution | None = None,
    ) -> None:
        """As `fitting.fit`, on `place` if given; the record is told the time it took."""
        from keras_pipeline import fitting

        began = time.monotonic() - progress.seconds
        try:
            with spent.on("train"):
                fitting.fit(self.model, place or self.place, self.data, train, watcher, progress, state)
        finally:
            self.run.update(ended=time.time(), train_seconds=time.monotonic() - began)

    def explained(self, fault: "NotFiniteError", kept: Checkpoints | None) -> DivergedError:
        """The fault of `fit` with its cause, which is looked for from the checkpoints `kept`, and told the record."""
        from keras_pipeline import diagnosis

        self.run["diverged"] = fault.received  # all that is known, should the search be interrupted
        found = diagnosis.explain(fault, kept, self._build, self.place, self.data, self.params.train)
        self.run["diverged"] = found.cause
        return DivergedError(found.message)

    def _build(self, train: Train, place: Distribution) -> "keras.Sequential":
        return _new_network(self.params, train, place, self.data, self.run)

    def summary(self) -> Iterator[str]:
        """What will be trained, on what, and what of it is worth a second look: a line each."""
        images, where, precision = self.run["dataset"]["images"], self.run["strategy"], self.params.train.precision
        asked = self.question
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
        if several and self.params.model.batch_normalized:
            yield f"train: BatchNormalization's statistics: {where['batch_statistics']}"
        elif several:
            yield "train: no BatchNormalization in this network, so train.batch_statistics changes nothing"
        if self.place.asked:
            yield (
                f"train: {self.place.asked} was asked for and is not there; "
                "one device trains instead, as params.yaml allows"
            )
        if precision != "float32" and where["devices"][0].startswith("/cpu"):
            yield f"train: {precision} is slower than float32 on a CPU, and less exact"
        if self.run["resumed"]:
            yield f"train: {self._going_on()}, in the same run"

    def _going_on(self) -> str:
        from keras_pipeline import training

        place = self.run["resumed"][-1]
        if place == "epoch 1 step 1":
            return "begins again, because it ended before its first checkpoint"
        if training.finished(self.run["history"], self.params.train):
            return "goes on from its checkpoint after the last epoch"
        return f"goes on from its checkpoint at {place}"

    def write_history(self, path: Path) -> None:
        """All epochs as CSV, without times: the same training gives the same bytes."""
        history, text = self.run["history"], io.StringIO()
        columns = [name for name in history[0] if name != "time"]
        writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        files.write_atomically(path, text.getvalue().encode())

    def write(self, model: Path, run: Path) -> "keras.Sequential":
        """Write the trained network to `model` and then the record to `run`; the network as it is kept.

        It is one copy without strategy, optimizer, synchronized BatchNormalization or the state of random generators.
        The devices are closed.
        """
        from keras_pipeline import model_file, training

        self.run["best_epoch"] = training.best_epoch(self.run["history"], self.params.train.early_stopping)
        self.place.close()
        with spent.on("write"):
            trained = architectures.build(self.params.model, self.question.shape, self.question.outputs)
            trained.set_weights(self.model.get_weights())
            model_file.save(trained, model)
        self.run["sha256"]["model"] = files.sha256(model)
        self.run["seconds"] = spent.parts()
        files.write_json(run, self.run)
        return trained


def prepare(params: Params, plan: Plan, place: Distribution, splits: list[Split], run: dict[str, Any]) -> Prepared:
    """The network with its first weights on the opened devices; the record `run` is told what it is and where.

    `splits`: training and validation.
    """
    from keras_pipeline import augmentation, fused, training

    classes = question(run["dataset"]).classes
    weights = training.class_weights(splits[0].labels, classes, params.train.class_weights)
    deformation = augmentation.of(params.train.augmentation, params.seed, run["dataset"]["scaling"])
    data = training.Data(
        splits[0], splits[1], weights, params.seed, plan.batch_size, plan.validation_batch, deformation
    )
    model = _new_network(params, params.train, place, data, run)
    run["strategy"] = record.strategy(
        plan, place, statistics=params.model.batch_normalized, fused=fused.applies(model, place, data)
    )
    run["weights"] = model.count_params()
    return Prepared(params, plan, place, data, model, run)


def _new_network(
    params: Params, train: Train, place: Distribution, data: "Data", run: dict[str, Any]
) -> "keras.Sequential":
    from keras_pipeline import training

    with spent.on("build"):
        return training.new_network(params.model, train, params.seed, place, data.steps, question(run["dataset"]))

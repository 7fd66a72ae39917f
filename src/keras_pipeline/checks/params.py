"""params.yaml read and checked: which values do not go together, each fault with line, column, key and a way out."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, model_validator

from keras_pipeline.checks.network_fit import network_faults
from keras_pipeline.checks.numpy_limits import numpy_faults
from keras_pipeline.config import tasks
from keras_pipeline.config.layers import BatchNormalization, Shape, shapes
from keras_pipeline.config.optimizers import CLIPPINGS
from keras_pipeline.config.params import Model, Params, Train
from keras_pipeline.config.tasks import Task
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.distribution.strategies import STRATEGIES
from keras_pipeline.models.architectures import ARCHITECTURES, has_batch_normalization, hidden_layers
from keras_pipeline.sources.dataset_file import load_dataset
from keras_pipeline.sources.kinds.kind import Kind
from keras_pipeline.strict_yaml import reader
from keras_pipeline.strict_yaml.faults import KeyedError

REFUSED = {
    "central_storage": "TensorFlow's CentralStorageStrategy reports wrong losses and metrics under Keras 3 without "
    "a word. Use mirrored",
    "parameter_server": "Keras 3 cannot fit under TensorFlow's ParameterServerStrategy, and its updates are lost "
    "and differ in every run. Use multi_worker, or data_parallel with backend: jax",
    "keras_distribution": "keras.distribution trains on one device, without a word, with TensorFlow and PyTorch. "
    "Use mirrored (TensorFlow), ddp (PyTorch), or data_parallel with backend: jax, which is keras.distribution "
    "where it works",
    "distributed_data_parallel": "Keras' fit goes past the wrapper DistributedDataParallel: each process silently "
    "trains a network of its own. Use ddp, which averages the gradients in the optimizer",
}
"""Strategies that people ask for by name and that would train something else than they say: the reason, and the way
out."""

if TYPE_CHECKING:
    ArchitectureName = str
    StrategyName = str
else:
    ArchitectureName = Literal[tuple(ARCHITECTURES)]
    StrategyName = Literal[tuple(STRATEGIES)]


def _strategy(name: object) -> object:
    if isinstance(name, str) and name in REFUSED:
        raise ValueError(f"'{name}' is refused: {REFUSED[name]}.")
    return name


class CheckedTrain(Train):
    """`Train` whose values go together."""

    strategy: Annotated[StrategyName, BeforeValidator(_strategy)]

    @model_validator(mode="after")
    def _makes_sense(self) -> "CheckedTrain":
        _raise([*self._schedule_faults(), *self._precision_faults(), *self._strategy_faults(), *self._merging_faults()])
        return self

    def _schedule_faults(self) -> Iterator[KeyedError]:
        if self.schedule.name == "cosine" and self.schedule.warmup_epochs >= self.epochs:
            yield KeyedError(
                ("schedule", "warmup_epochs"),
                f"{self.schedule.warmup_epochs} leaves nothing of {self.epochs} epochs to train at the full "
                "learning rate. Expected: less than train.epochs.",
            )
        if self.schedule.name == "cosine" and self.optimizer.name == "ftrl":
            yield KeyedError(
                ("schedule", "name"),
                "'cosine' brings the learning rate to 0, by which train.optimizer.name: ftrl divides. "
                "Use constant, exponential or reduce_on_plateau, or another optimizer.",
            )

    def _precision_faults(self) -> Iterator[KeyedError]:
        if self.precision == "mixed_float16" and "loss_scale_factor" in self.optimizer.arguments():
            yield KeyedError(
                ("optimizer", "loss_scale_factor"),
                "train.precision: mixed_float16 scales the loss by factors of its own, and Keras ignores this one. "
                "Take it out, or use another precision.",
            )

    def _strategy_faults(self) -> Iterator[KeyedError]:
        row = STRATEGIES[self.strategy]
        if self.backend not in row.backends:
            because = (
                f" ({REFUSED['keras_distribution'].split('. Use')[0]})" if self.strategy == "data_parallel" else ""
            )
            yield KeyedError(
                ("strategy",),
                f"'{self.strategy}' does not work with backend {self.backend}{because}. "
                f"Use backend: {row.backends[0]}{self._other_strategies()}.",
            )
        for key, count, several in (("devices", self.devices, row.devices), ("workers", self.workers, row.workers)):
            if count > 1 and not several:
                thing = "device" if key == "devices" else "process"
                yield KeyedError(
                    (key,),
                    f"strategy '{self.strategy}' trains on one {thing}, not on {count}. "
                    f"Use {key}: 1{self._other_strategies()}.",
                )
        if isinstance(self.batch_size, int) and self.batch_size % self.replicas:
            multiple = max(self.replicas, self.batch_size - self.batch_size % self.replicas)
            yield KeyedError(
                ("batch_size",),
                f"{self.batch_size} is the global batch and cannot be shared evenly by {self.replicas} replicas. "
                f"Use a multiple of {self.replicas}, such as {multiple}.",
            )

    def _merging_faults(self) -> Iterator[KeyedError]:
        """What Keras' optimizer cannot do, or does to each replica's share, where gradients are merged in its step."""
        given = self.optimizer.arguments()
        if not STRATEGIES[self.strategy].merges_gradients:
            return
        several = self.replicas > 1
        other = "train.backend: jax with train.strategy: data_parallel" if several else "train.strategy: none"
        way_out = f"Take it out, or use {other}."
        for key in ("gradient_accumulation_steps", *(["ema_overwrite_frequency"] if given.get("use_ema") else [])):
            if key in given:
                yield KeyedError(
                    ("optimizer", key),
                    f"Keras cannot do this with strategy '{self.strategy}', where TensorFlow adds up gradients inside "
                    f"of the optimizer's step. {way_out}",
                )
        for key in CLIPPINGS if several else ():
            if key in given:
                yield KeyedError(
                    ("optimizer", key),
                    f"with strategy '{self.strategy}' each replica clips the gradients of its own share of a batch, "
                    f"which is not what one device does. {way_out}",
                )

    def _other_strategies(self) -> str:
        """Those that train with this backend on so many devices and workers, as the end of an advice."""
        possible = [
            name
            for name, row in STRATEGIES.items()
            if self.backend in row.backends
            and (row.devices or self.devices == 1)
            and (row.workers or self.workers == 1)
        ]
        return f", or strategy: {' or '.join(possible)}" if possible else ""


class CheckedModel(Model):
    """`Model` with an architecture that there is."""

    architecture: ArchitectureName


class CheckedParams(Params):
    """`Params` whose values go together."""

    model: CheckedModel
    train: CheckedTrain

    @property
    def task(self) -> Task:
        """What the network is to learn: a number, one class against the rest, or the choice of a class."""
        return tasks.select_task(load_dataset(self.fetch.dataset).classes, self.normalize.positive_class)

    @model_validator(mode="after")
    def _blocks_fit(self) -> "CheckedParams":
        of_the_engine = numpy_faults(self) if self.train.engine == "numpy" else ()
        try:
            dataset = load_dataset(self.fetch.dataset)
        except ParamsError as error:  # of its file each fault has its place there
            *lines, _ = str(error).splitlines()
            of_the_dataset = [KeyedError(("fetch", "dataset"), line) for line in lines]
        else:
            of_the_dataset = list(self._dataset_faults(dataset))
        _raise([*of_the_dataset, *self._batch_statistics_faults(), *of_the_engine])
        return self

    def _dataset_faults(self, dataset: Kind) -> Iterator[KeyedError]:
        """What does not go with the dataset."""
        yield from network_faults(self.model, dataset.input_shape)
        yield from self._positive_class_faults(dataset)
        yield from self._task_faults(tasks.select_task(dataset.classes, self.normalize.positive_class))
        if not dataset.classes:
            yield from self._number_faults()
        yield from (
            self._table_faults() if dataset.is_table else self.train.augmentation.size_faults(dataset.input_shape)
        )
        yield from self._size_faults(dataset)

    def _task_faults(self, task: Task) -> Iterator[KeyedError]:
        """The network and its loss, as the row of the task has them."""
        model = self.model
        architectures = [name for name in ARCHITECTURES if name not in task.unsuitable_architectures]
        for key, value, known, allowed in (
            (("model", "architecture"), model.architecture, architectures, architectures),
            (
                ("model", "output_activation"),
                model.output_activation,
                task.output_activations,
                task.output_activations_for(self.train.loss),
            ),
            (("train", "loss"), self.train.loss, task.losses, task.losses_for(model.output_activation)),
        ):
            if value not in known:
                yield KeyedError(key, f"'{value}' does not fit {task.description}. Use {' or '.join(allowed)}.")
        pair = self.train.loss, model.output_activation
        if pair in tasks.WRONG_PAIRS and task.name == "classes":
            yield KeyedError(("model", "output_activation"), tasks.WRONG_PAIRS[pair])

    def _positive_class_faults(self, dataset: Kind) -> Iterator[KeyedError]:
        """A class that the dataset does not have."""
        try:
            if dataset.classes:
                tasks.find_class(dataset.classes, self.normalize.positive_class)
        except ValueError as error:
            yield KeyedError(("normalize", "positive_class"), str(error))

    def _number_faults(self) -> Iterator[KeyedError]:
        """What is of classes, where there are none."""
        data, train = f"the dataset '{self.fetch.dataset}'", self.train
        if self.normalize.positive_class != "none":
            message = f"{data} has no classes: a number is predicted. Use none, or a dataset with classes."
            yield KeyedError(("normalize", "positive_class"), message)
        if train.early_stopping.monitor == "val/accuracy":
            message = f"a number is predicted from {data}, and none is right or wrong. Use val/loss."
            yield KeyedError(("train", "early_stopping", "monitor"), message)
        if train.class_weights != "none":
            yield KeyedError(("train", "class_weights"), f"{data} has no classes. Use none.")

    def _table_faults(self) -> Iterator[KeyedError]:
        """What is of images, where there are none."""
        data = f"the dataset '{self.fetch.dataset}'"
        if self.train.augmentation.on:
            message = (
                f"images are deformed, and {data} is a table. Use 0 for shift, rotation, scale and elastic, and "
                "horizontal_flip: false."
            )
            yield KeyedError(("train", "augmentation"), message)

        if "litert_int8" in self.export.formats:
            yield KeyedError(
                ("export", "formats", self.export.formats.index("litert_int8")),
                f"'litert_int8' has one scale of 256 steps for all columns of a table, and {data} is one. Use "
                "litert_dynamic_int8.",
            )

    def _batch_statistics_faults(self) -> Iterator[KeyedError]:
        possible = STRATEGIES[self.train.strategy].statistics
        if (
            self.train.replicas > 1
            and has_batch_normalization(self.model)
            and self.train.batch_statistics not in possible
        ):
            yield KeyedError(
                ("train", "batch_statistics"),
                f"'{self.train.batch_statistics}' does not work with strategy '{self.train.strategy}'. "
                f"Use {possible[0]}, or a network without BatchNormalization.",
            )

    def _size_faults(self, dataset: Kind) -> Iterator[KeyedError]:
        """What the size of the dataset makes impossible, where its file tells it; else the stages find it."""
        if dataset.counts is None or dataset.counts.validation:
            return
        count, asked = dataset.counts.train, self.normalize.training_images
        of_the_split = list(self.normalize.size_faults(count, len(dataset.classes) or 1))
        images = self.normalize.left(count) if asked == "all" or of_the_split else asked
        of_the_training = list(self.train.size_faults(images))
        yield from (*of_the_split, *of_the_training)
        if not of_the_training:
            yield from self._lone_image_faults(images, dataset.input_shape)

    def _lone_image_faults(self, images: int, shape: Shape) -> Iterator[KeyedError]:
        """A batch, or its share on a replica, of one image, where BatchNormalization takes a variance over it: all that
        it lets through is then 0, whatever the weights before it."""
        train, asked = self.train, self.train.batch_size
        if not _normalizes_over_images(self.model, shape) or train.engine == "numpy":
            return

        def least(size: int, shared_by: int) -> int:
            return min(size, images % size or size) // shared_by

        shared_by = train.replicas if train.batch_statistics == "per_replica" else 1
        size = train.images_a_step(images)
        if least(size, shared_by) > 1:
            return
        what = "the last batch has" if size // shared_by > 1 else "a batch has"
        on_each = " on each replica" if shared_by > 1 else ""
        others = sorted(range(train.replicas, images + 1, train.replicas), key=lambda one: (abs(one - size), -one))
        better = next((str(one) for one in others if least(one, shared_by) > 1), "")
        if not better and shared_by > 1 and "synchronized" in STRATEGIES[train.strategy].statistics:
            better = "train.batch_statistics: synchronized"
        yield KeyedError(
            ("train", "batch_size"),
            f"{asked} of {images} training images: {what} one image{on_each}, and over one image BatchNormalization "
            f"finds no variance. Use {f'{better}, or ' if better else ''}a network without BatchNormalization.",
        )


def _normalizes_over_images(model: Model, shape: Shape) -> bool:
    """Whether a BatchNormalization has one value an image and channel, not a whole map of them."""
    try:
        hidden = hidden_layers(model)
        given = shapes(hidden, shape)
    except (KeyError, ValueError):  # told elsewhere
        return False
    return any(
        isinstance(layer, BatchNormalization) and math.prod(before[:-1]) == 1
        for layer, before in zip(hidden, given, strict=False)
    )


def _raise(faults: list[KeyedError]) -> None:
    """Raise all of them as one, if there are any."""
    if faults:
        raise KeyedError(faults[0].key, str(faults[0]), *faults[1:])


def load_params(path: Path) -> Params:
    """The params in a file. Raises ParamsError naming every fault with file, line, column and key."""
    return reader.load_yaml(path, CheckedParams)


def with_workers(params: Params, count: int) -> Params:
    """The same params with another number of workers. Raises ParamsError where that does not work."""
    values = params.model_dump(exclude_unset=True, mode="json")
    values["train"]["workers"] = count
    return reader.parse_yaml(json.dumps(values, indent=1).encode(), "params.yaml with --workers", CheckedParams)

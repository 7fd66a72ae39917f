"""params.yaml as frozen, typed, range-checked values; the only place that knows what is allowed.

No default lives here: params.yaml holds every value, and a missing one is an error. `load` raises
ParamsError with every fault of the file at once, each with line, column and key.
"""

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from keras_pipeline import strict_yaml, tasks
from keras_pipeline.datasets import DATASETS
from keras_pipeline.engines import Engine, numpy_faults
from keras_pipeline.errors import ParamsError
from keras_pipeline.layers import L2, Activation, AnyLayer, BatchNormalization, Rate, Shape, Units
from keras_pipeline.optimizers import CLIPPINGS, AnyOptimizer
from keras_pipeline.strategies import REFUSED, STRATEGIES, Backend, BatchStatistics
from keras_pipeline.strict_yaml import Block, KeyedError
from keras_pipeline.tasks import Task

LEAST_TRAINING_IMAGES = 10


class Fetch(Block):
    """Which data."""

    dataset: Literal["mnist", "fashion_mnist", "kmnist", "digits", "line", "diabetes"]


class Normalize(Block):
    """What is asked of the data, and how they are split and scaled."""

    positive_class: Annotated[int, Field(ge=0, le=9)] | Literal["none"]

    split_seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    validation_share: Annotated[float, Field(ge=0.01, le=0.5)]
    training_images: Annotated[int, Field(ge=LEAST_TRAINING_IMAGES, le=100_000_000)] | Literal["all"]
    scaling: Literal["none", "unit", "symmetric", "standard"]

    def left(self, count: int) -> int:
        """How many of a training file's `count` images `preprocessing.stratified_split` does not hold out."""
        return count - round(count * self.validation_share)

    def size_faults(self, count: int) -> Iterator[KeyedError]:
        """What is asked of a training file of `count` images that has not as many."""
        left = self.left(count)
        if self.training_images != "all" and self.training_images > left:
            yield KeyedError(
                ("normalize", "training_images"),
                f"{self.training_images}, but of {count:,} in the training file {left:,} are left beside those for "
                f"validation. Use {left} at most, or all.",
            )


class Model(Block):
    """The network. Which keys an architecture uses is said in params.yaml; the others wait for theirs."""

    architecture: Literal["softmax_regression", "mlp", "cnn", "layers"]
    hidden_units: Annotated[tuple[Units, ...], Field(max_length=100)]
    filters: Annotated[tuple[Units, ...], Field(min_length=1, max_length=4)]
    activation: Activation
    dropout: Rate
    batch_normalization: bool
    l2: L2
    output_activation: Literal["softmax", "sigmoid", "linear"]
    layers: Annotated[tuple[AnyLayer, ...], Field(max_length=100)]

    @property
    def batch_normalized(self) -> bool:
        """Whether the network has a BatchNormalization."""
        if self.architecture == "layers":
            return any(isinstance(layer, BatchNormalization) for layer in self.layers)
        hidden = self.hidden_units or self.architecture == "cnn"
        return self.batch_normalization and self.architecture != "softmax_regression" and bool(hidden)

    def layer_faults(self, shape: Shape) -> Iterator[KeyedError]:
        """Why the list of layers cannot take an input of this shape, if it cannot."""
        for index, layer in enumerate(self.layers):
            try:
                shape = layer.output_shape(shape)
            except ValueError as error:
                yield KeyedError(("model", "layers", index), str(error))
                return
        if self.architecture == "layers" and len(shape) != 1:
            received = f"the last layer gives {' × '.join(map(str, shape))}" if self.layers else "the list is empty"
            yield KeyedError(
                ("model", "layers"),
                f"{received}, but the output layer, which the pipeline "
                "adds, needs a flat input. End the list with {layer: Flatten} or {layer: GlobalAveragePooling2D}.",
            )


class Schedule(Block):
    """How the learning rate moves; each name uses the keys that params.yaml says it does."""

    name: Literal["constant", "cosine", "exponential", "reduce_on_plateau"]
    warmup_epochs: Annotated[int, Field(ge=0, le=10_000)]
    decay_rate: Annotated[float, Field(gt=0, le=1)]
    factor: Annotated[float, Field(gt=0, lt=1)]
    patience: Annotated[int, Field(ge=1, le=10_000)]


class EarlyStopping(Block):
    """When training ends before its last epoch; `patience` 0 turns it off."""

    monitor: Literal["val/loss", "val/accuracy"]
    patience: Annotated[int, Field(ge=0, le=10_000)]


class Augmentation(Block):
    """How far training images are deformed, anew each time they are seen; `augmentation.Deformation` says by what."""

    shift: Annotated[float, Field(ge=0, le=14)]
    rotation: Annotated[float, Field(ge=0, le=180)]
    scale: Annotated[float, Field(ge=0, le=0.9)]
    elastic: Annotated[float, Field(ge=0, le=10)]
    smoothness: Annotated[float, Field(ge=1.5, le=14)]

    @property
    def on(self) -> bool:
        """Whether anything is done at all."""
        return self != self.off()

    def off(self) -> "Augmentation":
        """The same with nothing done."""
        return self.model_copy(update=dict.fromkeys(("shift", "rotation", "scale", "elastic"), 0.0))


def _raise(faults: list[KeyedError]) -> None:
    """Raise all of them as one, if there are any."""
    if faults:
        raise KeyedError(faults[0].key, str(faults[0]), *faults[1:])


def _strategy(name: object) -> object:
    if isinstance(name, str) and name in REFUSED:
        raise ValueError(f"'{name}' is refused: {REFUSED[name]}.")
    return name


class Train(Block):
    """How the network is trained."""

    epochs: Annotated[int, Field(ge=1, le=10_000)]
    batch_size: Annotated[int, Field(ge=1, le=65536)] | Literal["full"]
    loss: Literal["categorical_crossentropy", "binary_crossentropy", "mean_squared_error", "mean_absolute_error"]
    optimizer: AnyOptimizer
    schedule: Schedule
    early_stopping: EarlyStopping
    class_weights: Literal["none", "balanced"]
    augmentation: Augmentation
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"]
    engine: Engine
    backend: Backend
    strategy: Annotated[
        Literal["none", "one_device", "mirrored", "multi_worker", "data_parallel", "ddp", "tpu"],
        BeforeValidator(_strategy),
    ]
    devices: Annotated[int, Field(ge=1, le=64)]
    workers: Annotated[int, Field(ge=1, le=64)]
    device_type: Literal["auto", "cpu", "gpu"]
    missing_devices: Literal["error", "single"]
    batch_statistics: BatchStatistics
    reproducibility: Literal["fast", "seeded", "deterministic"]
    checkpoint_steps: Annotated[int, Field(ge=0, le=1_000_000)]
    fused: bool

    @property
    def replicas(self) -> int:
        """How many copies of the network train together."""
        return self.devices * self.workers

    @property
    def computed_by(self) -> str:
        """What computes the steps: numpy, or Keras' backend."""
        return "numpy" if self.engine == "numpy" else self.backend

    @model_validator(mode="after")
    def _makes_sense(self) -> "Train":
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
        if self.batch_size != "full" and self.batch_size % self.replicas:
            multiple = max(self.replicas, self.batch_size - self.batch_size % self.replicas)
            yield KeyedError(
                ("batch_size",),
                f"{self.batch_size} is the global batch and cannot be shared evenly by {self.replicas} replicas. "
                f"Use a multiple of {self.replicas}, such as {multiple}.",
            )

    def _merging_faults(self) -> Iterator[KeyedError]:
        """What Keras' optimizer cannot do, or does to each replica's share, where gradients are merged in its step."""
        given = self.optimizer.arguments()
        if not STRATEGIES[self.strategy].merges:
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

    def size_faults(self, images: int) -> Iterator[KeyedError]:
        """What cannot be done with so many training images; the keys are those of all params."""
        even = images - images % self.replicas
        if self.batch_size != "full" and self.batch_size > images:
            most = f"{even} at most, or full" if even else "full"
            yield KeyedError(
                ("train", "batch_size"), f"{self.batch_size} is more than the {images} training images. Use {most}."
            )
        if even != images:
            ways = [f"normalize.training_images: {even}"] if even >= LEAST_TRAINING_IMAGES else []
            yield KeyedError(
                ("train", "strategy"),
                f"the last batch of {images} training images cannot be shared evenly by {self.replicas} replicas, and "
                "Keras would report a loss that weighs unequal shares alike. "
                f"Use {', or '.join([*ways, *self._fewer_replicas(images)])}.",
            )
        steps = self.epochs * -(-images // (images if self.batch_size == "full" else self.batch_size))
        gathered = self.optimizer.arguments().get("gradient_accumulation_steps", 1)
        if gathered > steps:
            most = f"Use {steps} at most" if steps > 1 else "Take it out"
            yield KeyedError(
                ("train", "optimizer", "gradient_accumulation_steps"),
                f"no weight moves before step {gathered}, and the training has {steps} of them. "
                f"{most}, or more train.epochs.",
            )

    def _fewer_replicas(self, images: int) -> Iterator[str]:
        """The most devices, and the most workers, fewer than now, by which training images and batches divide."""
        whole = images if self.batch_size == "full" else math.gcd(images, self.batch_size)
        for key in ("devices", "workers"):
            count = getattr(self, key)
            others = self.replicas // count
            if fewer := [one for one in range(1, count) if whole % (one * others) == 0]:
                yield f"train.{key}: {fewer[-1]}"


class Evaluate(Block):
    """What is reported."""

    calibration_bins: Annotated[int, Field(ge=2, le=100)]
    worst_mistakes: Annotated[int, Field(ge=1, le=100)]


class Tracking(Block):
    """Where MLflow keeps the run."""

    experiment: Annotated[
        str,
        Field(
            pattern=r"\A[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}\z",
            description="letters, digits, space, dot, dash and underscore, 100 at most",
        ),
    ]


class Params(Block):
    """The whole of params.yaml."""

    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    fetch: Fetch
    normalize: Normalize
    model: Model
    train: Train
    evaluate: Evaluate
    tracking: Tracking

    @property
    def task(self) -> Task:
        """What the network is to learn: a table's number, one class against the rest, or the choice of a class."""
        return tasks.of(DATASETS[self.fetch.dataset].class_names, self.normalize.positive_class)

    @model_validator(mode="after")
    def _blocks_fit(self) -> "Params":
        of_the_engine = numpy_faults(self) if self.train.engine == "numpy" else ()
        faults = [
            *self.model.layer_faults(DATASETS[self.fetch.dataset].shape),
            *self._task_faults(),
            *self._regression_faults(),
            *self._batch_statistics_faults(),
            *of_the_engine,
            *self._size_faults(),
        ]
        _raise(faults)
        return self

    def _task_faults(self) -> Iterator[KeyedError]:
        """The network and its loss, as the row of the task has them."""
        model, task = self.model, self.task
        for key, value, known, allowed in (
            (("model", "architecture"), model.architecture, task.architectures, task.architectures),
            (
                ("model", "output_activation"),
                model.output_activation,
                task.output_activations,
                task.output_activations_for(self.train.loss),
            ),
            (("train", "loss"), self.train.loss, task.losses, task.losses_for(model.output_activation)),
        ):
            if value not in known:
                yield KeyedError(key, f"'{value}' does not fit {task.asked}. Use {' or '.join(allowed)}.")
        pair = self.train.loss, model.output_activation
        if pair in tasks.WRONG_PAIRS and task.name == "classes":
            yield KeyedError(("model", "output_activation"), tasks.WRONG_PAIRS[pair])

    def _regression_faults(self) -> Iterator[KeyedError]:
        """What is of classes or images, where there are none."""
        if self.task.name != "regression":
            return
        data, train = f"the dataset '{self.fetch.dataset}'", self.train
        if self.normalize.positive_class != "none":
            message = f"{data} has no classes: a number is predicted. Use none, or a dataset of images."
            yield KeyedError(("normalize", "positive_class"), message)
        if train.early_stopping.monitor == "val/accuracy":
            message = f"a number is predicted from {data}, and none is right or wrong. Use val/loss."
            yield KeyedError(("train", "early_stopping", "monitor"), message)
        if train.class_weights != "none":
            yield KeyedError(("train", "class_weights"), f"{data} has no classes. Use none.")
        if train.augmentation.on:
            message = f"images are deformed, and {data} is a table. Use 0 for shift, rotation, scale and elastic."
            yield KeyedError(("train", "augmentation"), message)

    def _batch_statistics_faults(self) -> Iterator[KeyedError]:
        possible = STRATEGIES[self.train.strategy].statistics
        if self.train.replicas > 1 and self.model.batch_normalized and self.train.batch_statistics not in possible:
            yield KeyedError(
                ("train", "batch_statistics"),
                f"'{self.train.batch_statistics}' does not work with strategy '{self.train.strategy}'. "
                f"Use {possible[0]}, or a network without BatchNormalization.",
            )

    def _size_faults(self) -> Iterator[KeyedError]:
        """What the size of the dataset makes impossible, before anything is fetched."""
        count = DATASETS[self.fetch.dataset].train_count
        too_many = list(self.normalize.size_faults(count))
        yield from too_many
        asked = self.normalize.training_images
        yield from self.train.size_faults(self.normalize.left(count) if asked == "all" or too_many else asked)


def refuse(faults: Iterable[KeyedError]) -> None:
    """Raise a ParamsError that names them all, if there are any: what a stage finds in its data and not in the file."""
    if lines := [f"params.yaml: {'.'.join(map(str, fault.key))}: {fault}" for fault in faults]:
        raise ParamsError("\n".join(lines))


def load(path: Path) -> Params:
    """The params in a file. Raises ParamsError naming every fault with file, line, column and key."""
    return strict_yaml.load(path, Params)


def with_workers(params: Params, count: int) -> Params:
    """The same params with another number of workers. Raises ParamsError where that does not work."""
    values = params.model_dump(exclude_unset=True, mode="json")
    values["train"]["workers"] = count
    return strict_yaml.loads(json.dumps(values, indent=1).encode(), "params.yaml with --workers", Params)


def flat(block: Block, prefix: str = "") -> Iterator[tuple[str, int | float | bool | str]]:
    """Every value with its dotted key (`train.optimizer.name`); a list as compact JSON text.

    Optional keys that were left out of the file are left out here.
    """
    for key in type(block).model_fields:
        value = getattr(block, key)
        if key not in block.model_fields_set:
            continue
        if isinstance(value, Block):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, tuple):
            items = [one.model_dump(exclude_unset=True) if isinstance(one, Block) else one for one in value]
            yield f"{prefix}{key}", json.dumps(items)
        else:
            yield f"{prefix}{key}", value

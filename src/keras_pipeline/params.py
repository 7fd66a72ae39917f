"""params.yaml as frozen, typed, range-checked values; the only place that knows what is allowed.

No default lives here: params.yaml holds every value, and a missing one is an error. `load` raises
ParamsError with every fault of the file at once, each with line, column and key.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from keras_pipeline import strict_yaml
from keras_pipeline.layers import L2, Activation, AnyLayer, BatchNormalization, Rate, Shape, Units
from keras_pipeline.optimizers import AnyOptimizer
from keras_pipeline.strategies import REFUSED, STRATEGIES, Backend, BatchStatistics
from keras_pipeline.strict_yaml import Block, KeyedError

IMAGE_SHAPE = (28, 28, 1)
"""What every dataset is brought to: height, width, channels."""


class Fetch(Block):
    """Which images."""

    dataset: Literal["mnist", "fashion_mnist", "kmnist", "digits"]


class Normalize(Block):
    """How the images are split and scaled."""

    split_seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    validation_share: Annotated[float, Field(ge=0.01, le=0.5)]
    training_images: Annotated[int, Field(ge=10, le=100_000_000)] | Literal["all"]
    scaling: Literal["none", "unit", "symmetric", "standard"]


class Model(Block):
    """The network. Which keys an architecture uses is said in params.yaml; the others wait for theirs."""

    architecture: Literal["softmax_regression", "mlp", "cnn", "layers"]
    hidden_units: Annotated[tuple[Units, ...], Field(max_length=100)]
    filters: Annotated[tuple[Units, ...], Field(min_length=1, max_length=4)]
    activation: Activation
    dropout: Rate
    batch_normalization: bool
    l2: L2
    output_activation: Literal["softmax", "sigmoid"]
    layers: Annotated[tuple[AnyLayer, ...], Field(max_length=100)]

    @property
    def batch_normalized(self) -> bool:
        """Whether the network has a BatchNormalization."""
        if self.architecture == "layers":
            return any(isinstance(layer, BatchNormalization) for layer in self.layers)
        hidden = self.hidden_units or self.architecture == "cnn"
        return self.batch_normalization and self.architecture != "softmax_regression" and bool(hidden)

    @model_validator(mode="after")
    def _layers_fit(self) -> "Model":
        shape: Shape = IMAGE_SHAPE
        for index, layer in enumerate(self.layers):
            try:
                shape = layer.output_shape(shape)
            except ValueError as error:
                raise KeyedError(("layers", index), str(error)) from None
        if self.architecture == "layers" and len(shape) != 1:
            received = f"the last layer gives {' × '.join(map(str, shape))}" if self.layers else "the list is empty"
            raise KeyedError(
                ("layers",),
                f"{received}, but the output layer, which the pipeline "
                "adds, needs a flat input. End the list with {layer: Flatten} or {layer: GlobalAveragePooling2D}.",
            )
        return self


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


def _strategy(name: object) -> object:
    if isinstance(name, str) and name in REFUSED:
        raise ValueError(f"'{name}' is refused: {REFUSED[name]}.")
    return name


class Train(Block):
    """How the network is trained."""

    epochs: Annotated[int, Field(ge=1, le=10_000)]
    batch_size: Annotated[int, Field(ge=1, le=65536)] | Literal["full"]
    loss: Literal["categorical_crossentropy", "mean_squared_error", "mean_absolute_error"]
    optimizer: AnyOptimizer
    schedule: Schedule
    early_stopping: EarlyStopping
    class_weights: Literal["none", "balanced"]
    augmentation: Augmentation
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"]
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

    @model_validator(mode="after")
    def _makes_sense(self) -> "Train":
        faults = [*self._schedule_faults(), *self._strategy_faults()]
        if faults:
            raise KeyedError(faults[0].key, str(faults[0]), *faults[1:])
        return self

    def _schedule_faults(self) -> Iterator[KeyedError]:
        if self.schedule.name == "cosine" and self.schedule.warmup_epochs >= self.epochs:
            yield KeyedError(
                ("schedule", "warmup_epochs"),
                f"{self.schedule.warmup_epochs} leaves nothing of {self.epochs} epochs to train at the full "
                "learning rate. Expected: less than train.epochs.",
            )

    def _strategy_faults(self) -> Iterator[KeyedError]:
        row = STRATEGIES[self.strategy]
        if self.backend not in row.backends:
            others = [name for name, other in STRATEGIES.items() if self.backend in other.backends]
            because = (
                f" ({REFUSED['keras_distribution'].split('. Use')[0]})" if self.strategy == "data_parallel" else ""
            )
            yield KeyedError(
                ("strategy",),
                f"'{self.strategy}' does not work with backend {self.backend}{because}. "
                f"Use backend: {row.backends[0]}, or one of the strategies {', '.join(others)}.",
            )
        for key, count, several in (("devices", self.devices, row.devices), ("workers", self.workers, row.workers)):
            if count > 1 and not several:
                others = [name for name, other in STRATEGIES.items() if getattr(other, key)]
                thing = "device" if key == "devices" else "process"
                yield KeyedError(
                    (key,),
                    f"strategy '{self.strategy}' trains on one {thing}, not on {count}. "
                    f"Use {key}: 1, or one of the strategies {', '.join(others)}.",
                )
        if self.batch_size != "full" and self.batch_size % self.replicas:
            yield KeyedError(
                ("batch_size",),
                f"{self.batch_size} is the global batch and cannot be shared evenly by {self.replicas} replicas. "
                f"Use a multiple of {self.replicas}.",
            )


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

    @model_validator(mode="after")
    def _loss_fits_the_output(self) -> "Params":
        if self.train.loss == "categorical_crossentropy" and self.model.output_activation != "softmax":
            raise KeyedError(
                ("model", "output_activation"),
                f"'{self.model.output_activation}' gives values that are no probability distribution over the "
                "classes, which train.loss: categorical_crossentropy needs. Use softmax, or another loss.",
            )
        return self

    @model_validator(mode="after")
    def _batch_statistics_fit_the_strategy(self) -> "Params":
        possible = STRATEGIES[self.train.strategy].statistics
        if self.train.replicas > 1 and self.model.batch_normalized and self.train.batch_statistics not in possible:
            raise KeyedError(
                ("train", "batch_statistics"),
                f"'{self.train.batch_statistics}' does not work with strategy '{self.train.strategy}'. "
                f"Use {possible[0]}, or a network without BatchNormalization.",
            )
        return self


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

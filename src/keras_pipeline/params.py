"""params.yaml as frozen, typed, range-checked values; the only place that knows what is allowed.

No default lives here: params.yaml holds every value, and a missing one is an error. `load` raises
ParamsError with every fault of the file at once, each with line, column and key.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from keras_pipeline import strict_yaml
from keras_pipeline.layers import L2, Activation, AnyLayer, Rate, Shape, Units
from keras_pipeline.optimizers import AnyOptimizer
from keras_pipeline.strict_yaml import Block, KeyedError

IMAGE_SHAPE = (28, 28, 1)
"""What every dataset is brought to: height, width, channels."""


class Fetch(Block):
    """Which images."""

    dataset: Literal["mnist", "fashion_mnist", "kmnist", "digits"]


class Normalize(Block):
    """How the images are split and scaled."""

    validation_share: Annotated[float, Field(ge=0.01, le=0.5)]
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


class Train(Block):
    """How the network is trained."""

    epochs: Annotated[int, Field(ge=1, le=10_000)]
    batch_size: Annotated[int, Field(ge=1, le=65536)] | Literal["full"]
    loss: Literal["categorical_crossentropy", "mean_squared_error", "mean_absolute_error"]
    optimizer: AnyOptimizer
    schedule: Schedule
    early_stopping: EarlyStopping
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"]
    strategy: Literal["none", "one_device", "mirrored"]
    devices: Annotated[int, Field(ge=1, le=64)]
    device_type: Literal["auto", "cpu", "gpu"]

    @model_validator(mode="after")
    def _makes_sense(self) -> "Train":
        if self.schedule.name == "cosine" and self.schedule.warmup_epochs >= self.epochs:
            raise KeyedError(
                ("schedule", "warmup_epochs"),
                f"{self.schedule.warmup_epochs} leaves nothing of {self.epochs} epochs to train at the full "
                "learning rate. Expected: less than train.epochs.",
            )
        if self.strategy != "mirrored" and self.devices != 1:
            raise KeyedError(
                ("devices",),
                f"strategy '{self.strategy}' trains on one device, not on {self.devices}. "
                "Use strategy: mirrored, or devices: 1.",
            )
        if self.batch_size != "full" and self.batch_size % self.devices:
            raise KeyedError(
                ("batch_size",),
                f"{self.batch_size} is the global batch and cannot be shared evenly by {self.devices} devices. "
                f"Use a multiple of {self.devices}.",
            )
        return self


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


def load(path: Path) -> Params:
    """The params in a file. Raises ParamsError naming every fault with file, line, column and key."""
    return strict_yaml.load(path, Params)


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

"""params.yaml as frozen, typed, range-checked values.

No default lives here: params.yaml holds every value, and a missing one is an error. `checks.params` reads the file, and
knows which values do not go together. The text below a field is its description, in docs/params.md and the JSON
Schemas; where only some architectures, schedules or strategies use the field, it begins with their names.
"""

import json
import math
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue

from keras_pipeline.config.layers import L2, Activation, AnyLayer, Rate, Shape, Units
from keras_pipeline.config.optimizers import AnyOptimizer
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.strict_yaml.faults import Block, KeyedError

ClassName = Annotated[
    str, Field(pattern=r"\A[^\x00-\x1f\x7f-\x9f]{1,1000}\z", description="the name of a class in one line, or none")
]
DatasetName = Annotated[
    str, Field(pattern=r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\z", description="the name of a file datasets/NAME.yaml")
]
EACH_ONCE: dict[str, JsonValue] = {"uniqueItems": True}
Backend = Literal["tensorflow", "jax", "torch"]
Engine = Literal["keras", "numpy"]
BatchStatistics = Literal["synchronized", "per_replica"]
LEAST_TRAINING_IMAGES = 10
MOST_VALIDATION = 0.5
AUTOMATIC_BATCHES = (256, 128, 64, 32, 16, 8)
MOST_PIXELS = 2048
"""Half of the longest side that an image may have; what is sensible depends on the images, see
`Augmentation.size_faults`."""


def _each_once(values: tuple[str, ...]) -> tuple[str, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"'{value}' stands there twice. Expected: each once.")
    return values


class Fetch(Block):
    """Which data."""

    dataset: DatasetName
    """datasets/NAME.yaml, which says what it is and where; digits, line and diabetes need no network"""


class Normalize(Block):
    """What is asked of the data, and how they are split and scaled."""

    positive_class: Annotated[int, Field(ge=0)] | ClassName
    """none: all classes; a class, by name or number: that one against the rest, see docs/tasks.md"""

    split_seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    """which images are held out for validation"""
    validation_share: Annotated[float, Field(ge=0.01, le=MOST_VALIDATION)]
    """of the training images, held out; the same share of every class"""
    training_images: Annotated[int, Field(ge=LEAST_TRAINING_IMAGES, le=100_000_000)] | Literal["all"]
    """how many of those that are not held out are trained on; the same share of every class"""
    scaling: Literal["none", "unit", "symmetric", "standard"]
    """to 0 … 255, to 0 … 1, to -1 … 1, or to mean 0 and deviation 1, by the training images"""

    def left(self, count: int) -> int:
        """How many of a training file's `count` images `splits.stratified_split` does not hold out."""
        return count - round(count * self.validation_share)

    def size_faults(self, count: int, classes: int, left: int | None = None) -> Iterator[KeyedError]:
        """What is asked of a training file of `count` images, of so many classes, that has not as many; `classes` is 1
        where a number is predicted. `left`: how many are not held out, where the classes do not decide that."""
        stratified, left = left is None, self.left(count) if left is None else left
        if stratified and count - left < classes:
            enough = math.ceil(100 * classes / count) / 100
            way_out = f"Use {enough:g} at least" if enough <= MOST_VALIDATION else "Use a dataset with more images"
            yield KeyedError(
                ("normalize", "validation_share"),
                f"{self.validation_share:g} of {count:,} training images are {count - left}, fewer than {classes}, one "
                f"of each class. {way_out}.",
            )
        if self.training_images != "all" and self.training_images < classes:
            yield KeyedError(
                ("normalize", "training_images"),
                f"{self.training_images}, but the dataset has {classes} classes. Use {classes} at least, or all.",
            )
        if self.training_images != "all" and self.training_images > left:
            yield KeyedError(
                ("normalize", "training_images"),
                f"{self.training_images}, but of {count:,} in the training file {left:,} are left beside those for "
                f"validation. Use {left} at most, or all.",
            )


class Model(Block):
    """The network. Which keys an architecture uses is said in params.yaml; the others wait for theirs."""

    architecture: str
    """the kind of network"""
    hidden_units: Annotated[tuple[Units, ...], Field(max_length=100)]
    """mlp, cnn: units of each dense hidden layer; [] for none"""
    filters: Annotated[tuple[Units, ...], Field(min_length=1, max_length=8)]
    """cnn: filters of each 3×3 convolution, each followed by 2×2 pooling, as often as the image can be halved"""
    global_average_pooling: bool
    """cnn: true: the mean of each filter over the image goes to the dense layers; false: its value at every place"""
    activation: Activation
    """mlp, cnn: of the hidden layers, by Keras' names"""
    dropout: Rate
    """mlp, cnn: rate after each hidden layer, half of it after pooling"""
    batch_normalization: bool
    """mlp, cnn: BatchNormalization before each hidden activation"""
    l2: L2
    """mlp, cnn: factor of the squared weights in the loss"""
    output_activation: Literal["softmax", "sigmoid", "linear"]
    """of the output layer; which fits which task is in docs/tasks.md"""
    layers: Annotated[tuple[AnyLayer, ...], Field(max_length=100)]
    """layers: the hidden layers, such as [{layer: Flatten}, {layer: Dense, units: 64}]"""


class Schedule(Block):
    """How the learning rate moves; each name uses the keys that params.yaml says it does."""

    name: Literal["constant", "cosine", "exponential", "reduce_on_plateau"]
    """how the learning rate moves"""
    warmup_epochs: Annotated[int, Field(ge=0, le=10_000)]
    """cosine: epochs from 0 to the learning rate, fewer than train.epochs"""
    decay_rate: Annotated[float, Field(gt=0, le=1)]
    """exponential: factor per epoch"""
    factor: Annotated[float, Field(gt=0, lt=1)]
    """reduce_on_plateau: by which the learning rate falls when val/loss stands still"""
    patience: Annotated[int, Field(ge=1, le=10_000)]
    """reduce_on_plateau: epochs without a better val/loss"""


class EarlyStopping(Block):
    """When training ends before its last epoch; `patience` 0 turns it off."""

    monitor: Literal["val/loss", "val/accuracy"]
    """what has to improve; val/accuracy is of classes"""
    patience: Annotated[int, Field(ge=0, le=10_000)]
    """epochs without improvement, then the best weights are kept; 0: off, the last are kept"""


class Augmentation(Block):
    """How far training images are deformed, anew each time they are seen; `augmentation.Deformation` says by what."""

    shift: Annotated[float, Field(ge=0, le=MOST_PIXELS)]
    """pixels each way, at most half of the image's smaller side; every image is deformed anew each time it is seen, see
    docs/augmentation.md"""
    rotation: Annotated[float, Field(ge=0, le=180)]
    """degrees either way, at most"""
    scale: Annotated[float, Field(ge=0, le=0.9)]
    """by which share height and width grow or shrink, at most"""
    elastic: Annotated[float, Field(ge=0, le=MOST_PIXELS)]
    """pixels, by which a pixel typically moves in a smooth random field; at most half of the smaller side"""
    smoothness: Annotated[float, Field(ge=1.5, le=MOST_PIXELS)]
    """elastic: pixels, over which neighbours move together; a twentieth to a half of the smaller side"""
    horizontal_flip: bool
    """true: half of the images are mirrored, left for right: of photographs, not of letters"""

    @property
    def on(self) -> bool:
        """Whether anything is done at all."""
        return self != self.off()

    def off(self) -> "Augmentation":
        """The same with nothing done."""
        nothing: dict[str, float | bool] = dict.fromkeys(("shift", "rotation", "scale", "elastic"), 0.0)
        return self.model_copy(update={**nothing, "horizontal_flip": False})

    def size_faults(self, shape: Shape) -> Iterator[KeyedError]:
        """What is too much for images of this shape (height, width, channels); the keys are those of all params."""
        side, shown = min(shape[:2]), f"{shape[0]} × {shape[1]}"
        most, least = side / 2, side / 20
        for key in ("shift", "elastic", *(["smoothness"] if self.elastic else [])):
            if (value := getattr(self, key)) > most:
                yield KeyedError(
                    ("train", "augmentation", key),
                    f"{value:g} pixels are more than half of the smaller side of images of {shown}. "
                    f"Use {most:g} at most.",
                )
        if self.elastic and self.smoothness < least:
            yield KeyedError(
                ("train", "augmentation", "smoothness"),
                f"{self.smoothness:g} pixels are less than a twentieth of the smaller side of images of {shown}. "
                f"Use {least:g} at least, or elastic: 0.",
            )


class Train(Block):
    """How the network is trained."""

    epochs: Annotated[int, Field(ge=1, le=10_000)]
    """at most"""
    batch_size: Annotated[int, Field(ge=1, le=65536)] | Literal["auto", "full"]
    """images a step, of all devices together; auto: 256, or of few images less; full: all of them"""
    loss: Literal["categorical_crossentropy", "binary_crossentropy", "mean_squared_error", "mean_absolute_error"]
    """what is minimized"""
    optimizer: AnyOptimizer
    """any of Keras', with its own arguments"""
    schedule: Schedule
    """of the learning rate"""
    early_stopping: EarlyStopping
    """when training ends before its last epoch"""
    class_weights: Literal["none", "balanced"]
    """balanced: rare classes count more in the loss"""
    augmentation: Augmentation
    """how far training images are deformed"""
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"]
    """what Keras computes in"""
    engine: Engine
    """numpy: the same network written out in NumPy, to read: docs/from-scratch.md"""
    backend: Backend
    """what Keras computes with; jax and torch are installed by make jax, make torch"""
    strategy: str
    """how several devices or processes train together: docs/strategies.md"""
    devices: Annotated[int, Field(ge=1, le=64)]
    """mirrored, tpu, data_parallel: of each worker; a CPU is divided, to try it out"""
    workers: Annotated[int, Field(ge=1, le=64)]
    """multi_worker, data_parallel, ddp: processes, started here"""
    device_type: Literal["auto", "cpu", "gpu"]
    """auto: GPU where there is one"""
    missing_devices: Literal["error", "single"]
    """single: where devices are missing, one trains instead, and the run says so"""
    batch_statistics: BatchStatistics
    """over what BatchNormalization averages in a step of several replicas"""
    reproducibility: Literal["fast", "seeded", "deterministic"]
    """what is promised of a repeated training: docs/reproducibility.md"""
    checkpoint_steps: Annotated[int, Field(ge=0, le=1_000_000)]
    """0: a checkpoint after each epoch; N: also every N steps, for long epochs"""
    fused: bool
    """true: many steps as one compiled program, where that can be done: docs/speed.md"""

    @property
    def replicas(self) -> int:
        """How many copies of the network train together."""
        return self.devices * self.workers

    @property
    def computed_by(self) -> str:
        """What computes the steps: numpy, or Keras' backend."""
        return "numpy" if self.engine == "numpy" else self.backend

    def images_a_step(self, images: int) -> int:
        """How many of so many training images a step takes; `auto`: the largest of 256, 128, … 8 that makes ten steps
        an epoch and leaves no replica a single image in the last one, or all where they are fewer."""
        if self.batch_size == "full":
            return images
        if self.batch_size != "auto":
            return self.batch_size
        whole = [size - size % self.replicas for size in AUTOMATIC_BATCHES if size >= self.replicas]
        several = [size for size in whole if size <= images and (images % size or size) > self.replicas]
        return next((size for size in several if 10 * size <= images), min(several, default=images))

    def size_faults(self, images: int) -> Iterator[KeyedError]:
        """What cannot be done with so many training images; the keys are those of all params."""
        even = images - images % self.replicas
        size = self.images_a_step(images)
        if size > images:
            most = f"{even} at most, or full" if even else "full"
            several = 2 ** max(0, (images // 4).bit_length() - 1)  # four steps an epoch, at least
            if several >= 8 and several % self.replicas == 0:
                most = f"{several}, {most}"
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
        steps = self.epochs * -(-images // size)
        for key, too_long in (
            ("gradient_accumulation_steps", "no weight moves before step {}"),
            ("warmup_steps", "the learning rate grows up to step {}"),
        ):
            if (asked := self.optimizer.arguments().get(key, 0)) > steps:
                most = f"Use {steps} at most" if steps > 1 else "Take it out"
                yield KeyedError(
                    ("train", "optimizer", key),
                    f"{too_long.format(asked)}, and the training has {steps} of them. {most}, or more train.epochs.",
                )

    def _fewer_replicas(self, images: int) -> Iterator[str]:
        """The most devices, and the most workers, fewer than now, by which training images and batches divide."""
        whole = math.gcd(images, self.batch_size) if isinstance(self.batch_size, int) else images
        for key in ("devices", "workers"):
            count = getattr(self, key)
            others = self.replicas // count
            if fewer := [one for one in range(1, count) if whole % (one * others) == 0]:
                yield f"train.{key}: {fewer[-1]}"


class Evaluate(Block):
    """What is reported."""

    calibration_bins: Annotated[int, Field(ge=2, le=100)]
    """bins of the reliability diagram"""
    worst_mistakes: Annotated[int, Field(ge=1, le=100)]
    """how many wrong answers are shown as images"""


ExportFormat = Literal["onnx", "javascript", "litert_float32", "litert_dynamic_int8", "litert_int8", "saved_model"]


class Export(Block):
    """In which formats the network is written for use elsewhere, each held against the evaluated one."""

    formats: Annotated[
        tuple[ExportFormat, ...], Field(max_length=6, json_schema_extra=EACH_ONCE), AfterValidator(_each_once)
    ]
    """which; [] for none: docs/deploy.md"""
    accuracy_loss: Annotated[float, Field(ge=0, le=100)]
    """percentage points of test accuracy (of a number: of R²) that a format of int8 may lose"""


class Tracking(Block):
    """Where MLflow keeps the run."""

    experiment: Annotated[
        str,
        Field(
            pattern=r"\A[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}\z",
            description="letters, digits, space, dot, dash and underscore, 100 at most",
        ),
    ]
    """name of the MLflow experiment"""


class Params(Block):
    """The whole of params.yaml."""

    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    """initial weights, batch order, dropout, augmentation"""
    fetch: Fetch
    normalize: Normalize
    model: Model
    train: Train
    evaluate: Evaluate
    export: Export
    tracking: Tracking


def refuse_params(faults: Iterable[KeyedError]) -> None:
    """Raise a ParamsError that names them all, if there are any: what a stage finds in its data and not in the file."""
    if lines := [f"params.yaml: {'.'.join(map(str, fault.key))}: {fault}" for fault in faults]:
        raise ParamsError("\n".join(lines))


def flatten(block: Block, prefix: str = "") -> Iterator[tuple[str, int | float | bool | str]]:
    """Every value with its dotted key (`train.optimizer.name`); a list as compact JSON text.

    Optional keys that were left out of the file are left out here.
    """
    for key in type(block).model_fields:
        value = getattr(block, key)
        if key not in block.model_fields_set:
            continue
        if isinstance(value, Block):
            yield from flatten(value, f"{prefix}{key}.")
        elif isinstance(value, tuple):
            items = [one.model_dump(exclude_unset=True) if isinstance(one, Block) else one for one in value]
            yield f"{prefix}{key}", json.dumps(items)
        else:
            yield f"{prefix}{key}", value

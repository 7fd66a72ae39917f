"""What a training is made of: first weights, batches in an order of our own, loss, optimizer, schedule, and its end."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_pipeline import architectures, backends, epoch_metrics, preprocessing
from keras_pipeline.augmentation import Deformation
from keras_pipeline.distribution import Distribution
from keras_pipeline.params import EarlyStopping, Model, Schedule, Train
from keras_pipeline.preprocessing import Question, Split

Row = dict[str, float]
Batch = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
LEAST_IMPROVEMENT = 1e-4
"""By how much val/loss must fall for reduce_on_plateau, as in keras.callbacks.ReduceLROnPlateau."""


def new_network(
    model: Model, train: Train, seed: int, place: Distribution, steps: int, question: Question
) -> keras.Sequential:
    """The network with its first weights, compiled, on the devices of `place`: ready for `fitting.fit`."""
    backends.seed_everything(seed, train.precision)
    # On JAX a batch is one array, whatever the devices: its statistics are over all of it without a word.
    several = place.replicas > 1 and keras.backend.backend() == "tensorflow"
    synchronized = several and train.batch_statistics == "synchronized"
    with place.scope():
        network = architectures.build(model, question.shape, question.outputs, synchronized=synchronized, seed=seed)
        draw_weights(network, seed)
        compile_model(network, train, steps, question)
    return network


def draw_weights(model: keras.Sequential, seed: int) -> None:
    """Draw the initial kernels, the same on every backend: Glorot and Bengio's uniform distribution (2010, eq. 16),
    as Keras' default has it, drawn by NumPy in float32 from (seed, the layer's place). What else there is
    starts as Keras starts it, from constants."""
    for place, layer in enumerate(model.layers):
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            *window, inputs, outputs = kernel.shape
            limit = math.sqrt(6 / (math.prod(window) * (inputs + outputs)))
            kernel.assign(
                np.random.default_rng([seed, 2, place]).uniform(-limit, limit, kernel.shape).astype("float32")
            )


def batch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of the images in an epoch, counted from 0: a function of its arguments only.

    So the order depends on no framework, and a resumed training needs to know its epoch and nothing else.
    """
    return np.random.default_rng([seed, 1, epoch]).permutation(count)


@dataclass(frozen=True)
class Data:
    """What is trained on and what is looked at after each epoch, as this process needs it.

    `weights`: one factor for each class, in the training loss, or for all numbers where these are predicted, so that
    it tells the number of classes; `deformation`: of the training images, if any. Each process gets its share of every
    batch.
    """

    training: Split
    validation: Split
    weights: NDArray[np.float32]
    seed: int
    batch_size: int
    validation_batch: int
    deformation: Deformation | None = None

    @property
    def steps(self) -> int:
        """Steps in an epoch; the last batch may be smaller."""
        return -(-len(self.training.labels) // self.batch_size)

    @property
    def validation_batches(self) -> int:
        """How many batches the validation split makes, the last filled up."""
        return -(-len(self.validation.labels) // self.validation_batch)

    def batches(self, place: Distribution, epoch: int, step: int) -> Iterator[Batch]:
        """Endless (images, targets, weights) from this step of this epoch on, both counted from 0.

        The weights make the sum over a batch of all replicas the mean over its images. Keras' own shuffle is not
        used: on TensorFlow it repeats one order in all epochs.
        """
        while True:
            order = batch_order(len(self.training.labels), self.seed, epoch)
            for number in range(step, self.steps):
                indices = order[number * self.batch_size :][: self.batch_size]
                batch = self.share(self.training, indices, self.weights / np.float32(len(indices)), place)
                if self.deformation:
                    factors = _own(self.deformation.draw(epoch, number, len(indices)), place)
                    batch = self.deformation.step(batch[0], factors), *batch[1:]
                yield batch
            epoch, step = epoch + 1, 0

    def targets(self, labels: NDArray[Any]) -> NDArray[np.float32]:
        """As `preprocessing.targets`."""
        return preprocessing.targets(labels, len(self.weights))

    def training_weights(self) -> NDArray[np.float32]:
        """The factor of each training image."""
        return _weights(self.weights, self.training.labels)

    def held_out(self, place: Distribution) -> "HeldOut":
        """The validation split, this process's share of each batch."""
        return HeldOut(self, replace(place, rank=0, workers=1, loss_parts=1) if place.whole_validation else place)

    def share(
        self,
        split: Split,
        indices: NDArray[np.int64],
        weights: NDArray[np.float32],
        place: Distribution,
        size: int | None = None,
    ) -> Batch:
        """This process's part of a batch of `size` made of the split's images of these numbers; what lies after them is
        empty: no label, weight 0."""
        places = _own(np.arange(size or len(indices)), place)
        own = indices[places[places < len(indices)]]
        labels = split.labels[own]
        factors = _weights(weights, labels) * np.float32(place.loss_parts)
        batch = np.asarray(split.images[own]), self.targets(labels), factors
        empty = len(places) - len(own)
        if not empty:
            return batch
        images, targets, factors = (
            np.concatenate([one, np.zeros((empty, *one.shape[1:]), one.dtype)]) for one in batch
        )
        return images, targets, factors


class HeldOut(keras.utils.PyDataset):  # type: ignore[misc]
    """The validation split in order, in batches of one size, one at a time in memory.

    The last batch is filled up with images of weight 0, and the weights make the mean over batches that over images.
    """

    def __init__(self, data: Data, place: Distribution) -> None:
        super().__init__()
        self.data, self.place = data, place

    def __len__(self) -> int:
        """How many batches."""
        return self.data.validation_batches

    def __getitem__(self, number: int) -> Batch:
        """The batch of this number, counted from 0."""
        data = self.data
        count, size = len(data.validation.labels), data.validation_batch
        weights = np.full_like(data.weights, data.validation_batches / count)
        return data.share(
            data.validation, np.arange(number * size, min((number + 1) * size, count)), weights, self.place, size
        )

    def arrays(self) -> Batch:
        """All batches, one after the other."""
        parts = [self[number] for number in range(len(self))]
        images, targets, factors = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return images, targets, factors


def _own(rows: NDArray[Any], place: Distribution) -> NDArray[Any]:
    """This process's part of the rows of a batch."""
    return np.array_split(rows, place.workers)[place.rank]


def _weights(weights: NDArray[np.float32], labels: NDArray[Any]) -> NDArray[np.float32]:
    """The factor of each label; numbers have all the same."""
    return weights[labels] if len(weights) > 1 else np.repeat(weights, len(labels))


def class_weights(labels: NDArray[Any], classes: int, rule: str) -> NDArray[np.float32]:
    """float32 (classes,): ones, or for `balanced` images / (classes × images of the class), as scikit-learn has it."""
    if rule == "none":
        return np.ones(classes, np.float32)
    return (len(labels) / (classes * np.maximum(np.bincount(labels, minlength=classes), 1))).astype(np.float32)


def compile_model(model: keras.Sequential, train: Train, steps: int, question: Question) -> None:
    """Give the network its loss, its metric, and its optimizer with the schedule for epochs of `steps` steps."""
    # Not keras.optimizers.get: it does not know all of them (Lamb).
    kinds = {name.lower(): kind for name, kind in vars(keras.optimizers).items()}
    optimizer = kinds[train.optimizer.name](
        learning_rate=learning_rate(train.schedule, train.optimizer.learning_rate, train.epochs, steps),
        **train.optimizer.arguments(),
    )
    losses = {
        "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
        "binary_crossentropy": keras.losses.BinaryCrossentropy,
        "mean_squared_error": keras.losses.MeanSquaredError,
        "mean_absolute_error": keras.losses.MeanAbsoluteError,
    }
    # The sum: the batches' weights make it a mean.
    model.compile(optimizer, loss=losses[train.loss](reduction="sum"), weighted_metrics=[epoch_metrics.of(question)])


def learning_rate(schedule: Schedule, highest: float, epochs: int, steps: int) -> Any:
    """The learning rate as Keras takes it: a number, or a schedule over optimizer steps.

    cosine: linear from 0 over the warm-up epochs, then half a cosine to 0 at the last step (Loshchilov and
    Hutter 2017); exponential: continuous, by `decay_rate` per epoch.
    """
    if schedule.name == "cosine":
        warmup = schedule.warmup_epochs * steps
        return keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else highest,
            decay_steps=epochs * steps - warmup,
            warmup_target=highest if warmup else None,
            warmup_steps=warmup,
        )
    if schedule.name == "exponential":
        return keras.optimizers.schedules.ExponentialDecay(highest, steps, schedule.decay_rate)
    return highest


def learning_rate_then(optimizer: keras.optimizers.Optimizer, steps_since: int) -> float:
    """The learning rate that the optimizer had so many steps ago, or will have, if negative."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of one that scales the loss
    rate = optimizer._learning_rate  # Keras tells the rate of now only
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        rate = rate(optimizer._iterations - steps_since)  # not `iterations`, which counts less where gradients gather
    return float(keras.ops.convert_to_numpy(rate))


def learning_rates(optimizer: keras.optimizers.Optimizer) -> Iterator[float]:
    """Those of the next steps, without end; where no schedule moves the learning rate, it is read once."""
    if not isinstance(optimizer._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
        yield from itertools.repeat(learning_rate_then(optimizer, 0))
    for ahead in itertools.count():
        yield learning_rate_then(optimizer, -ahead)


def best_epoch(history: Sequence[Row], rule: EarlyStopping) -> int:
    """The epoch, counted from 1, whose weights the trained network has."""
    if not rule.patience:
        return len(history)
    values = [row[rule.monitor] for row in history]
    return values.index(min(values) if rule.monitor == "val/loss" else max(values)) + 1


def stands_still(history: Sequence[Row], patience: int) -> bool:
    """Whether reduce_on_plateau lowers the rate after the last epoch: a function of the epochs alone."""
    best, waited = math.inf, 0
    for row in history:
        if waited == patience:
            waited = 0
        if row["val/loss"] < best - LEAST_IMPROVEMENT:
            best, waited = row["val/loss"], 0
        else:
            waited += 1
    return waited == patience


def finished(history: Sequence[Row], train: Train) -> bool:
    """Whether no epoch is left, or early stopping ends the training here."""
    rule = train.early_stopping
    waited = len(history) - best_epoch(history, rule) if history else 0
    return len(history) == train.epochs or bool(rule.patience and waited >= rule.patience)

"""What a network is trained on: batches in an order of our own, and the validation split."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_pipeline.data import task_spec
from keras_pipeline.data.splits import Split
from keras_pipeline.distribution.strategies import OpenedStrategy
from keras_pipeline.training.augmentation import Deformation

Row = dict[str, float]
Batch = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def batch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of the images in an epoch, counted from 0: a function of its arguments only.

    So the order depends on no framework, and a resumed training needs to know its epoch and nothing else.
    """
    return np.random.default_rng([seed, 1, epoch]).permutation(count)


@dataclass(frozen=True)
class Data:
    """What is trained on and what is looked at after each epoch, as this process needs it.

    `weights`: class weights, float32 (classes,); of a regression a single 1. `deformation`: of the training images, if
    any. Each worker gets its share of every batch.
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
        return -(-len(self.training.targets) // self.batch_size)

    @property
    def validation_steps(self) -> int:
        """How many batches the validation split makes, the last filled up."""
        return -(-len(self.validation.targets) // self.validation_batch)

    def batches(self, strategy: OpenedStrategy, epoch: int, step: int) -> Iterator[Batch]:
        """Endless (images, targets, weights) from this step of this epoch on, both counted from 0.

        The weights make the sum over a batch of all replicas the mean over its images. Keras' own shuffle is not
        used: on TensorFlow it repeats one order in all epochs.
        """
        while True:
            order = batch_order(len(self.training.targets), self.seed, epoch)
            for number in range(step, self.steps):
                images, targets, weights = self.cut(strategy, epoch, number, 1, order)
                yield images[0], targets[0], weights[0]
            epoch, step = epoch + 1, 0

    def cut(self, strategy: OpenedStrategy, epoch: int, step: int, count: int, order: NDArray[np.int64]) -> Batch:
        """The next `count` batches, all of one size, from this step of this epoch on, whose `batch_order` is `order`:
        (count, images, …). With several workers one at a time."""
        indices = order[step * self.batch_size :][: count * self.batch_size]
        size = len(indices) // count
        images, targets, weights = (
            array.reshape(count, -1, *array.shape[1:])
            for array in self.share(self.training, indices, self.weights / np.float32(size), strategy)
        )
        if self.deformation:
            for number in range(count):
                factors = _own(self.deformation.draw(epoch, step + number, size), strategy)
                images[number] = self.deformation.step(images[number], factors)
        return images, targets, weights

    def targets(self, labels: NDArray[Any]) -> NDArray[np.float32]:
        """As `task_spec.make_targets`."""
        return task_spec.make_targets(labels, len(self.weights))

    @property
    def held_bytes(self) -> int:
        """How large both splits are as an engine holds them that has all on the device: scaled, with all targets."""
        outputs = len(self.weights) if len(self.weights) > 2 else 1
        return sum(one.scaled_bytes + 4 * outputs * len(one.targets) for one in (self.training, self.validation))

    def training_weights(self) -> NDArray[np.float32]:
        """The factor of each training image."""
        return _weights(self.weights, self.training.targets)

    def validation_batches(self, strategy: OpenedStrategy) -> "ValidationBatches":
        """The validation split, this process's share of each batch."""
        return ValidationBatches(
            self, replace(strategy, rank=0, workers=1, loss_parts=1) if strategy.whole_validation else strategy
        )

    def share(
        self,
        split: Split,
        indices: NDArray[np.int64],
        weights: NDArray[np.float32],
        strategy: OpenedStrategy,
        size: int | None = None,
    ) -> Batch:
        """This process's part of a batch of `size` made of the split's images of these numbers; what lies after them is
        empty: no label, weight 0."""
        places = _own(np.arange(size or len(indices)), strategy)
        own = indices[places[places < len(indices)]]
        labels = split.targets[own]
        factors = _weights(weights, labels) * np.float32(strategy.loss_parts)
        batch = split.scaled(own), self.targets(labels), factors
        empty = len(places) - len(own)
        if not empty:
            return batch
        images, targets, factors = (
            np.concatenate([one, np.zeros((empty, *one.shape[1:]), one.dtype)]) for one in batch
        )
        return images, targets, factors


class ValidationBatches(keras.utils.PyDataset):  # type: ignore[misc]
    """The validation split in order, in batches of one size, one at a time in memory.

    The last batch is filled up with images of weight 0, and the weights make the mean over batches that over images.
    """

    def __init__(self, data: Data, strategy: OpenedStrategy) -> None:
        super().__init__()
        self.data, self.strategy = data, strategy

    def __len__(self) -> int:
        """How many batches."""
        return self.data.validation_steps

    def __getitem__(self, number: int) -> Batch:
        """The batch of this number, counted from 0."""
        data = self.data
        count, size = len(data.validation.targets), data.validation_batch
        weights = np.full_like(data.weights, data.validation_steps / count)
        return data.share(
            data.validation, np.arange(number * size, min((number + 1) * size, count)), weights, self.strategy, size
        )

    def arrays(self) -> Batch:
        """All batches, one after the other."""
        parts = [self[number] for number in range(len(self))]
        images, targets, factors = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return images, targets, factors


def _own(rows: NDArray[Any], strategy: OpenedStrategy) -> NDArray[Any]:
    """This process's part of the rows of a batch."""
    return np.array_split(rows, strategy.workers)[strategy.rank]


def _weights(weights: NDArray[np.float32], labels: NDArray[Any]) -> NDArray[np.float32]:
    """The factor of each label; numbers have all the same."""
    return weights[labels] if len(weights) > 1 else np.repeat(weights, len(labels))


def class_weights(labels: NDArray[Any], classes: int, rule: str) -> NDArray[np.float32]:
    """float32 (classes,): ones, or for `balanced` images / (classes × images of the class), as scikit-learn has it."""
    if rule == "none":
        return np.ones(classes, np.float32)
    return (len(labels) / (classes * np.maximum(np.bincount(labels, minlength=classes), 1))).astype(np.float32)

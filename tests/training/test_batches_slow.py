"""Batches: their order, their shares, and the weights of their classes."""

import itertools

import numpy as np
import pytest

from keras_pipeline.data.splits import Split

pytestmark = pytest.mark.slow


def test_batch_order_is_a_new_permutation_in_every_epoch() -> None:
    from keras_pipeline.training.batches import batch_order

    orders = [batch_order(1000, seed, epoch) for seed in (1, 2) for epoch in (0, 1, 2)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    assert len({order.tobytes() for order in orders}) == 6
    np.testing.assert_array_equal(orders[4], batch_order(1000, 2, 1))


def test_batches_are_the_images_in_that_order_with_a_smaller_last_one() -> None:
    from keras_pipeline.distribution import strategies
    from keras_pipeline.training.batches import Data, batch_order

    images = np.arange(25, dtype=np.float32).reshape(-1, 1, 1, 1)
    split = Split(images, np.arange(25) % 3)
    class_weights = np.array([1, 2, 3], np.float32)
    data = Data(split, split, class_weights, seed=5, batch_size=10, validation_batch=10)
    place = strategies.OpenedStrategy("none", ("/cpu:0",))
    assert data.steps == 3
    taken = list(itertools.islice(data.batches(place, 0, 0), 6))
    assert [len(labels) for _, labels, _ in taken] == [10, 10, 5, 10, 10, 5]
    for epoch in (0, 1):
        order = batch_order(25, 5, epoch)
        three = taken[3 * epoch : 3 * epoch + 3]
        np.testing.assert_array_equal(np.concatenate([one for one, _, _ in three]).ravel(), order)
        np.testing.assert_array_equal(np.concatenate([one for _, one, _ in three]), np.eye(3)[order % 3])
        weights = np.concatenate([one * len(one) for _, _, one in three])
        np.testing.assert_allclose(weights, class_weights[order % 3], rtol=1e-6)
    # From a position on, they are what they would have been.
    for (later, *_), (there, *_) in zip(itertools.islice(data.batches(place, 1, 2), 1), taken[5:], strict=True):
        np.testing.assert_array_equal(later, there)


def test_workers_share_each_batch() -> None:
    from keras_pipeline.distribution import strategies
    from keras_pipeline.training.batches import Data

    split = Split(np.arange(26, dtype=np.float32).reshape(-1, 1, 1, 1), np.arange(26) % 3)
    data = Data(split, split, np.ones(3, np.float32), seed=5, batch_size=10, validation_batch=10)
    whole = list(itertools.islice(data.batches(strategies.OpenedStrategy("none", ("/cpu:0",)), 0, 0), 3))
    places = [strategies.OpenedStrategy("x", ("/cpu:0",), rank=rank, workers=2, loss_parts=2) for rank in (0, 1)]
    shared = [list(itertools.islice(data.batches(place, 0, 0), 3)) for place in places]
    for step, (images, labels, weights) in enumerate(whole):
        halves = [half[step] for half in shared]
        assert len(halves[0][0]) == len(halves[1][0]) == len(images) // 2
        for place, one in ((0, images), (1, labels), (2, 2 * weights)):
            np.testing.assert_array_equal(np.concatenate([half[place] for half in halves]), one)


def test_validation_is_filled_up_to_batches_of_one_size_and_weighs_each_image_alike() -> None:
    from keras_pipeline.distribution import strategies
    from keras_pipeline.training.batches import Data

    split = Split(np.arange(25, dtype=np.float32).reshape(-1, 1, 1, 1), np.arange(25) % 3)
    data = Data(split, split, np.full(3, 7, np.float32), seed=5, batch_size=10, validation_batch=10)
    images, labels, weights = data.validation_batches(strategies.OpenedStrategy("none", ("/cpu:0",))).arrays()
    assert (len(images), data.validation_steps) == (30, 3)
    np.testing.assert_array_equal(images[:25], split.inputs)
    assert not images[25:].any()
    assert not labels[25:].any()
    np.testing.assert_allclose(weights, [3 / 25] * 25 + [0] * 5)  # the mean over 3 batches of sums


def test_balanced_class_weights_are_scikit_learn_s() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    from keras_pipeline.training.batches import class_weights

    labels = np.array([0] * 70 + [1] * 20 + [2] * 10)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(class_weights(labels, 3, "balanced"), expected, rtol=1e-6)
    np.testing.assert_array_equal(class_weights(labels, 3, "none"), 1)

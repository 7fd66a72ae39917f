"""Drawn answers of two settings."""

import math

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.comparison import statistics

Right = NDArray[np.bool_]


def drawn(
    random: np.random.Generator, seeds: int, images: int, of_seed: float, of_image: float, better: float = 0.0
) -> tuple[Right, Right]:
    """Two settings that are equally good over all seeds and images there could be, but for `better`.

    An image is right where its ease, shared by both settings, plus what the setting makes of it (`of_image`), plus what
    the seed drew (`of_seed`), plus noise is above 0: about 95 %.
    """
    ease = random.normal(2.0, 1.0, images)

    def setting(shift: float) -> Right:
        own = ease + random.normal(0, of_image, images) + shift
        noise = random.normal(0, of_seed, (seeds, 1)) + random.normal(0, 0.5, (seeds, images))
        right: Right = own + noise > 0
        return right

    return setting(better), setting(0.0)


def check_false_alarms(seeds: int, of_seed: float, of_image: float, count: int) -> None:
    """Of so many pairs of equal settings one in twenty is called different, and with four standard deviations of that
    count not many more. With one seed nothing is known of other seeds, so that only the images' chance is promised."""
    random = np.random.default_rng(seeds)
    draws = [drawn(random, seeds, 500, of_seed, of_image) for _ in range(count)]
    alarms = sum(statistics.compare_settings(*pair).p < 0.05 for pair in draws)
    assert alarms <= 0.05 * count + 4 * math.sqrt(0.05 * 0.95 * count)

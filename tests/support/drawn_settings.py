"""Drawn answers of two settings."""

import numpy as np
from numpy.typing import NDArray

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

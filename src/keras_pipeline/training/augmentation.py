"""Training images deformed anew each time they are seen: moved, turned, scaled, bent, and mirrored.

A deformation says from where in the image each pixel takes its value. That place is linear in a few random numbers:
those of a move (1), of turning and scaling (the pixel's coordinates), and of a smooth random field, which is made of
the principal components of such fields. So NumPy draws the few numbers, a function of seed, epoch and step, and the
device computes all places by one matrix product and all values by four look-ups.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_pipeline.config.layers import Shape
from keras_pipeline.config.params import Augmentation
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.data.statistics import ScalingConstants

KEPT_VARIANCE = 0.999
"""How much of the variance of a smooth field its components keep along each axis."""


@dataclass(frozen=True)
class Deformation:
    """What is done to the images of a training, of this shape (height, width, channels); `background` is the value of
    what comes in from outside."""

    settings: Augmentation
    seed: int
    background: float
    shape: Shape

    def draw(self, epoch: int, step: int, count: int) -> NDArray[np.float32]:
        """The random numbers for the images of a step, both counted from 0: float32 (count, 2, terms).

        For y and x, the factors of `terms`. shift, rotation and scale are uniform up to their value either way, the two
        axes' shifts and scales apart, as in Cireşan et al. 2010. The elastic displacement of a pixel is normal with
        deviation `elastic`, and correlates over a distance d in pixels by exp(-d² / (4 smoothness²)): what Simard
        et al. (2003) get by a Gaussian filter of that deviation over uniform noise. Which half of the images is
        mirrored is drawn apart, and changes nothing else.
        """
        random = np.random.default_rng([self.seed, 4, epoch, step])
        shift, angle, scale = (
            random.uniform(-1, 1, (count, size)) * most
            for size, most in (
                (2, self.settings.shift),
                (1, np.radians(self.settings.rotation)),
                (2, self.settings.scale),
            )
        )
        turned = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])[..., 0]
        factors = np.concatenate([shift[..., np.newaxis], turned.transpose(2, 0, 1) / (1 + scale[..., np.newaxis])], 2)
        if self.settings.elastic:
            bends = random.standard_normal((count, 2, len(self.terms) - 3), np.float32)
            factors = np.concatenate([factors, bends * self.settings.elastic], 2, dtype=np.float32)
        if self.settings.horizontal_flip:
            factors[np.random.default_rng([self.seed, 5, epoch, step]).random(count) < 0.5, 1] *= -1
        return factors.astype(np.float32)

    @cached_property
    def terms(self) -> NDArray[np.float32]:
        """float32 (terms, height × width): 1, y and x from the middle, and the components of a smooth field."""
        height, width, _ = self.shape
        y, x = np.mgrid[:height, :width].reshape(2, -1)
        plane = [np.ones(height * width), y - (height - 1) / 2, x - (width - 1) / 2]
        if not self.settings.elastic:
            return np.array(plane, np.float32)
        down, across = (_components(size, self.settings.smoothness) for size in (height, width))
        return np.concatenate([plane, np.kron(down, across)]).astype(np.float32)

    def apply(self, images: Any, factors: Any) -> Any:
        """Images (n, height, width, channels) by what was drawn for them, interpolated bilinearly, on the device."""
        count, (height, width, channels) = images.shape[0], self.shape
        places = ops.matmul(ops.reshape(factors, (2 * count, -1)), self.terms)
        places = ops.reshape(places, (count, 2, height * width))
        y = ops.clip(places[:, 0] + (height + 1) / 2, 0, height + 1)
        x = ops.clip(places[:, 1] + (width + 1) / 2, 0, width + 1)
        top, left = ops.floor(y), ops.floor(x)
        down, right = y - top, x - left
        row = width + 3
        image = ops.arange(count, dtype="int32")[:, np.newaxis] * ((height + 3) * row)
        first = image + ops.cast(top, "int32") * row + ops.cast(left, "int32")

        def deformed(channel: Any) -> Any:
            # A frame of background around each image: what lies further out is the same. The second row and column
            # after it are only looked up, with weight 0.
            padded = ops.pad(channel, ((0, 0), (1, 2), (1, 2)), constant_values=self.background)
            pixels = ops.reshape(padded, (-1,))
            above = (1 - right) * ops.take(pixels, first) + right * ops.take(pixels, first + 1)
            below = (1 - right) * ops.take(pixels, first + row) + right * ops.take(pixels, first + row + 1)
            return (1 - down) * above + down * below

        each = [deformed(images[..., channel]) for channel in range(channels)]
        return ops.reshape(ops.stack(each, -1), images.shape)

    def step(self, images: NDArray[np.float32], factors: NDArray[np.float32]) -> NDArray[np.float32]:
        """`apply` for training step by step: compiled, from the host and back to it."""
        deformed: NDArray[np.float32] = ops.convert_to_numpy(self._compiled(images, factors))
        return deformed

    @cached_property
    def _compiled(self) -> Callable[[Any, Any], Any]:
        backend = keras.backend.backend()
        compiled: Callable[[Any, Any], Any]
        if backend == "tensorflow":
            import tensorflow as tf

            compiled = tf.function(self.apply, autograph=False, jit_compile=True)
            return compiled
        if backend == "jax":
            import jax

            compiled = jax.jit(self.apply)
            return compiled
        return lambda images, factors: self.apply(ops.convert_to_tensor(images), ops.convert_to_tensor(factors))


def deformation_for(
    settings: Augmentation, seed: int, scaling: ScalingConstants, shape: Shape, black: float = 0.0
) -> Deformation | None:
    """The deformation that the params ask for, of images on a background that is `black`, the least that a pixel is,
    scaled as statistics.json says."""
    of_pixels = Scaling(**scaling)
    return Deformation(settings, seed, (black - of_pixels.offset) / of_pixels.divisor, shape) if settings.on else None


def _components(size: int, smoothness: float) -> NDArray[np.float64]:
    """(components, size): a smooth random line is their sum, each times a normal number. Its variance is 1."""
    position = np.arange(size)
    covariance = np.exp(-(((position[:, np.newaxis] - position) / (2 * smoothness)) ** 2))
    variances, lines = np.linalg.eigh(covariance)
    order = np.argsort(variances)[::-1]
    enough = int(np.searchsorted(np.cumsum(variances[order]), KEPT_VARIANCE * size)) + 1
    kept = order[:enough]
    return np.asarray((lines[:, kept] * np.sqrt(variances[kept])).T)

"""Images that are there twice: the same pixels, or nearly so, as after another compression or a change of brightness.

A perceptual hash is a sieve only: among the 70,000 digits of MNIST it finds two million pairs, of which three are
alike pixel by pixel.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEAR_BITS = 6
"""Of the 64 of a hash: a strong compression (JPEG, quality 50) changes no more of them."""
NEAR_CORRELATION = 0.99
"""Of the small copies of two images, over all pixels and channels. Two straight strokes reach 0.98."""
LEAST_CONTRAST = 0.5
"""Standard deviation of the pixels of an image that is not of one colour."""
ROWS, COLUMNS = 64, 16_384
"""How many hashes are held against how many at a time: what fits in the processor's cache."""
MOST_PAIRS = 20_000_000
"""So many pairs are compared by pixels at most: of frames of one film all hashes are alike."""


def equal_groups(keys: "NDArray[Any]", among: "NDArray[np.bool_]") -> "list[NDArray[np.int64]]":
    """The indices, ascending, of each group of two or more equal rows of `keys` (n, bytes), in the order of their first
    ones; only those that are `among` them."""
    places = np.flatnonzero(among)
    if not len(places):
        return []
    _, inverse = np.unique(keys[places], axis=0, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    parts = np.split(places[order], np.flatnonzero(np.diff(inverse[order])) + 1)
    return sorted((part for part in parts if len(part) > 1), key=lambda part: int(part[0]))


def near_groups(
    hashes: "NDArray[np.uint64]", small: "NDArray[np.uint8]", among: "NDArray[np.bool_]"
) -> "tuple[list[NDArray[np.int64]], bool]":
    """Groups of images (indices, ascending) that are joined by pairs which are nearly the same, and whether all pairs
    were looked at. Of several with the same pixels only one is to be `among` them; images of one colour join nobody."""
    places = np.flatnonzero(among)
    parent: dict[int, int] = {}

    def root(one: int) -> int:
        while parent.setdefault(one, one) != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    left = MOST_PAIRS
    for first, second in _candidates(hashes[places]):
        first, second = places[first[:left]], places[second[:left]]
        left -= len(first)
        alike = correlations(small[first], small[second]) >= NEAR_CORRELATION
        for one, other in zip(first[alike].tolist(), second[alike].tolist(), strict=True):
            parent[root(other)] = root(one)
        if not left:
            break
    groups: dict[int, list[int]] = {}
    for one in sorted(parent):
        groups.setdefault(root(one), []).append(one)
    return sorted((np.array(group) for group in groups.values()), key=lambda group: int(group[0])), left > 0


def _candidates(hashes: "NDArray[np.uint64]") -> "Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]":
    """Pairs of indices, the smaller one first, whose hashes differ in few bits: some at a time."""
    for row in range(0, len(hashes), ROWS):
        for column in range(row, len(hashes), COLUMNS):
            differing = np.bitwise_count(hashes[row : row + ROWS, None] ^ hashes[None, column : column + COLUMNS])
            first, second = np.nonzero(differing <= NEAR_BITS)
            later = second + column > first + row
            if later.any():
                yield first[later] + row, second[later] + column


def correlations(images: "NDArray[np.uint8]", others: "NDArray[np.uint8]") -> "NDArray[np.float32]":
    """Of each image with the other at its place, over all pixels and channels; 0 where one is of one colour."""
    one, other = _standardized(images), _standardized(others)
    products: NDArray[np.float32] = np.einsum("ij,ij->i", one, other)
    return products


def _standardized(images: "NDArray[np.uint8]") -> "NDArray[np.float32]":
    """Each channel without its mean, each image of length 1; zeros where it is of one colour."""
    channels = images.reshape(len(images), -1, images.shape[-1]).astype(np.float32)
    channels -= channels.mean(axis=1, keepdims=True)
    pixels = channels.reshape(len(images), -1)
    length = np.linalg.norm(pixels, axis=1, keepdims=True)
    pixels /= np.where(length > LEAST_CONTRAST * np.sqrt(pixels.shape[1]), length, np.inf)
    return pixels

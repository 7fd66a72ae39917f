"""Drawn outputs for one class against the rest."""

import numpy as np
from numpy.typing import NDArray


def drawn(count: int = 400) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Outputs of a network that knows something, and the labels."""
    random = np.random.default_rng(0)
    labels = (random.random(count) < 0.2).astype(np.int64)
    outputs = 1 / (1 + np.exp(-(2 * labels - 1 + random.normal(0, 1.5, count))))
    return outputs.astype(np.float32)[:, np.newaxis], labels

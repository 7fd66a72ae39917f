"""An IDX file, and its flipped bits."""

import gzip

import numpy as np

from keras_pipeline.core.errors import DataError
from keras_pipeline.sources.files import formats

LABELS = formats.write_idx(np.random.default_rng(0).integers(0, 10, 10_000, dtype=np.uint8))
ENVELOPE = gzip.compress(LABELS, mtime=0)


def flips(positions: list[int]) -> None:
    """Every flipped bit gives a DataError, or the same content: bits without meaning."""
    same = 0
    for position in positions:
        flipped = bytearray(ENVELOPE)
        flipped[position // 8] ^= 1 << position % 8
        try:
            assert formats.decompress(bytes(flipped), "file", len(LABELS)) == LABELS
            same += 1
        except DataError:
            pass
    assert same < len(positions) / 100

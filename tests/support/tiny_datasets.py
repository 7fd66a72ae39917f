"""A dataset of a few images with the files of a real one, for tests that need no real one."""

import gzip
import hashlib
from typing import Literal

import numpy as np

from keras_pipeline.config.datasets import Dataset, RemoteFile
from keras_pipeline.sources import formats

NAMES = {
    "train-images": "train-images-idx3-ubyte.gz",
    "train-labels": "train-labels-idx1-ubyte.gz",
    "test-images": "t10k-images-idx3-ubyte.gz",
    "test-labels": "t10k-labels-idx1-ubyte.gz",
}


def payloads(seed: int = 0, train: int = 6, test: int = 3) -> dict[str, bytes]:
    """IDX files by role: so many train and test images of noise, which gzip cannot make smaller."""
    random = np.random.default_rng(seed)
    return {
        f"{split}-{kind}": formats.write_idx(random.integers(0, top, shape, dtype=np.uint8))
        for split, count in (("train", train), ("test", test))
        for kind, top, shape in (("images", 256, (count, 28, 28)), ("labels", 10, (count,)))
    }


def compressed(contents: dict[str, bytes]) -> dict[str, bytes]:
    """The .gz files by role."""
    return {role: gzip.compress(content, mtime=0) for role, content in contents.items()}


def row(
    contents: dict[str, bytes],
    *mirrors: str,
    algorithm: Literal["payload sha256", "gzip md5"] = "payload sha256",
) -> Dataset:
    """A row of the dataset 'tiny' for these payloads, with digests of the given kind."""
    envelopes = compressed(contents)
    return Dataset(
        name="tiny",
        title="Tiny",
        licence="none",
        class_names=tuple("0123456789"),
        train_count=len(contents["train-labels"]) - 8,
        test_count=len(contents["test-labels"]) - 8,
        files={
            role: RemoteFile(
                name,
                algorithm,
                hashlib.sha256(contents[role]).hexdigest()
                if algorithm == "payload sha256"
                else hashlib.md5(envelopes[role]).hexdigest(),
                len(contents[role]),
            )
            for role, name in NAMES.items()
        },
        mirrors=mirrors,
    )

"""Small datasets as people have them, one of each kind, to be learned in seconds: files, without a dataset file."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

import example_table
import made_pictures


def _digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """1,797 images (n, 8, 8) in 0 … 255, and their labels."""
    images, labels = load_digits(return_X_y=True)
    return (images.reshape(-1, 8, 8) * 15.9).astype(np.uint8), labels


def pictures(folder: Path) -> Path:
    """A folder of 180 colour pictures in three classes, of odd sizes and formats."""
    return made_pictures.make_pictures(folder / "pictures", count=60)


def arrays(folder: Path) -> Path:
    """A .npz of colour images (n, 12, 10, 3) in three named classes, split into train and test."""
    random = np.random.default_rng(0)
    names = np.array(["blue", "green", "red"])
    labels = random.integers(3, size=400)
    images = random.integers(0, 120, (400, 12, 10, 3)).astype(np.uint8)
    images[np.arange(400), :, :, 2 - labels] += 100
    path = folder / "colours.npz"
    np.savez(path, x_train=images[:300], y_train=names[labels[:300]], x_test=images[300:], y_test=names[labels[300:]])
    return path


def pixels(folder: Path) -> Path:
    """A CSV of a label and 64 pixels a row."""
    images, labels = _digits()
    header = ",".join(["label", *(f"pixel{number}" for number in range(64))])
    rows = np.column_stack([labels, images.reshape(len(images), -1)])
    path = folder / "pixels.csv"
    np.savetxt(path, rows, fmt="%d", delimiter=",", header=header, comments="")
    return path


def table(folder: Path) -> Path:
    """A CSV of flowers: numbers, categories with gaps, three species."""
    path = folder / "flowers.csv"
    example_table.write_flowers(path)
    return path


def idx(folder: Path) -> Path:
    """A folder of four IDX files, with the names of MNIST's."""
    images, labels = _digits()
    path = folder / "digits8"
    path.mkdir()
    for split, rows in (("train", slice(1400)), ("t10k", slice(1400, None))):
        for kind, array in (("images-idx3", images[rows]), ("labels-idx1", labels[rows].astype(np.uint8))):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (path / f"{split}-{kind}-ubyte").write_bytes(header + array.tobytes())
    return path


def records(folder: Path) -> Path:
    """A folder of binary records as CIFAR-10's: a label and 32 × 32 pixels, planes of red, green and blue."""
    random = np.random.default_rng(1)
    path = folder / "records"
    path.mkdir()
    for name, count in (("data_batch_1", 300), ("data_batch_2", 300), ("test_batch", 150)):
        labels = np.arange(count) % 10
        images = random.integers(0, 40, (count, 3, 32, 32)).astype(np.uint8)
        images[np.arange(count), labels % 3, :, :] += (60 + 20 * (labels // 3))[:, None, None].astype(np.uint8)
        body = np.column_stack([labels.astype(np.uint8), images.reshape(count, -1)])
        (path / f"{name}.bin").write_bytes(body.tobytes())
    return path


FILES: dict[str, Callable[[Path], Path]] = {
    "images": pictures,
    "arrays": arrays,
    "pixels": pixels,
    "table": table,
    "idx": idx,
    "records": records,
}
"""By the kind that they are: writes the files into a folder, and gives the path that `dataset add` is given."""

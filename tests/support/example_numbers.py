"""Images that are numbers already, made of scikit-learn's digits, in the forms that docs/own-data.md tells of.

python tests/support/example_numbers.py FOLDER
"""

import gzip
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np


def write_numbers(folder: Path) -> None:
    """digits.npz, digits/train.csv and test.csv, letters.bin, and in letters/ four IDX files."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8)
    np.savez(
        folder / "digits.npz", x_train=images[:1500] / 16, y_train=labels[:1500] + 1,
        x_test=images[1500:] / 16, y_test=labels[1500:] + 1,
    )  # fmt: skip
    (folder / "digits").mkdir(exist_ok=True)
    header = ",".join(["label", *(f"pixel{index}" for index in range(64))])
    rows = np.column_stack([labels, (images * 15.9).reshape(-1, 64)]).astype(int)
    for name, part in (("train", rows[:1500]), ("test", rows[1500:])):
        np.savetxt(folder / "digits" / f"{name}.csv", part, "%d", ",", header=header, comments="")
    colours = np.stack([images * 15.9, images * 0, 255 - images * 15.9], axis=1)[labels < 3]
    two = np.column_stack([labels[labels < 3] * 0, labels[labels < 3], colours.reshape(len(colours), -1)])
    (folder / "letters.bin").write_bytes(two.astype(np.uint8).tobytes())
    (folder / "letters").mkdir(exist_ok=True)
    chosen = np.flatnonzero(labels < 3)
    for split, part in (("train", chosen[:400]), ("test", chosen[400:])):
        turned = (images[part] * 15.9).astype(np.uint8).transpose(0, 2, 1)
        _write_idx(folder / "letters" / f"{split}-images-idx3-ubyte.gz", turned)
        _write_idx(folder / "letters" / f"{split}-labels-idx1-ubyte.gz", (labels[part] + 1).astype(np.uint8))


def _write_idx(path: Path, array: "np.ndarray[Any, Any]") -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), mtime=0))


if __name__ == "__main__":
    write_numbers(Path(sys.argv[1]))

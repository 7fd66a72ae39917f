"""data/raw as fetch leaves it, made of arrays."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.core import files


def write_images(
    folder: Path,
    name: str,
    arrays: Mapping[str, NDArray[Any]],
    class_names: Sequence[str],
    *,
    low: float = 0.0,
    high: float = 255.0,
    **changes: Any,
) -> None:
    """`arrays`: train_images (n, height, width, channels), train_labels and so on, by the names of their files."""
    folder.mkdir(parents=True, exist_ok=True)
    for one, array in arrays.items():
        np.save(folder / f"{one}.npy", array)
    train = arrays["train_images"]
    given = {"kind": "images", "shape": list(train.shape[1:]), "dtype": train.dtype.str, "low": low, "high": high}
    paths = [folder / f"{one}.npy" for one in arrays]
    described = {
        "format": 2,
        "name": name,
        "title": f"The title of {name}",
        "licence": "CC0 1.0",
        "definition": "a" * 64,
        "input": given,
        "class_names": list(class_names),
        "drawing": None,
        "preparation": None,
        "images": {one.removesuffix("_labels"): len(array) for one, array in arrays.items() if one.endswith("_labels")},
        "left_out": 0,
        "source": {"files": 4, "bytes": 1000, "sha256": "d" * 64},
        "facts": {},
        "origins": [],
        "files": {path.name: {"sha256": files.file_sha256(path), "bytes": path.stat().st_size} for path in paths},
    }
    files.write_json(folder / "dataset.json", {**described, **changes})

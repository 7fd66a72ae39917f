"""One dataset of grey images through every kind of dataset file: the same images and labels, in the same order."""

import gzip
import io
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from PIL import Image
from pyarrow import csv as arrow_csv
from pyarrow import parquet

import small
from keras_pipeline.core.files import file_sha256
from keras_pipeline.stages import fetch, normalize

Given = Mapping[str, tuple[Any, Any]]
"""Of train and test the images (n, height, width) of bytes, and the labels from 0 to 9."""
DIGITS = [str(digit) for digit in range(10)]
NUMBERS = {"label_values": list(range(10))}


def _idx(array: Any) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def _png(image: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    return file.getvalue()


def as_idx(folder: Path, given: Given) -> dict[str, Any]:
    return _as_idx(folder, given, transpose=False)


def as_transposed_idx(folder: Path, given: Given) -> dict[str, Any]:
    return _as_idx(folder, given, transpose=True)


def _as_idx(folder: Path, given: Given, *, transpose: bool) -> dict[str, Any]:
    keys: dict[str, Any] = {"kind": "idx", "transpose": transpose}
    for split, (images, labels) in given.items():
        keys[split] = {"images": f"{split}-images.gz", "labels": f"{split}-labels"}
        stored = np.ascontiguousarray(images.transpose(0, 2, 1) if transpose else images)
        (folder / f"{split}-images.gz").write_bytes(gzip.compress(_idx(stored), 1))
        (folder / f"{split}-labels").write_bytes(_idx(labels.astype(np.uint8)))
    return keys


def as_npz(folder: Path, given: Given) -> dict[str, Any]:
    np.savez(
        folder / "mnist.npz",
        **{f"x_{split}": images for split, (images, _) in given.items()},
        **{f"y_{split}": labels for split, (_, labels) in given.items()},
    )
    return {"kind": "arrays", **{split: {"images": f"x_{split}", "labels": f"y_{split}"} for split in given}}


def as_records(folder: Path, given: Given) -> dict[str, Any]:
    for split, (images, labels) in given.items():
        rows = np.column_stack([labels.astype(np.uint8), images.reshape(len(images), -1)])
        (folder / f"{split}.bin").write_bytes(rows.tobytes())
    return {"kind": "records", **{split: [f"{split}.bin"] for split in given}}


def as_csv(folder: Path, given: Given) -> dict[str, Any]:
    for split, table in _tables(given):
        arrow_csv.write_csv(table, folder / f"{split}.csv", arrow_csv.WriteOptions(quoting_style="none"))
    return {"kind": "pixels", **NUMBERS, **{split: [f"{split}.csv"] for split in given}}


def as_parquet(folder: Path, given: Given) -> dict[str, Any]:
    for split, table in _tables(given):
        parquet.write_table(table, folder / f"{split}.parquet")
    return {"kind": "pixels", **{split: [f"{split}.parquet"] for split in given}}


def _tables(given: Given) -> Iterator[tuple[str, Any]]:
    for split, (images, labels) in given.items():
        columns = np.column_stack([labels.astype(np.uint8), images.reshape(len(images), -1)]).T
        names = ["label", *(f"pixel{index}" for index in range(len(columns) - 1))]
        yield split, pyarrow.table([pyarrow.array(np.ascontiguousarray(one)) for one in columns], names=names)


PICTURES = {"kind": "images", "colour": "grey"}


def as_folders(folder: Path, given: Given) -> dict[str, Any]:
    """A folder a class; the files' names go on across them, as the images do."""
    for split, (images, labels) in given.items():
        for digit in DIGITS:
            (folder / split / digit).mkdir(parents=True)
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            (folder / split / str(label) / f"{index:05}.png").write_bytes(_png(image))
    return PICTURES


def as_listed_files(folder: Path, given: Given) -> dict[str, Any]:
    (folder / "pictures").mkdir()
    for split, (images, labels) in given.items():
        lines = ["file,label"]
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            (folder / "pictures" / f"{split}{index}.png").write_bytes(_png(image))
            lines.append(f"pictures/{split}{index}.png,{label}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return {**PICTURES, **NUMBERS, "table": {"files": "*.csv", "image": "file", "label": "label"}}


def as_encoded(folder: Path, given: Given) -> dict[str, Any]:
    """As data hubs export it."""
    for split, (images, labels) in given.items():
        pictures = [{"bytes": _png(image), "path": None} for image in images]
        table = pyarrow.table({"image": pictures, "label": pyarrow.array(labels.astype(np.int64))})
        parquet.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    return {**PICTURES, "table": {"files": "*.parquet", "image": "image", "label": "label"}}


EVERY: dict[str, Callable[[Path, Given], dict[str, Any]]] = {
    "idx": as_idx, "transposed_idx": as_transposed_idx, "npz": as_npz, "records": as_records, "csv": as_csv,
    "parquet": as_parquet, "folders": as_folders, "listed_files": as_listed_files, "encoded": as_encoded,
}  # fmt: skip


def write(name: str, project: Path, given: Given) -> None:
    """The files in `project`/own_NAME, and datasets/own_NAME.yaml, as JSON, which is YAML too."""
    folder = project / f"own_{name}"
    folder.mkdir(parents=True)
    height, width = given["train"][0].shape[1:]
    keys = {"path": f"own_{name}", "size": [height, width], "classes": DIGITS, **EVERY[name](folder, given)}
    (project / "datasets").mkdir(exist_ok=True)
    (project / "datasets" / f"own_{name}.yaml").write_text(json.dumps(keys), encoding="utf-8")


def normalized(name: str, project: Path) -> dict[str, str]:
    """The digests of the arrays that fetch and normalize make of a dataset."""
    params = small.params({"fetch.dataset": name})
    data = project / "data"
    fetch.fetch_dataset(params, data / "raw", data / "downloads")
    normalize.normalize_dataset(params, data / "raw", data / "normalized")
    return {path.name: file_sha256(path) for path in (data / "normalized").glob("*.npy")}

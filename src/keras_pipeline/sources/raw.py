"""data/raw: the examples of a dataset of any kind in one form, which later stages read and no other.

Of images arrays, of a table CSV files, a split each; dataset.json, written last, says what they are. Read here, written
by `raw_writer`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat, TypeAdapter
from typing_extensions import TypedDict

from keras_pipeline.core import files
from keras_pipeline.core.array_files import Expected, map_array
from keras_pipeline.core.errors import DataError
from keras_pipeline.core.json_files import Count, Digest, Line, Name, Size, read_json, refuse
from keras_pipeline.sources.kinds.kind import Columns, Split
from keras_pipeline.sources.source_files import SingleFile, Source
from keras_pipeline.sources.tables.text_tables import Dialect, read_columns, row_place, to_numbers, to_texts


class Column(TypedDict):
    """A column of a table, but for its target."""

    name: Line
    kind: Literal["number", "category"]


class ImagesInput(TypedDict):
    """What an input is: an image (height, width, channels) whose pixels are from `low` to `high`."""

    kind: Literal["images"]
    shape: list[Size]
    dtype: Literal["|u1", "<u2", "<f4"]
    low: FiniteFloat
    high: FiniteFloat


class TableInput(TypedDict):
    """What an input is: a row of a table. `target`: the column that is predicted; `missing`: the rule for gaps;
    `missing_values`: the texts that mean one later, beside an empty one."""

    kind: Literal["table"]
    columns: list[Column]
    target: Line
    missing: Line
    missing_values: list[Line]


class RawFile(TypedDict):
    """One of the files beside dataset.json."""

    sha256: Digest
    bytes: Count


class Drawn(TypedDict):
    """As `kind.Drawing`."""

    box: Size
    centre: Literal["mass", "box"]
    dark_border: bool


class RawDescription(TypedDict):
    """dataset.json: all that later stages need of a dataset.

    `definition`: the digest of what its file says; `preparation`: how any picture becomes such an image; `images`: how
    many examples each split has; `left_out`: how many were damaged; `facts`: what made the pixels.
    """

    format: Literal[2]
    name: Name
    title: Line
    licence: Line
    definition: Digest
    input: ImagesInput | TableInput
    class_names: list[Line]
    drawing: Drawn | None
    preparation: dict[str, Any] | None
    images: dict[Split, Size]
    left_out: Count
    source: Source | None
    facts: dict[Line, Line]
    origins: list[Line]
    files: dict[Name, RawFile]


DESCRIPTION = TypeAdapter(RawDescription)


@dataclass(frozen=True)
class Raw:
    """What data/raw holds, by split: of images the arrays, mapped into memory; of a table its columns.

    `labels`: int64, index into the classes, or float64, the numbers to predict. `groups` (int64, equal where a group
    is) and `times` (float64) are those of the training examples, where the dataset file asks for them.
    """

    description: RawDescription
    images: Mapping[Split, NDArray[Any]]
    tables: Mapping[Split, Columns]
    labels: Mapping[Split, NDArray[Any]]
    groups: NDArray[np.int64] | None
    times: NDArray[np.float64] | None


def read_description(folder: Path) -> RawDescription:
    """dataset.json of a folder. Raises DataError where it is missing, damaged, or names other files than it must."""
    return read_json(folder / "dataset.json", DESCRIPTION, "fetch", check=_check)


def _check(found: RawDescription) -> None:
    if not {"train", "test"} <= set(found["images"]):
        refuse("images", found["images"], "train and test, at least")
    table = found["input"]["kind"] == "table"
    needed = {f"{split}.csv" for split in found["images"]} if table else {
        f"{split}_{what}.npy" for split in found["images"] for what in ("images", "labels")
    }  # fmt: skip
    if not needed <= set(found["files"]) <= needed | {"train_groups.npy", "train_times.npy"}:
        refuse("files", sorted(found["files"]), f"the files {', '.join(sorted(needed))}")
    if found["input"]["kind"] == "images" and len(found["input"]["shape"]) != 3:
        refuse("input.shape", found["input"]["shape"], "height, width and channels")


def read_raw(folder: Path) -> Raw:
    """All of a folder that `write_raw` wrote. Raises DataError where a file is another one than it wrote."""
    found = read_description(folder)
    for name, one in found["files"].items():
        path = folder / name
        if not path.is_file() or files.file_sha256(path) != one["sha256"]:
            raise DataError(
                f"{path}: not the file that the stage 'fetch' wrote (its SHA-256 should be {one['sha256'][:12]}…). "
                "Run `dvc repro fetch` to have it written again."
            )
    images: dict[Split, NDArray[Any]] = {}
    tables: dict[Split, Columns] = {}
    labels: dict[Split, NDArray[Any]] = {}
    own = found["input"]
    for split, count in found["images"].items():
        if own["kind"] == "images":
            expected = Expected(own["dtype"], (count, *own["shape"]))
            images[split] = map_array(folder / f"{split}_images.npy", expected, "fetch")
            labels[split] = map_array(folder / f"{split}_labels.npy", Expected("<i8", (count,)), "fetch")
            classes = len(found["class_names"])
            if labels[split].min() < 0 or labels[split].max() >= classes:
                raise DataError(
                    f"{folder}/{split}_labels.npy: labels outside of 0 to {classes - 1}. Run `dvc repro fetch`."
                )
        else:
            path = folder / f"{split}.csv"
            tables[split], labels[split] = _read_table(path, own, found["class_names"], count)
    extra: dict[str, NDArray[Any] | None] = {
        what: map_array(folder / f"train_{what}.npy", Expected(kind, (found["images"]["train"],)), "fetch")
        if f"train_{what}.npy" in found["files"]
        else None
        for what, kind in (("groups", "<i8"), ("times", "<f8"))
    }
    return Raw(found, images, tables, labels, extra["groups"], extra["times"])


def _read_table(path: Path, own: TableInput, classes: list[str], count: int) -> tuple[Columns, NDArray[Any]]:
    source, index = SingleFile(path, str(path)), {name: number for number, name in enumerate(classes)}
    texts: dict[str, list[str | None]] = {one["name"]: [] for one in own["columns"] if one["kind"] == "category"}
    texts |= {own["target"]: []} if classes else {}
    numbers = {one["name"]: np.empty(count) for one in own["columns"] if one["kind"] == "number"}
    numbers |= {} if classes else {own["target"]: np.empty(count)}
    names, done = [*texts, *numbers], 0

    def place(name: str, row: int) -> str:
        return f"{row_place(source, path.name, row, Dialect())}: {name!a}"

    try:
        for block in read_columns(source, path.name, names, Dialect()):
            end = done + len(block[0])
            if end > count:
                raise DataError(f"{path}: more than {count:,} rows. Expected: as many.")
            for name, array in zip(names, block, strict=True):
                called = partial(lambda name, before, row: place(name, before + row), name, done)
                if name in texts:
                    texts[name] += to_texts(array, (), called)
                else:
                    numbers[name][done:end] = to_numbers(array, (), called)
            done = end
        if done != count:
            raise DataError(f"{path}: {done:,} rows. Expected: {count:,}.")
        labels = [index.get(text or "", -1) for text in texts.pop(own["target"])] if classes else []
        if -1 in labels:
            raise DataError(f"{place(own['target'], labels.index(-1))}: no class of dataset.json.")
    except DataError as fault:
        raise DataError(f"{fault} Run `dvc repro fetch` to have it written again.") from None
    target: NDArray[Any] = np.array(labels, np.int64) if classes else numbers.pop(own["target"])
    values = {one["name"]: texts.get(one["name"], numbers.get(one["name"])) for one in own["columns"]}
    return Columns(cast(Any, values), own["missing"], tuple(own["missing_values"]), own["target"]), target

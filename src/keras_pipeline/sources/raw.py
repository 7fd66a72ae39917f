"""data/raw: the examples of a dataset of any kind in one form, which later stages read and no other.

Of images arrays, of a table CSV files, a split each; dataset.json, written last, says what they are. They are written
block by block in a folder beside, which an interrupted run goes on with, and moved as a whole.
"""

import csv
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat, TypeAdapter
from typing_extensions import TypedDict

from keras_pipeline.core import files, process
from keras_pipeline.core.array_files import Expected, map_array
from keras_pipeline.core.errors import DataError
from keras_pipeline.core.json_files import Count, Digest, Line, Name, Size, read_json, refuse
from keras_pipeline.core.terminal import Progress
from keras_pipeline.sources.kinds.kind import Columns, Drawing, Examples, Kind, Split
from keras_pipeline.sources.source_files import SingleFile
from keras_pipeline.sources.text_tables import Dialect, read_columns, row_place, to_numbers, to_texts

if TYPE_CHECKING:
    from keras_pipeline.sources.kinds.kind import Images

FORMAT = 2
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
LEFT_OUT = 3
"""What an example is assigned that no split has, beside the index into SPLITS."""
JOURNAL_SECONDS = 5.0
"""How often what is written is flushed, so that an interrupted run can go on behind it."""
_HEADER_BYTES = 128
_ROWS = 8192
_SHOWN = 10


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


class Source(TypedDict):
    """Of what the examples were read. `sha256`: of the lines `SHA-256  path`; of downloads of their published
    digests."""

    files: Count
    bytes: Count
    sha256: Digest


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


def write_raw(
    folder: Path,
    name: str,
    dataset: Kind,
    examples: Examples,
    *,
    definition: str,
    source: Source | None = None,
) -> RawDescription:
    """Write all examples, each to its split, into `folder`, in the order that they have; dataset.json last.

    What an interrupted run of the same dataset and source left beside `folder` is gone on with. Raises DataError where
    the examples are not what the dataset file says, or a split is left without any; nothing in `folder` is touched
    then.
    """
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    if isinstance(examples.inputs, Columns):
        _begin(unfinished, "")
        assigned = assign(dataset, examples, examples.inputs)
        _check_counts(name, dataset, assigned)
        own: ImagesInput | TableInput = _write_table(unfinished, dataset, examples, examples.inputs, assigned)
    else:
        key = hashlib.sha256(json.dumps([FORMAT, name, definition, source]).encode()).hexdigest()
        own, assigned = _write_images(unfinished, key, name, dataset, examples, examples.inputs)
        _check_counts(name, dataset, assigned)
        _write_labels(unfinished, dataset, examples, assigned)
    _write_extra(unfinished, examples, assigned)
    counts = _counts(assigned)
    description: RawDescription = {
        "format": 2,
        "name": name,
        "title": dataset.title or name,
        "licence": dataset.licence,
        "definition": definition,
        "input": own,
        "class_names": list(dataset.classes),
        "drawing": _drawn(dataset.drawing),
        "preparation": examples.preparation,
        "images": counts,
        "left_out": int((assigned == LEFT_OUT).sum()),
        "source": source,
        "facts": dict(examples.facts),
        "origins": list(dataset.download.mirrors) if dataset.download else [],
        "files": {
            path.name: {"sha256": files.file_sha256(path), "bytes": path.stat().st_size}
            for path in sorted(unfinished.iterdir())
            if path.suffix in (".npy", ".csv")
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    files.clear_folder(folder)
    for file in description["files"]:
        (unfinished / file).replace(folder / file)
    files.write_json(folder / "dataset.json", description)
    shutil.rmtree(unfinished)
    return description


def _drawn(drawing: Drawing | None) -> Drawn | None:
    if drawing is None:
        return None
    return {"box": drawing.box, "centre": drawing.centre, "dark_border": drawing.dark_border}


def _counts(assigned: NDArray[np.uint8]) -> dict[Split, int]:
    counts = np.bincount(assigned, minlength=LEFT_OUT + 1)
    return {split: int(counts[index]) for index, split in enumerate(SPLITS) if counts[index]}


def _check_counts(name: str, dataset: Kind, assigned: NDArray[np.uint8]) -> None:
    counts = _counts(assigned)
    needed: tuple[Split, ...] = ("train", "test")
    for split in needed:
        if split not in counts:
            raise DataError(
                f"{name}: of {len(assigned):,} examples none is in the {split} split. Expected: one at least. Use "
                "another `splits.test`, or more examples."
            )
    for split in SPLITS if dataset.counts else ():
        count = getattr(dataset.counts, split)
        if count is not None and counts.get(split) != count:
            raise DataError(
                f"{name}: got {counts.get(split, 0):,} {split} examples. Expected: {count:,}, as `counts` of its "
                "dataset file has it. Mend it there, or use another source."
            )


# Which split an example is in.


def assign(dataset: Kind, examples: Examples, columns: Columns | None = None) -> NDArray[np.uint8]:
    """The index into SPLITS of each example: as its source has it; else by time, by the digest of its group or of its
    row. Where neither is given, of an image, which are of the test split its pixels tell: see `is_test`."""
    assigned = np.zeros(len(examples.labels), np.uint8)
    if examples.splits is not None:
        index = {split: number for number, split in enumerate(SPLITS)}
        assigned = np.fromiter((index[split] for split in examples.splits), np.uint8, len(examples.splits))
        if (assigned == SPLITS.index("test")).any():
            return assigned
    share, train = dataset.splits.test, assigned == 0
    if examples.times is not None:
        assigned[train & latest(examples.times, train, share)] = 2
    elif examples.groups is not None:
        chosen = {group: is_test(group.encode("utf-8", "surrogatepass"), share) for group in set(examples.groups)}
        assigned[train & np.fromiter((chosen[group] for group in examples.groups), bool, len(assigned))] = 2
    elif columns is not None:
        every = np.arange(len(assigned))
        for number, row in enumerate(_rows(columns, examples.labels.tolist(), every)):
            if train[number] and is_test(json.dumps(row).encode(), share):
                assigned[number] = 2
    return assigned


def by_pixels(examples: Examples) -> bool:
    """Whether the pixels of a training image tell if it belongs to the test split."""
    if examples.times is not None or examples.groups is not None:
        return False
    return examples.splits is None or "test" not in examples.splits


def is_test(content: bytes | memoryview, share: float) -> bool:
    """Whether what has this content is of the test split: its SHA-256, as a number from 0 to 1, is below the share. So
    nobody moves when examples are added, and copies stay together."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8]) < share * 2**64


def latest(times: NDArray[np.float64], among: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """Which of those `among` are the latest, about this share of them: examples of one time stay together."""
    own = np.sort(times[among])
    count = max(1, round(len(own) * share))
    bound = own[len(own) - count] if len(own) > count else np.inf
    chosen = times >= bound
    if not (among & ~chosen).any():  # all of them are of the time of the bound
        chosen = times > bound
    return among & chosen


# Images.


def _begin(unfinished: Path, key: str) -> int:
    """The folder to write in, and how many examples are in it already, from a run with the same key."""
    journal = unfinished / "journal.json"
    with_same = False
    try:
        found = json.loads(journal.read_bytes())
        with_same = bool(key) and found["key"] == key
        done = int(found["done"])
    except (OSError, ValueError, KeyError, TypeError):
        done = 0
    if not with_same:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        return 0
    return done


def _write_images(
    unfinished: Path, key: str, name: str, dataset: Kind, examples: Examples, inputs: "Images"
) -> tuple[ImagesInput, NDArray[np.uint8]]:
    assigned, shape = assign(dataset, examples), dataset.input_shape
    total, pixels_tell, share = len(assigned), by_pixels(examples), dataset.splits.test
    item = int(np.dtype(inputs.dtype).itemsize * np.prod(shape, dtype=np.int64))
    done = _begin(unfinished, key)
    if done:
        assigned[:done] = np.fromfile(unfinished / "assigned.bin", np.uint8, done)
        print(f"{name}: {done:,} of {total:,} images are there already; goes on behind them.", flush=True)
    written = [int((assigned[:done] == index).sum()) for index in range(len(SPLITS))]
    outs = [
        _open_array(unfinished / f"{split}_images.npy", count * item)
        for split, count in zip(SPLITS, written, strict=True)
    ]
    said = 0
    progress = Progress(f"{name}: reading", total, "image", done)
    flushed = time.monotonic()
    try:
        for images, reasons in inputs.blocks(done):
            if images.shape[1:] != shape or images.dtype.str != inputs.dtype or len(images) != len(reasons):
                raise ValueError(f"images of {images.dtype.str} {images.shape}, for {inputs.dtype} {shape}")
            own = assigned[done : done + len(images)]
            if len(own) < len(images):
                raise ValueError(f"more images than {total} labels")
            for index, reason in enumerate(reasons):
                if reason is not None:
                    own[index] = LEFT_OUT
                    said += 1
                    if said <= _SHOWN:
                        progress.print(f"{examples.places[done + index]}: left out: {reason}")
            images = np.ascontiguousarray(images)
            if pixels_tell:
                for index in map(int, np.flatnonzero(own == 0)):
                    if is_test(images[index].data.cast("B"), share):
                        own[index] = 2
            for index in range(len(SPLITS)):
                chosen = own == index
                if chosen.any():
                    outs[index].write((images if chosen.all() else images[chosen]).data)
                written[index] += int(chosen.sum())
            done += len(images)
            progress.advance(done)
            if time.monotonic() - flushed > JOURNAL_SECONDS:
                _flush(unfinished, key, outs, assigned, done)
                flushed = time.monotonic()
        if done != total:
            raise ValueError(f"{done} images for {total} labels")
    except (KeyboardInterrupt, OSError):
        with process.defer_signals():
            _flush(unfinished, key, outs, assigned, done)
        raise
    finally:
        progress.close()
    if said > _SHOWN:
        print(f"{name}: and {said - _SHOWN:,} more are left out.")
    for out, count in zip(outs, written, strict=True):
        with out:
            out.seek(0)
            out.write(_header(inputs.dtype, (count, *shape)))
            out.flush()
            os.fsync(out.fileno())
        if not count:
            Path(out.name).unlink()
    made: ImagesInput = {
        "kind": "images",
        "shape": list(shape),
        "dtype": inputs.dtype,  # type: ignore[typeddict-item]
        "low": inputs.low,
        "high": inputs.high,
    }
    return made, assigned


def _open_array(path: Path, size: int) -> BinaryIO:
    """A file of an array to write behind its first `size` bytes."""
    out = path.open("r+b" if path.exists() else "w+b")
    out.truncate(_HEADER_BYTES + size)
    out.seek(_HEADER_BYTES + size)
    return out


def _header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """That of a .npy file, always as long."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    length = _HEADER_BYTES - 10
    return b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + text.ljust(length - 1).encode() + b"\n"


def _flush(unfinished: Path, key: str, outs: Sequence[BinaryIO], assigned: NDArray[np.uint8], done: int) -> None:
    for out in outs:
        out.flush()
        os.fsync(out.fileno())
    files.write_atomically(unfinished / "assigned.bin", assigned[:done].tobytes())
    files.write_json(unfinished / "journal.json", {"key": key, "done": done})


def _write_labels(unfinished: Path, dataset: Kind, examples: Examples, assigned: NDArray[np.uint8]) -> None:
    labels = examples.labels
    if labels.dtype != np.int64:
        raise DataError("images with a number each are not read yet. Expected: classes. Name them in the dataset file.")
    for number in np.flatnonzero((labels < 0) | (labels >= len(dataset.classes)))[:1]:
        raise DataError(
            f"{examples.places[number]}: got the class number {labels[number]}. Expected: 0 to "
            f"{len(dataset.classes) - 1}. Mend the dataset file, or the labels."
        )
    for index, split in enumerate(SPLITS):
        own = labels[assigned == index]
        if len(own):
            _write_array(unfinished / f"{split}_labels.npy", own)


def _write_extra(unfinished: Path, examples: Examples, assigned: NDArray[np.uint8]) -> None:
    train = assigned == 0
    if examples.groups is not None:
        codes = {group: group_code(group) for group in set(examples.groups)}
        every = np.fromiter((codes[group] for group in examples.groups), np.int64, len(assigned))
        _write_array(unfinished / "train_groups.npy", every[train])
    if examples.times is not None:
        _write_array(unfinished / "train_times.npy", examples.times[train])


def group_code(group: str) -> int:
    """A number for a group, the same whatever other groups there are: of 64 bits of its SHA-256."""
    return int.from_bytes(hashlib.sha256(group.encode("utf-8", "surrogatepass")).digest()[:8], signed=True)


def _write_array(path: Path, array: NDArray[Any]) -> None:
    with path.open("wb") as out:
        out.write(_header(array.dtype.str, array.shape))
        out.write(np.ascontiguousarray(array).data)
        out.flush()
        os.fsync(out.fileno())


# Tables.


def _rows(columns: Columns, targets: Sequence[Any], chosen: NDArray[np.int64]) -> Iterator[tuple[str, ...]]:
    """The cells of the chosen rows, the target last; a gap is an empty one, a number so that it is read back
    exactly."""
    for start in range(0, len(chosen), _ROWS):
        block = chosen[start : start + _ROWS]
        texts = []
        for values in columns.values.values():
            if isinstance(values, list):
                texts.append([values[row] or "" for row in block.tolist()])
            else:
                texts.append([repr(value) if value == value else "" for value in values[block].tolist()])
        own = [targets[row] for row in block.tolist()]
        yield from zip(*texts, [value if isinstance(value, str) else repr(value) for value in own], strict=True)


def _write_table(
    unfinished: Path, dataset: Kind, examples: Examples, columns: Columns, assigned: NDArray[np.uint8]
) -> TableInput:
    labels = examples.labels.tolist()
    targets = [dataset.classes[label] for label in labels] if dataset.classes else labels
    for index, split in enumerate(SPLITS):
        chosen = np.flatnonzero(assigned == index)
        if not len(chosen):
            continue
        with (unfinished / f"{split}.csv").open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow([*columns.values, columns.target])
            writer.writerows(_rows(columns, targets, chosen))
            out.flush()
            os.fsync(out.fileno())
    return {
        "kind": "table",
        "columns": [
            {"name": name, "kind": "category" if isinstance(values, list) else "number"}
            for name, values in columns.values.items()
        ],
        "target": columns.target,
        "missing": columns.missing,
        "missing_values": list(columns.missing_values),
    }

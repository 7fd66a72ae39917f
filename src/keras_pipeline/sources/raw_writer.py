"""data/raw written: block by block, in a folder beside, which an interrupted run goes on with; moved as a whole."""

import csv
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.core import files, process
from keras_pipeline.core.errors import DataError
from keras_pipeline.core.terminal import Progress
from keras_pipeline.sources.assignment import (
    LEFT_OUT,
    SPLITS,
    assign,
    by_pixels,
    group_code,
    is_test,
    row_targets,
    rows_of,
)
from keras_pipeline.sources.kinds.kind import Columns, Drawing, Examples, Kind, Split
from keras_pipeline.sources.raw import Drawn, ImagesInput, RawDescription, TableInput
from keras_pipeline.sources.source_files import Source

if TYPE_CHECKING:
    from keras_pipeline.sources.kinds.kind import Images

FORMAT = 2
JOURNAL_SECONDS = 5.0
"""How often what is written is flushed, so that an interrupted run can go on behind it."""
_HEADER_BYTES = 128
TOLD_ROWS = 1 << 14
_SHOWN = 10


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
    if os.path.lexists(folder) and not folder.is_dir():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    if isinstance(examples.inputs, Columns):
        _begin(unfinished, "")
        assigned = assign(dataset, examples, examples.inputs)
        check_counts(name, dataset, assigned)
        own: ImagesInput | TableInput = _write_table(unfinished, name, dataset, examples, examples.inputs, assigned)
    else:
        key = hashlib.sha256(json.dumps([FORMAT, name, definition, source, dict(examples.facts)]).encode()).hexdigest()
        own, assigned = _write_images(unfinished, key, name, dataset, examples, examples.inputs)
        check_counts(name, dataset, assigned)
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
        _move(unfinished / file, folder / file)
    files.write_json(folder / "dataset.json", description)
    shutil.rmtree(unfinished)
    return description


def _move(path: Path, to: Path) -> None:
    """Also to another disk, which `to` may be on."""
    try:
        path.replace(to)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with path.open("rb") as content, files.writing_atomically(to, path.stat().st_size) as file:
            shutil.copyfileobj(content, file)
        path.unlink()


def _drawn(drawing: Drawing | None) -> Drawn | None:
    if drawing is None:
        return None
    return {"box": drawing.box, "centre": drawing.centre, "dark_border": drawing.dark_border}


def _counts(assigned: NDArray[np.uint8]) -> dict[Split, int]:
    counts = np.bincount(assigned, minlength=LEFT_OUT + 1)
    return {split: int(counts[index]) for index, split in enumerate(SPLITS) if counts[index]}


def check_counts(name: str, dataset: Kind, assigned: NDArray[np.uint8]) -> None:
    """Raise DataError where a split has no example, or not as many as the dataset file says."""
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


# Images.


def _begin(unfinished: Path, key: str, item: int = 0) -> NDArray[np.uint8]:
    """The folder to write in, and what the examples are assigned that are in it already, as a run with the same key
    left it, with images of `item` bytes; none otherwise."""
    try:
        journal = json.loads((unfinished / "journal.json").read_bytes())
        assigned = np.fromfile(unfinished / "assigned.bin", np.uint8)
        good = bool(key) and (journal["key"], journal["done"]) == (key, len(assigned))
        for index, split in enumerate(SPLITS):
            size = (unfinished / f"{split}_images.npy").stat().st_size
            good = good and size >= _HEADER_BYTES + item * int((assigned == index).sum())
    except (OSError, ValueError, KeyError, TypeError):
        good = False
    if good:
        return assigned
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    return np.empty(0, np.uint8)


def _write_images(
    unfinished: Path, key: str, name: str, dataset: Kind, examples: Examples, inputs: "Images"
) -> tuple[ImagesInput, NDArray[np.uint8]]:
    assigned, shape = assign(dataset, examples), dataset.input_shape
    item = int(np.dtype(inputs.dtype).itemsize * np.prod(shape, dtype=np.int64))
    before = _begin(unfinished, key, item)
    done = len(before)
    if done:
        assigned[:done] = before
        print(f"{name}: {done:,} of {len(assigned):,} images are there already; goes on behind them.", flush=True)
    progress = Progress(f"{name}: reading", len(assigned), "image", done)
    with ExitStack() as stack:
        stack.callback(progress.close)
        stack.enter_context(files.named_faults(unfinished, item * len(assigned)))
        paths = {index: unfinished / f"{split}_images.npy" for index, split in enumerate(SPLITS)}
        counts = {index: int((assigned[:done] == index).sum()) for index in paths}
        outs = {index: stack.enter_context(_open_array(path, counts[index] * item)) for index, path in paths.items()}
        try:
            blocks = _append_blocks(dataset, examples, inputs, assigned, done, outs, progress)
            for done, flushing in blocks:
                if flushing:
                    _flush(unfinished, key, outs.values(), assigned, done)
        except (KeyboardInterrupt, OSError):
            with process.defer_signals(), suppress(OSError):
                _flush(unfinished, key, outs.values(), assigned, done)
            raise
        except BaseException:
            shutil.rmtree(unfinished)
            raise
        for index, out in outs.items():
            out.seek(0)
            _append(out, _header(inputs.dtype, (int((assigned == index).sum()), *shape)))
            os.fsync(out.fileno())
            if not (assigned == index).any():
                paths[index].unlink()
    made: ImagesInput = {
        "kind": "images",
        "shape": list(shape),
        "dtype": inputs.dtype,  # type: ignore[typeddict-item]
        "low": inputs.low,
        "high": inputs.high,
    }
    return made, assigned


def _append_blocks(
    dataset: Kind, examples: Examples, inputs: "Images", assigned: NDArray[np.uint8], done: int,
    outs: Mapping[int, BinaryIO], progress: Progress,
) -> Iterator[tuple[int, bool]]:  # fmt: skip
    """Write all images from the one with the number `done` on; how many are done then, and whether it is time to flush.
    Completes `assigned`."""
    pixels_tell, share, left_out, flushed = by_pixels(examples), dataset.splits.test, 0, time.monotonic()
    for block, reasons in inputs.blocks(done):
        images = np.ascontiguousarray(block)
        own = assigned[done : done + len(images)]
        if (images.dtype.str, images.shape) != (inputs.dtype, (len(own), *dataset.input_shape)):
            raise ValueError(f"{images.dtype.str} {images.shape}, not {inputs.dtype} {dataset.input_shape}")
        for index, reason in enumerate(reasons):
            if reason is not None:
                own[index] = LEFT_OUT
                left_out += 1
                if left_out <= _SHOWN:
                    progress.print(f"{examples.places[done + index]}: left out: {reason}")
        for index in map(int, np.flatnonzero(own == 0)) if pixels_tell else ():
            if is_test(images[index].data.cast("B"), share):
                own[index] = SPLITS.index("test")
        for index, out in outs.items():
            chosen = own == index
            if chosen.any():
                _append(out, (images if chosen.all() else images[chosen]).data.cast("B"))
        done += len(images)
        progress.advance(done)
        late = time.monotonic() - flushed > JOURNAL_SECONDS
        yield done, late
        flushed = time.monotonic() if late else flushed
    if done != len(assigned):
        raise ValueError(f"{done} images for {len(assigned)} labels")
    if left_out > _SHOWN:
        progress.print(f"and {left_out - _SHOWN:,} more are left out")


def _open_array(path: Path, size: int) -> BinaryIO:
    """A file of an array to write behind its first `size` bytes."""
    out = cast(BinaryIO, path.open("r+b" if path.exists() else "w+b", buffering=0))
    out.truncate(_HEADER_BYTES + size)
    out.seek(_HEADER_BYTES + size)
    return out


def _append(out: BinaryIO, content: bytes | memoryview) -> None:
    view = memoryview(content)
    while view:
        view = view[out.write(view) :]


def _header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """That of a .npy file, always as long."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    length = _HEADER_BYTES - 10
    return b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + text.ljust(length - 1).encode() + b"\n"


def _flush(unfinished: Path, key: str, outs: Iterable[BinaryIO], assigned: NDArray[np.uint8], done: int) -> None:
    for out in outs:
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


def _write_array(path: Path, array: NDArray[Any]) -> None:
    with path.open("wb") as out:
        out.write(_header(array.dtype.str, array.shape))
        out.write(np.ascontiguousarray(array).data)
        out.flush()
        os.fsync(out.fileno())


# Tables.


def _write_table(
    unfinished: Path, name: str, dataset: Kind, examples: Examples, columns: Columns, assigned: NDArray[np.uint8]
) -> TableInput:
    targets = row_targets(dataset, examples)
    progress, done = Progress(f"{name}: writing", len(assigned), "row"), 0
    for index, split in enumerate(SPLITS):
        chosen = np.flatnonzero(assigned == index)
        if not len(chosen):
            continue
        with (unfinished / f"{split}.csv").open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow([*columns.values, columns.target])
            for start in range(0, len(chosen), TOLD_ROWS):
                some = chosen[start : start + TOLD_ROWS]
                writer.writerows(rows_of(columns, targets, some))
                done += len(some)
                progress.advance(done)
            out.flush()
            os.fsync(out.fileno())
    progress.close()
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

"""Checkpoints: what an interrupted training goes on from, each complete or invisible.

A file: 32 bytes of SHA-256 over all that follows; 8 bytes, little-endian, the length of the manifest; the manifest,
JSON {"format": 1, "identity", "progress", "arrays": [[name, dtype, shape], …]}; the bytes of the arrays in turn.

A file is written under another name and renamed when complete, so a process may be killed at any moment. It is not
flushed to disk: that can cost more than all the rest and helps against a power cut only. After one, files of the
last half minute may be torn; their digest tells, and the other generation is used, or none if that is as young.

Beside the checkpoints stands run.json: which run the training is, from its very beginning.
"""

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat, TypeAdapter
from typing_extensions import TypedDict

from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError
from keras_pipeline.core.json_files import Count, Key, Line, Moment, Seconds, check_type, read_json, refuse

FORMAT = 1
GENERATIONS = 2
KEPT_TRAININGS = 4
RUN_FILE = "run.json"


class TrainingRun(TypedDict):
    """What is kept of a training before it has any checkpoint: of its record, and on which devices it may go on."""

    key: Key
    started: Moment
    resumed: list[Line]
    devices: list[Line]


class SavedProgress(TrainingRun):
    """The progress that is kept with a checkpoint: where the training stands, its epochs' rows, and seconds so far."""

    epoch: Count
    step: Count
    seconds: Seconds
    history: list[dict[str, FiniteFloat]]


TRAINING_RUN = TypeAdapter(TrainingRun)
SAVED_PROGRESS = TypeAdapter(SavedProgress)


def check_progress(progress: Any) -> None:
    """Raise ValueError, with the place, where no training can go on from it."""
    check_type(progress, SAVED_PROGRESS)
    if [row.get("epoch") for row in progress["history"]] != list(range(1, progress["epoch"] + 1)):
        refuse("history", progress["history"], f"a row for each of {progress['epoch']} epochs")


class Checkpoints:
    """The checkpoints of one training, saved by one process at a time: two generations, in a folder of their own."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """`folder`: of all trainings; `identity`: what decides the result, JSON values, nested at will, no NaN.

        The identity's digest names the training's own folder. Nothing is created before the first save.
        """
        canonical = _canonical(identity)
        self.folder = folder
        self.identity: dict[str, Any] = json.loads(canonical)
        self.own = folder / hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def begin(self, run: Mapping[str, Any]) -> None:
        """Keep which run the training is, JSON values with a "key", before it has any checkpoint. Raises OSError."""
        files.write_json(self.own / RUN_FILE, run)

    def begun(self) -> dict[str, Any] | None:
        """What `begin` was told of a training that ended before its first checkpoint; None for any other."""
        if not _newest_first(self.own):
            with suppress(OSError, DataError):
                begun = read_json(self.own / RUN_FILE, TRAINING_RUN, "train")
                return {**begun}
        return None

    def save(self, arrays: Mapping[str, NDArray[Any]], progress: Mapping[str, Any]) -> None:
        """Add a generation and remove all but the newest two; folders that are missing are created.

        The first generation of a training also removes the folders of other trainings until the newest
        KEPT_TRAININGS are left, this one among them. Raises OSError (disk full, no permission) with the old
        generations intact and no temporary file left, ValueError for NaN in `progress` or an array that is not
        plain bytes in the machine's byte order.
        """
        parts = _content(self.identity, arrays, progress)
        digest = hashlib.sha256()
        self.own.mkdir(parents=True, exist_ok=True)
        before = _newest_first(self.own)
        number = int(before[0].stem) + 1 if before else 1
        temporary = self.own / "temporary"  # one name for all, so that a save takes away what a killed one left
        size = sum(memoryview(part).nbytes for part in parts)
        try:
            with files.named_faults(temporary, size), temporary.open("wb") as file:
                file.seek(digest.digest_size)
                for part in parts:
                    digest.update(part)
                    file.write(part)
                file.seek(0)
                file.write(digest.digest())
            temporary.rename(self.own / f"{number:08d}.checkpoint")
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        for old in before[GENERATIONS - 1 :]:
            old.unlink(missing_ok=True)
        if not before:
            for training in self._others()[KEPT_TRAININGS - 1 :]:
                with suppress(OSError):
                    _remove(training)

    def latest(
        self, check: Callable[[Any], None] = lambda _: None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """The arrays and the progress of the newest usable generation; None where there is none.

        `check` raises ValueError for a progress that is of no use.

        Damaged files, and those of another format or identity, are passed over, each with a line on standard
        error that says so and what is done instead. Arrays come back with the same dtype, shape and bits; NumPy
        knows bfloat16 once ml_dtypes is imported, as Keras does.
        """
        paths = _newest_first(self.own)
        for tried, path in enumerate(paths, 1):
            try:
                arrays, progress = self._load(path)
                check(progress)
                return arrays, progress
            except Exception as error:  # whatever a file that is not ours makes the reading of it raise
                reason = str(error).strip().split("\n")[0] or type(error).__name__
                older = f"{paths[tried].name} is tried instead" if tried < len(paths) else "the training starts over"
                print(f"{path}: not used: {reason}; {older}.", file=sys.stderr, flush=True)
        return None

    def differences(self) -> list[str]:
        """Why there is nothing to resume from: what differs from the newest checkpoint of another training.

        At most 10 entries such as "params.train.epochs: 20 there, 10 here"; digests are shortened. Empty where
        this training has a checkpoint or no other has.
        """
        if _newest_first(self.own):
            return []
        here = _leaves(self.identity)
        for path in (path for training in self._others() for path in _newest_first(training)):
            with suppress(Exception), path.open("rb") as file:  # a damaged one of another training tells nothing
                there = _leaves(_manifest(file)["identity"])
                keys = [key for key in {**here, **there} if here.get(key) != there.get(key)]
                return [f"{key}: {_shown(there.get(key))} there, {_shown(here.get(key))} here" for key in keys[:10]]
        return []

    def remove(self) -> None:
        """Remove the training's folder, if it is there: the training is done."""
        with suppress(FileNotFoundError):
            _remove(self.own)

    def _load(self, path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        with path.open("rb") as file:
            manifest = _manifest(file)
            if _canonical(manifest["identity"]) != _canonical(self.identity):
                raise ValueError("it belongs to a training with other params, data, code or versions")
            arrays = {}
            for name, kind, shape in manifest["arrays"]:
                arrays[name] = np.empty(shape, np.dtype(kind))
                if file.readinto(_bytes(arrays[name])) != arrays[name].nbytes:
                    raise ValueError(f"it ends within the array {name}")
            return arrays, manifest["progress"]

    def _others(self) -> list[Path]:
        """The folders of other trainings, the one saved to last first."""
        times = {}
        for path in self.folder.glob("[0-9a-f]" * 16):
            if path != self.own and path.is_dir():
                with suppress(FileNotFoundError):  # another training may remove it just now
                    times[path] = path.stat().st_mtime_ns
        return sorted(times, key=lambda path: times[path], reverse=True)


def remove_checkpoints(folder: Path, key: str) -> None:
    """Remove from the folder of all trainings that whose run has this key, if it is there: it is done, and what came of
    it is kept elsewhere. One that cannot be removed is said in a line on standard error."""
    for path in folder.glob(f"{'[0-9a-f]' * 16}/{RUN_FILE}"):
        try:
            if read_json(path, TRAINING_RUN, "train")["key"] == key:
                _remove(path.parent)
        except DataError:
            continue  # torn: nobody's
        except OSError as error:
            print(f"{path.parent}: cannot be removed ({error.strerror}); it is of no more use", file=sys.stderr)


def _remove(training: Path) -> None:
    """All or nothing of it is seen, also after a kill in the middle: its run without its checkpoints would go on with
    none of its epochs."""
    gone = training.with_suffix(".removed")
    shutil.rmtree(gone, ignore_errors=True)
    training.rename(gone)
    shutil.rmtree(gone)


def _newest_first(training: Path) -> list[Path]:
    return sorted(training.glob("[0-9]" * 8 + ".checkpoint"), reverse=True)


def _content(
    identity: dict[str, Any], arrays: Mapping[str, NDArray[Any]], progress: Mapping[str, Any]
) -> list[bytes | memoryview]:
    """What follows the digest, in parts, so that the arrays are hashed and written where they are."""
    for name, array in arrays.items():
        if array.dtype.hasobject or array.dtype != array.dtype.name:
            raise ValueError(f"array {name}: {array.dtype!r} cannot be saved. Expected: plain numbers.")
    described = [[name, array.dtype.name, array.shape] for name, array in arrays.items()]
    values = {"format": FORMAT, "identity": identity, "progress": progress, "arrays": described}
    manifest = json.dumps(values, allow_nan=False).encode()
    return [len(manifest).to_bytes(8, "little"), manifest, *(_bytes(array) for array in arrays.values())]


def _manifest(file: BufferedReader) -> dict[str, Any]:
    """The manifest of a checkpoint of which every byte was checked first; the file then stands at the arrays."""
    digest = file.read(32)
    if hashlib.file_digest(file, "sha256").digest() != digest:
        raise ValueError("it is damaged, its bytes are not those that were written")
    file.seek(len(digest))
    manifest: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    if manifest["format"] != FORMAT:
        raise ValueError(f"it has format {manifest['format']}, expected {FORMAT}")
    return manifest


def _bytes(array: NDArray[Any]) -> memoryview:
    """The array's bytes in C order, not copied wherever the array lies in that order."""
    return np.asarray(array, order="C").reshape(-1).view(np.uint8).data


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _leaves(value: Any, key: str = "") -> dict[str, str]:
    """Each value as JSON by its dotted key: 1, 1.0, true and "1" are four."""
    if not isinstance(value, dict) or not value:
        return {key: _canonical(value)}
    inner = [_leaves(part, f"{key}.{name}" if key else name) for name, part in value.items()]
    return {name: leaf for leaves in inner for name, leaf in leaves.items()}


def _shown(leaf: str | None) -> str:
    """A leaf for a message: digests by their first 12 digits."""
    if leaf is None:
        return "not given"
    return leaf[1:13] if re.fullmatch(r'"[0-9a-f]{32,}"', leaf) else leaf

"""What is done to a pipeline's files by the catalogue of faults: each public function is a word of it."""

import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def flip(path: Path) -> None:
    """One bit in the middle is another one."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut(path: Path) -> None:
    """The second half is gone."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path: Path) -> None:
    """Nothing is in it."""
    path.write_bytes(b"")


def remove(path: Path) -> None:
    """It is gone, with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def folder(path: Path) -> None:
    """A folder is in its place."""
    if path.exists():
        remove(path)
    path.mkdir(parents=True)


def file(path: Path) -> None:
    """A file is in its place."""
    if path.exists():
        remove(path)
    path.write_bytes(b"a file\n")


def pipe(path: Path) -> None:
    """A pipe is in its place, which nobody writes into."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def link(path: Path, target: str) -> None:
    """A symbolic link is in its place."""
    if path.exists():
        remove(path)
    path.symlink_to(target)


def write(path: Path, text: str) -> None:
    """It holds this text; an escape stands for its character."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode().decode("unicode_escape").encode("latin-1"))


def edit(path: Path, old: str, new: str) -> None:
    """A text of it is another one."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path.name} has no {old!r}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def key(path: Path, name: str, value: str) -> None:
    """A value of a JSON file, at its dotted name, is this JSON."""
    content = json.loads(path.read_text(encoding="utf-8"))
    *blocks, last = name.split("/")
    block: Any = content
    for one in blocks:
        block = block[one]
    if value == "gone":
        del block[last]
    else:
        block[last] = json.loads(value)
    path.write_text(json.dumps(content), encoding="utf-8")


def array(path: Path, change: str) -> None:
    """A .npy file with other values, or in another form, with its digest in statistics.json changed alike."""
    before = np.load(path)
    numbers = np.arange(before.size).reshape(before.shape)
    changed: dict[str, Callable[[], Any]] = {
        "not-finite": lambda: np.where(numbers == before.size // 2, np.nan, before),
        "float64": lambda: before.astype(np.float64),
        "big-endian": lambda: before.astype(before.dtype.newbyteorder(">")),
        "columns-first": lambda: np.asfortranarray(before),
        "one-fewer": lambda: before[1:],
        "flat": lambda: before.reshape(len(before), -1),
        "negative": lambda: np.where(numbers == 3, -1, before),
        "eleventh-class": lambda: np.where(numbers == 3, 10, before),
        "pickled": lambda: before.astype(object),
    }
    np.save(path, changed[change](), allow_pickle=change == "pickled")
    _known_as_written(path)


def mode(path: Path, octal: str) -> None:
    """Its permissions are these."""
    path.chmod(int(octal, 8))


def copy(path: Path, to: str) -> None:
    """Another one is the same as it, byte for byte."""
    shutil.copy(path, path.parent / to)


def litert(path: Path, *formats: str) -> None:
    """A folder of exports with a small network as these LiteRT files, by their names in params.yaml."""
    import made_litert

    made_litert.exported_folder(path, *formats)


def _known_as_written(path: Path) -> None:
    from keras_pipeline.core.files import file_sha256

    statistics = path.parent / "statistics.json"
    content = json.loads(statistics.read_text(encoding="utf-8"))
    content["sha256"][path.name] = file_sha256(path)
    statistics.write_text(json.dumps(content), encoding="utf-8")


OWN = [one for one in vars().values() if callable(one) and one.__module__ == __name__]
WORDS = {one.__name__: one for one in OWN if not one.__name__.startswith("_")}


def do(text: str, root: Path) -> None:
    """What a line of the catalogue says, in a project's folder."""
    word, path, *arguments = shlex.split(text)
    WORDS[word](root / path, *arguments)

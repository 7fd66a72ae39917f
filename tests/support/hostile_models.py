"""Files that somebody else may put in place of a network's, each of which does harm to whoever reads more than numbers.

Its harm: a canary is opened, a pipe, on which a reader in C would wait for ever; an address is called; or a class runs.
As a program it reads every file of a folder by `read_weights` and tells what came of it; what Python's own audit tells
of canaries, sockets, programs and classes of a pickle is told too.
"""

import base64
import io
import json
import marshal
import os
import pickle
import resource
import stat
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3)
CANARY = "canary"
ADDRESS = "http://127.0.0.1:9/canary"
LIMIT = 2**31
"""Bytes of addresses that the program may use."""
FORBIDDEN = ("socket.connect", "subprocess.Popen", "os.system", "os.exec", "os.mkdir", "pickle.find_class")


def hdf5(change: Callable[[Any], object] = lambda file: None) -> bytes:
    """The member with the numbers, changed."""
    import h5py

    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["layers/dense/vars/0"] = KERNEL
        file.create_group("optimizer")
        change(file)
    return content.getvalue()


def keras_file(numbers: bytes | None = None, config: Any = None, **more: bytes) -> bytes:
    """As the stage train writes one, with this config, these numbers and more members."""
    content = io.BytesIO()
    members = {"config.json": json.dumps(config or {}).encode(), "metadata.json": b"{}"}
    members |= {"model.weights.h5": hdf5() if numbers is None else numbers, **more}
    with zipfile.ZipFile(content, "w") as file:
        for name, held in members.items():
            file.writestr(zipfile.ZipInfo(name), held)
    return content.getvalue()


def layer(kind: str, module: str = "keras.layers", **config: Any) -> dict[str, Any]:
    """The config of a network of this one layer."""
    one = {"module": module, "class_name": kind, "config": {"name": "layer", **config}}
    return {"module": "keras", "class_name": "Sequential", "config": {"name": "network", "layers": [one]}}


class Harm:
    """An object whose pickle writes the canary's name into a file when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (f"{CANARY}-of-a-pickle",)


def _function() -> str:
    code = compile(f"lambda x: open({CANARY!r}).read() or x", "harm", "eval").co_consts[0]
    return base64.b64encode(marshal.dumps(code)).decode()


def _symlink() -> bytes:
    content = io.BytesIO(keras_file())
    with zipfile.ZipFile(content, "a") as file:
        link = zipfile.ZipInfo("assets")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, CANARY)
    return content.getvalue()


def _many_entries() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for number in range(100_000):
            file.writestr(zipfile.ZipInfo(f"{number}"), b"")
    return content.getvalue()


def _overlapping() -> bytes:
    """Where the member with the numbers begins, another one begins too."""
    made = keras_file()
    with zipfile.ZipFile(io.BytesIO(made)) as file:
        first, _, numbers = (one.header_offset for one in file.infolist())
    place = made.rindex(b"PK\x01\x02") + 42  # where the central directory says it begins
    assert int.from_bytes(made[place : place + 4], "little") == numbers
    return made[:place] + first.to_bytes(4, "little") + made[place + 4 :]


def _arrays(objects: Any) -> bytes:
    content = io.BytesIO()
    np.savez(content, objects=objects)
    return content.getvalue()


def files(folder: Path) -> dict[str, bytes]:
    """Every hostile file by the row of the catalogue of faults and a name; `folder`: where the canary is."""
    import h5py

    canary = str(folder / CANARY)

    def virtual(file: Any) -> None:
        layout = h5py.VirtualLayout((2, 3), np.float32)
        layout[:] = h5py.VirtualSource(canary, "secret", (2, 3))
        file.create_virtual_dataset("out", layout)

    def link(file: Any) -> None:
        file["out"] = h5py.ExternalLink(canary, "secret")

    def data(file: Any) -> None:
        file.create_dataset("out", (2, 3), np.float32, external=[(canary, 0, 24)])

    def old_format(file: Any) -> None:
        file.attrs["model_config"] = json.dumps(layer("Lambda", function=[_function(), None, None]))

    code = {"class_name": "__lambda__", "config": {"code": _function()}}
    return {
        "J1 function": keras_file(config=layer("Lambda", function=code)),
        "J1 any class": keras_file(config=layer("Popen", "subprocess", args=["touch", canary])),
        "J2 SavedModel": keras_file(config=layer("TFSMLayer", filepath=canary)),
        "J3 path": keras_file(config=layer("StringLookup", vocabulary=canary)),
        "J3 address": keras_file(config=layer("TextVectorization", vocabulary=ADDRESS)),
        "J4 HDF5": hdf5(old_format),
        "J5 external link": keras_file(hdf5(link)),
        "J5 external data": keras_file(hdf5(data)),
        "J5 virtual data": keras_file(hdf5(virtual)),
        "J6 shape": keras_file(hdf5(lambda file: file.create_dataset("out", (2**30, 2**10), np.float32))),
        "J6 chunks": keras_file(
            hdf5(lambda file: file.create_dataset("out", (2**15, 2**15), np.float32, chunks=(1024, 1024)))
        ),
        "J7 upwards": keras_file(**{"../canary": b""}),
        "J7 absolute": keras_file(**{canary: b""}),
        "J7 backslash": keras_file(**{"..\\canary": b""}),
        "J7 symbolic link": _symlink(),
        "J8 many entries": _many_entries(),
        "J8 overlapping": _overlapping(),
        "J9 deep": keras_file(config=json.loads("[" * 500 + "]" * 500)),
        "J9 NaN": keras_file(config={"a": float("nan")}),
        "J10 pickle": pickle.dumps(Harm()),
        "J10 npz": _arrays(np.array([Harm()], object)),
    }


def write(folder: Path) -> list[str]:
    """All of them, and the canary, in a new folder; their names."""
    folder.mkdir()
    os.mkfifo(folder / CANARY)
    made = files(folder)
    for name, content in made.items():
        (folder / name).write_bytes(content)
    return list(made)


def flipped(content: bytes, count: int) -> Any:
    """So many times these bytes with one to four bits flipped, the same ones every time."""
    chance = np.random.default_rng(1)
    for _ in range(count):
        changed = bytearray(content)
        for place in chance.integers(0, 8 * len(content), chance.integers(1, 5)):
            changed[place // 8] ^= 1 << (place % 8)
        yield bytes(changed)


def main() -> None:
    folder, flips = Path(sys.argv[1]), int(sys.argv[2])
    from keras_pipeline.core.errors import ModelFileError
    from keras_pipeline.models.weights_file import read_weights

    os.chdir(folder)
    (folder / "first").write_bytes(keras_file())
    read_weights(folder / "first")  # what it imports may be imported
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    seen: list[str] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(FORBIDDEN) or (event == "open" and CANARY in str(arguments[0])):
            seen.append(f"{event} {arguments}")

    sys.addaudithook(watch)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told: dict[str, Any] = {}

    def read(path: Path) -> str:
        try:
            return f"read: {', '.join(read_weights(path))}"
        except ModelFileError as refused:
            return f"refused: {refused}"

    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name != "first":
            told[path.name] = read(path)
    told["memory"] = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    told["flipped"] = {"read": 0, "refused": 0}
    for content in flipped(keras_file(), flips):
        (folder / "first").write_bytes(content)
        told["flipped"][read(folder / "first").partition(":")[0]] += 1
    told["seen"] = seen
    print(json.dumps(told))


if __name__ == "__main__":
    main()

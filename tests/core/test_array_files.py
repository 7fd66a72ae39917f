"""An array is read as exactly the one that is expected, and nothing is allocated for what a file only claims."""

import contextlib
import io
import os
import re
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_pipeline.core.array_files import Expected, map_array, read_arrays
from keras_pipeline.core.errors import DataError

ARRAY = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
EXPECTED = Expected("<f4", (4, 3, 2))
MEMBERS = {"outputs": EXPECTED, "labels": Expected("<i8", (4,)), "penalty": Expected("<f8", ())}
ARRAYS: dict[str, Any] = {"outputs": ARRAY, "labels": np.arange(4), "penalty": np.float64(0.5)}


def npy(array: Any, **options: Any) -> bytes:
    content = io.BytesIO()
    np.save(content, array, **options)
    return content.getvalue()


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    """A .npy file that says this of itself, without numbers."""
    return b"\x93NUMPY" + version + len(text).to_bytes(2 if version[0] == 1 else 4, "little") + text.encode()


READER = "no array of NumPy ("
"""What NumPy says of it follows, in a line, and a bracket."""
OTHERS: list[tuple[bytes, str]] = [
    (npy(ARRAY.astype(np.float64)), "<f8 of the shape (4, 3, 2)"),
    (npy(ARRAY.astype(">f4")), ">f4 of the shape (4, 3, 2)"),
    (npy(ARRAY.astype(np.int32)), "<i4 of the shape (4, 3, 2)"),
    (npy(np.asfortranarray(ARRAY)), "<f4 of the shape (4, 3, 2), in the order of columns"),
    (npy(ARRAY[:3]), "<f4 of the shape (3, 3, 2)"),
    (npy(ARRAY.reshape(4, 6)), "<f4 of the shape (4, 6)"),
    (npy(np.array([{}]), allow_pickle=True), "|O of the shape (1,)"),
    (npy(np.array(["text"])), "<U4 of the shape (1,)"),
    (npy(np.zeros(4, [("a", "<f4")])), "|V4 of the shape (4,)"),
    (npy(ARRAY)[:-1], "95 bytes of numbers"),
    (npy(ARRAY) + b"\0", "97 bytes of numbers"),
    (npy(ARRAY)[:20], READER),
    (b"", READER),
    (b"PK\x03\x04", READER),
    (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 9999999999), }"),
        "<f4 of the shape (99999999999, 9999999999)",
    ),
    (header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"), "<f4 of the shape (-1,)"),
    (header("__import__('os').system('touch canary')"), READER),
    (header("(" * 5000), READER),
    (header("{" + "x" * 2000), READER),
    (header(" " * 65000), READER),
    (header("{}", b"\x09\x00"), "no array of NumPy (version (9, 0))"),
]


def told(name: str, found: str, stage: str) -> str:
    """The whole message of the array `outputs`, as a pattern."""
    expected = "96" if "bytes" in found else "<f4 of the shape (4, 3, 2)"
    words = re.escape(found) + (r"[^\n]{10,80}\)" if found == READER else "")
    end = f". Expected: {expected}. The stage '{stage}' writes it: delete it and run `dvc repro {stage}`."
    return f"^{re.escape(name)}: got {words}{re.escape(end)}$"


@pytest.mark.parametrize(("content", "found"), OTHERS)
def test_another_array_is_refused_with_what_it_is(
    content: bytes, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.npy").write_bytes(content)
    with zipfile.ZipFile("x.npz", "w") as archive:
        for name, array in ARRAYS.items():
            archive.writestr(f"{name}.npy", content if name == "outputs" else npy(array))
    tracemalloc.start()
    with pytest.raises(DataError, match=told("x.npy", found, "normalize")):
        map_array(Path("x.npy"), EXPECTED, "normalize")
    found = found.replace("97", "more than 96")  # no more is unpacked
    with pytest.raises(DataError, match=told("x.npz: outputs", found, "evaluate")):
        read_arrays(Path("x.npz"), MEMBERS, "evaluate")
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()
    assert not Path("canary").exists()


def test_the_array_that_is_expected_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", ARRAY)
    np.testing.assert_array_equal(map_array(tmp_path / "x.npy", EXPECTED, "normalize"), ARRAY)
    np.save(tmp_path / "empty.npy", np.zeros((0, 3), np.float32))
    empty = map_array(tmp_path / "empty.npy", Expected("<f4", (0, 3)), "normalize")
    assert (empty.shape, empty.dtype) == ((0, 3), np.float32)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", **ARRAYS)
        read = read_arrays(tmp_path / "x.npz", MEMBERS, "evaluate")
        assert read.keys() == MEMBERS.keys()
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(read[name], array)
    np.savez(tmp_path / "x.npz", outputs=ARRAY)
    assert list(read_arrays(tmp_path / "x.npz", MEMBERS, "evaluate", optional=["labels", "penalty"])) == ["outputs"]


def pack(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, member in members:
            archive.writestr(name, member)
    return content.getvalue()


WHOLE = [(f"{name}.npy", npy(array)) for name, array in ARRAYS.items()]


NAMES = "Expected: labels.npy, outputs.npy, penalty.npy"
DAMAGED = "damaged data (File is not a zip file). Expected: arrays of NumPy"


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("content", "found"),
    [
        (
            lambda: pack(*WHOLE, WHOLE[0]),
            "the members outputs.npy, labels.npy, penalty.npy, outputs.npy. Expected: each once",
        ),
        (lambda: pack(*WHOLE, ("../x.npy", b"")), f"'outputs.npy', 'labels.npy', 'penalty.npy', '../x.npy'. {NAMES}"),
        (lambda: pack(*WHOLE, ("more.npy", b"")), f"'outputs.npy', 'labels.npy', 'penalty.npy', 'more.npy'. {NAMES}"),
        (lambda: pack(*WHOLE[:2]), f"'outputs.npy', 'labels.npy'. {NAMES}"),
        (lambda: pack(), f"nothing. {NAMES}"),
        (
            lambda: pack(("outputs.npy", npy(ARRAY) + bytes(10**8)), *WHOLE[1:], compression=zipfile.ZIP_DEFLATED),
            "outputs: got more than 96 bytes of numbers. Expected: 96",
        ),
        (lambda: pack(*WHOLE, compression=zipfile.ZIP_BZIP2)[:-60], DAMAGED),
        (
            lambda: flipped(pack(*WHOLE), 200),
            "outputs: got no array of NumPy (Bad CRC-32 for file 'outputs.npy'). Expected: <f4 of the shape (4, 3, 2)",
        ),
        (lambda: pack(*WHOLE)[:-1], DAMAGED),
        (lambda: b"", DAMAGED),
    ],
)
def test_an_archive_that_plays_tricks_is_refused(content: Callable[[], bytes], found: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content())
    tracemalloc.start()
    with pytest.raises(DataError) as refused:
        read_arrays(path, MEMBERS, "evaluate")
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()
    end = "The stage 'evaluate' writes it: delete it and run `dvc repro evaluate`."
    assert str(refused.value) == f"{path}: {'' if found.startswith('outputs:') else 'got '}{found}. {end}"


def test_every_bit_of_an_archive_may_be_another_one(tmp_path: Path) -> None:
    """Each is the same arrays, or refused."""
    content = pack(*WHOLE)
    same = 0
    for position in range(len(content)):
        (tmp_path / "x.npz").write_bytes(flipped(content, position))
        with contextlib.suppress(DataError):
            read = read_arrays(tmp_path / "x.npz", MEMBERS, "evaluate")
            same += 1
            for name, array in ARRAYS.items():
                np.testing.assert_array_equal(read[name], array)
    assert same < len(content) / 3


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.npy")
    for read in (lambda path: map_array(path, EXPECTED, "normalize"), lambda path: read_arrays(path, {}, "normalize")):
        with pytest.raises(DataError, match="a pipe or a device"):
            read(tmp_path / "x.npy")

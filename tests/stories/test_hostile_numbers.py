"""Hostile files of images that are numbers: each ends in exit 3 with file and place; what was fetched before stays."""

import gzip
import io
import json
import signal
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small
from keras_pipeline.cli import main
from keras_pipeline.core import process
from peak_memory import little_memory

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)
LABELS = np.arange(20, dtype=np.uint8) % 3
KEYS = {"size": [8, 8], "classes": ["0", "1", "2"]}
PAIR = {"images": "x", "labels": "y"}


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def npz(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def csv(cell: str) -> bytes:
    lines = ["label," + ",".join(map(str, range(100, 164)))]
    lines += [",".join(["1", *("0" for _ in range(64))]) for _ in range(9)]
    return ("\n".join([*lines, f"0,{cell}" + ",0" * 63]) + "\n").encode()


ROWS = "{'descr': '|u1', 'fortran_order': False, 'shape': (%d, 8, 8), }\n"
OF_ARRAYS = {"kind": "arrays", "train": PAIR}
OF_PIXELS = {"kind": "pixels"}
OF_RECORDS = {"kind": "records", "train": ["t.bin"]}
OF_IDX = {"kind": "idx", "train": {"images": "x.gz", "labels": "y"}}
IDX_LABELS = struct.pack(">HBBI", 0, 8, 1, 20) + LABELS.tobytes()
HOSTILE: list[tuple[dict[str, Any], dict[str, bytes], str]] = [
    (OF_ARRAYS, {"x.npy": header(ROWS % 2**63), "y.npy": npy(LABELS)}, "own/x.npy: got"),
    (OF_ARRAYS, {"x.npy": npy(np.array([print, 1], object)), "y.npy": npy(LABELS)}, "own/x.npy: got pickled Python"),
    (OF_ARRAYS, {"x.npy": npy(IMAGES)[:-1], "y.npy": npy(LABELS)}, "own/x.npy: got 1407 bytes. Expected: 1408"),
    (OF_ARRAYS, {"x.npy": npy(IMAGES), "y.npy": npy(LABELS + 1)}, "own/y.npy: index 2: got the label 3"),
    (OF_ARRAYS, {"own.npz": npz({"x": header(ROWS % 20) + bytes(10**8), "y": npy(LABELS)})}, "own/own.npz/x: got 1000"),
    (OF_ARRAYS, {"own.npz": npz({"x": npy(IMAGES)})}, "no array 'y'"),
    (OF_ARRAYS, {"own.npz": b"hello, I am an archive"}, "own/own.npz: got damaged data (no zip archive)"),
    (
        {**OF_ARRAYS, "range": [0, 1]}, {"x.npy": npy(np.full((20, 8, 8), np.nan)), "y.npy": npy(LABELS)},
        "own/x.npy: index 0, row 0, column 0, channel 0: got the value nan.",
    ),
    (
        {**OF_ARRAYS, "range": [0, 1]}, {"x.npy": npy(np.full((20, 8, 8), np.inf)), "y.npy": npy(LABELS)},
        "own/x.npy: index 0, row 0, column 0, channel 0: got the value inf.",
    ),
    (OF_PIXELS, {"t.csv": csv("=1+1")}, "own/t.csv: row 10 (line 11), column '100': got '=1+1'."),
    (OF_PIXELS, {"t.csv": csv("256")}, "got '256'. Expected: a whole number, 0 to 255."),
    (OF_PIXELS, {"t.csv": csv("1\0")}, "own/t.csv: line 11: a byte 0."),
    (OF_PIXELS, {"t.csv": csv("1").replace(b"label", b"l\xff")}, "own/t.csv: line 1: the bytes ff"),
    (OF_PIXELS, {"t.csv": csv("1").decode().encode("utf-16")}, "own/t.csv: line 1: the bytes ff fe"),
    (OF_PIXELS, {"t.csv": csv("1,2")}, "own/t.csv: row 10 (line 11): got 66 values"),
    (OF_PIXELS, {"t.csv": b",".join([b"a"] * 1_000_000) + b"\n"}, " columns. Expected: 2 to 20,000."),
    (OF_PIXELS, {"t.csv": b""}, "own/t.csv: it is empty."),
    (OF_PIXELS, {"t.parquet": b"PAR1" + bytes(50) + b"PAR1"}, "own/t.parquet: "),
    (OF_PIXELS, {"t.csv.gz": gzip.compress(csv("1"))[:-9]}, "own/t.csv.gz: damaged"),
    (OF_RECORDS, {"t.bin": bytes(100)}, "own/t.bin: got 100 bytes, 1 records and 35 bytes."),
    (OF_RECORDS, {"t.bin": b""}, "own/t.bin: got 0 bytes"),
    (OF_RECORDS, {"t.bin": b"\xff" * 650}, "own/t.bin: record 0: got the label 255"),
    (OF_IDX, {"x.gz": gzip.compress(bytes(10**8)), "y": IDX_LABELS}, "own/x.gz: "),
    (OF_IDX, {"x.gz": struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 8, 8), "y": IDX_LABELS}, "own/x.gz: damaged gzip data"),
]  # fmt: skip


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Path, bytes]]:
    """A project into which good arrays were fetched: the files in its data/raw."""
    folder = tmp_path_factory.mktemp("project")
    handlers = {number: signal.getsignal(number) for number in (*process.REQUESTS, signal.SIGALRM)}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("datasets").mkdir()
        write("good", OF_ARRAYS, {"x.npy": npy(IMAGES), "y.npy": npy(LABELS)})
        assert fetch("good") == 0
        yield contents()
    for number, handler in handlers.items():
        signal.signal(number, handler)


def write(name: str, keys: dict[str, Any], files: dict[str, bytes]) -> None:
    folder = Path(name, "own")
    folder.mkdir(parents=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    Path("datasets", f"{name}.yaml").write_text(json.dumps({**KEYS, **keys, "path": str(folder)}))


def fetch(name: str) -> int:
    Path("params.yaml").write_bytes(small.params_text({"fetch.dataset": name}))
    return main.main(["fetch"])


def contents() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path("data/raw").iterdir()}


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_hostile_file_is_exit_3_and_nothing_is_written(
    number: int, fetched: dict[Path, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    keys, files, said = HOSTILE[number]
    write(f"bad{number}", keys, files)
    capsys.readouterr()
    with little_memory(80_000_000):
        assert fetch(f"bad{number}") == 3
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert contents() == fetched

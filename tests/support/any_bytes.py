"""Good files of every kind of dataset, how they are changed, and what must come of it: they are read, or refused."""

import gzip
import io
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from keras_pipeline.core.errors import DataError
from keras_pipeline.sources.dataset_file import KINDS, kind_name
from keras_pipeline.sources.kinds.kind import Columns, Kind
from keras_pipeline.sources.source_files import SourceFiles, open_source
from memory_files import MemoryFiles
from peak_memory import little_memory

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (6, 8, 8), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.uint8)
CLASSES = ("0", "1", "2")
PLACE = {"path": "own", "classes": CLASSES}
MOST_MEMORY = 60_000_000
"""Bytes: several blocks of a file, and what libraries need. The good files have some hundred bytes."""
MOST_OF_PICTURES = 700_000_000
"""Of a picture all pixels that its header tells of are there at a time, a few times over."""


def saved(write: Callable[..., Any], *arguments: Any, **more: Any) -> bytes:
    file = io.BytesIO()
    write(file, *arguments, **more)
    return file.getvalue()


def idx(array: Any, kind: int = 8) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()


def csv(table: Any) -> bytes:
    return "".join(",".join(map(str, row)) + "\n" for row in table).encode()


def parquet_file(names: list[str], columns: list[Any]) -> bytes:
    return saved(lambda file: parquet.write_table(pyarrow.table(columns, names=names), file, row_group_size=4))


PIXELS = np.column_stack([LABELS, IMAGES.reshape(6, -1)])
NAMES = ["label", *(f"pixel{index}" for index in range(64))]
ROWS = [[1.5, "a", 0], [2.5, "b", 1], ["", "a", 2], [-1e3, "", 0]]
IDX = {"images": "x.idx", "labels": "y.idx"}
IDX_GZ = {"images": "x.gz", "labels": "y.gz"}
NPZ = {"images": "x", "labels": "y"}
TABLE = {**PLACE, "columns": {"a": "number", "b": "category"}, "target": "c"}
IMAGE_KEYS = {**PLACE, "size": (8, 8)}


def picture(form: str, mode: str = "RGB", **more: Any) -> bytes:
    values = RANDOM.integers(0, 256, (9, 7, 4), np.uint8)
    return saved(Image.fromarray(values, "RGBA").convert(mode).save, form, **more)


PICTURES = {"a/0.png": picture("PNG"), "b/1.png": picture("PNG", "L")}
LISTED = {"table": {"files": "t.csv", "image": "file", "label": "class"}}
IN_PARQUET = {"table": {"files": "t.parquet", "image": "image", "label": "label"}}
LIST = b"file,class\na/0.png,1\nb/1.png,2\nc.png,0\n"
CODED = {"image": [{"bytes": picture("PNG"), "path": "x"}] * 4, "label": ["0", "1", "2", "0"]}
FORMATS: list[tuple[str, str, dict[str, Any]]] = [
    ("PNG", "RGBA", {}), ("PNG", "P", {}), ("PNG", "I;16", {}), ("PNG", "1", {}), ("JPEG", "RGB", {}),
    ("JPEG", "CMYK", {}), ("JPEG", "L", {"progressive": True}), ("BMP", "RGB", {}), ("WEBP", "RGBA", {}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}), ("TIFF", "L", {}), ("GIF", "P", {}),
]  # fmt: skip

GOOD: dict[str, list[tuple[dict[str, Any], dict[str, bytes]]]] = {
    "idx": [
        ({**IMAGE_KEYS, "train": IDX}, {"x.idx": idx(IMAGES), "y.idx": idx(LABELS)}),
        ({**IMAGE_KEYS, "train": IDX_GZ}, {"x.gz": gzip.compress(idx(IMAGES)), "y.gz": gzip.compress(idx(LABELS))}),
        (
            {**IMAGE_KEYS, "train": IDX},
            {"x.idx": idx(IMAGES), "y.idx": idx(np.column_stack([LABELS] * 8).astype(">i4"), 12)},
        ),
    ],
    "arrays": [
        ({**IMAGE_KEYS, "train": NPZ}, {"own.npz": saved(np.savez, x=IMAGES, y=LABELS)}),
        ({**IMAGE_KEYS, "train": NPZ}, {"own.npz": saved(np.savez_compressed, x=IMAGES, y=LABELS)}),
        (
            {**IMAGE_KEYS, "train": NPZ, "range": (0, 1)},
            {"x.npy": saved(np.save, IMAGES / 255), "y.npy": saved(np.save, LABELS.astype(">i8"))},
        ),
        (
            {**IMAGE_KEYS, "train": NPZ},
            {"x.npy": saved(np.save, IMAGES), "y.npy": saved(np.save, LABELS.astype(">U3"))},
        ),
    ],
    "records": [
        ({**IMAGE_KEYS, "train": ("t.bin",)}, {"t.bin": PIXELS.tobytes()}),
        ({**IMAGE_KEYS, "size": (3, 7), "channels": 3, "train": ("t.bin",)}, {"t.bin": PIXELS[:, :64].tobytes()}),
    ],
    "pixels": [
        (IMAGE_KEYS, {"t.csv": csv([NAMES, *PIXELS.tolist()])}),
        ({**IMAGE_KEYS, "header": False}, {"t.csv.gz": gzip.compress(csv(PIXELS.tolist()))}),
        (IMAGE_KEYS, {"t.parquet": parquet_file(NAMES, list(PIXELS.T))}),
    ],
    "table": [
        (TABLE, {"t.csv": csv([["a", "b", "c"], *ROWS])}),
        (TABLE, {"t.parquet": parquet_file(["a", "b", "c"], [[1.5, None], ["a", "b"], ["0", "1"]])}),
    ],
    "images": [
        ({**IMAGE_KEYS, "classes": ("a", "b")}, {**PICTURES, f"b/2.{form.lower()}": picture(form, mode, **more)})
        for form, mode, more in FORMATS
    ]
    + [
        ({**IMAGE_KEYS, **LISTED}, {**PICTURES, "c.png": picture("PNG"), "t.csv": LIST}),
        ({**IMAGE_KEYS, **IN_PARQUET}, {"t.parquet": parquet_file(list(CODED), list(CODED.values()))}),
    ],
}  # fmt: skip
"""Of each kind with files: what a dataset file says, and good files."""
CASES = [(kind, number) for kind in GOOD for number in range(len(GOOD[kind]))]


def dataset(kind: str, keys: dict[str, Any]) -> Kind:
    (schema,) = [one for one in KINDS if kind_name(one) == kind]
    return schema.model_validate({"kind": kind, **keys})


def read_all(kind: Kind, files: SourceFiles) -> int:
    """How many examples there are, read to the last pixel."""
    examples = kind.read(files)
    assert len(examples.labels) == len(examples.places)
    assert all(isinstance(examples.places[index], str) for index in (0, -1))
    if not isinstance(examples.inputs, Columns):
        count = 0
        for images, reasons in examples.inputs.blocks():
            assert images.dtype.str == examples.inputs.dtype
            assert images.shape[1:] == kind.input_shape
            assert len(images) == len(reasons)
            count += len(images)
        assert count == len(examples.labels)
    return len(examples.labels)


def refused(use: Callable[[], Any]) -> str:
    """What is said where it is; nothing where it is not."""
    try:
        use()
    except DataError as refusal:
        return str(refusal)
    except NotImplementedError:
        pass
    return ""


def read_or_refuse(kind: Kind, files: MemoryFiles) -> None:
    with little_memory(MOST_OF_PICTURES if kind.kind == "images" else MOST_MEMORY):
        said = [refused(lambda: read_all(kind, files)), refused(lambda: type(kind).recognize(files))]
    for one in filter(None, said):
        assert re.search("Expected: |, once, |Pack it anew|Fetch it anew|Unpack it by hand", one)
        assert len(one) < 3000


NUMBERS = st.sampled_from([
    b"\0", b"\xff", b"\xff\xff\xff\xff", b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\0" * 8, b"\x80\0\0\0", b"\0\0\0\1",
    b"9" * 30, b"-1", b"nan", b"1e999", b",", b"\n", b'"', b"\r\n", b"'O'", b"True", b"('a', 'O')", b"PK\3\4",
])  # fmt: skip
"""What lies at the ends of types, and means something in one format or another."""


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """The content, changed in some places."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(0, len(changed) - 1)))
        match draw(st.sampled_from(["flip", "set", "cut", "insert", "remove", "repeat"])):
            case "flip" if changed:
                changed[start] ^= 1 << draw(st.integers(0, 7))
            case "set":
                number = draw(NUMBERS)
                changed[start : start + len(number)] = number
            case "cut":
                del changed[start:]
            case "insert":
                changed[start:start] = draw(NUMBERS | st.binary(max_size=40))
            case "remove":
                del changed[start : start + draw(st.integers(1, 100))]
            case "repeat":
                changed[start:start] = changed[start : start + draw(st.integers(1, 200))] * draw(st.integers(1, 20))
    return bytes(changed)


def check(data: st.DataObject, kind: str, number: int) -> None:
    """One of the good files of a kind is changed, and all of it is read or refused."""
    keys, files = GOOD[kind][number]
    name = data.draw(st.sampled_from(sorted(files)))
    content = data.draw(mutated(files[name]) | st.binary(max_size=200))
    read_or_refuse(dataset(kind, keys), MemoryFiles({**files, name: content}))


def check_members(data: st.DataObject) -> None:
    """As `check`, of the arrays in a .npz: what is changed has a right checksum."""
    keys, _ = GOOD["arrays"][0]
    members = {"x.npy": saved(np.save, IMAGES), "y.npy": saved(np.save, LABELS)}
    name = data.draw(st.sampled_from(sorted(members)))
    members[name] = data.draw(mutated(members[name]))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for one, content in members.items():
            archive.writestr(one, content)
    read_or_refuse(dataset("arrays", keys), MemoryFiles({"own.npz": file.getvalue()}))


def archives() -> dict[str, bytes]:
    """Good archives of records, by the names that they need."""
    found = {}
    with zipfile.ZipFile(file := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("deep/t.bin", PIXELS.tobytes())
    found["own.zip"] = file.getvalue()
    with tarfile.open(fileobj=(file := io.BytesIO()), mode="w") as archive:
        member = tarfile.TarInfo("deep/t.bin")
        member.size = PIXELS.nbytes
        archive.addfile(member, io.BytesIO(PIXELS.tobytes()))
    found["own.tar"] = file.getvalue()
    found["own.tar.gz"] = gzip.compress(file.getvalue())
    return found


def check_archive(data: st.DataObject, name: str, content: bytes, folder: Path) -> None:
    """A changed archive is read or refused."""
    path = folder / name
    path.write_bytes(data.draw(mutated(content) | st.binary(max_size=600)))
    kind = dataset("records", {**IMAGE_KEYS, "train": ("deep/t.bin",)})

    def read() -> int:
        source = open_source(path, name, folder / "kept")
        return sum(source.size(one) for one in source.names()) + read_all(kind, source)

    with little_memory(MOST_MEMORY):
        said = refused(read)
    assert len(said) < 3000

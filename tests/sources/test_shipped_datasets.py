"""The shipped datasets that are downloaded: files of their format are read as their dataset files say.

The real files are nowhere here. Each dataset file is taken as it is, but for sizes, digests and counts.
"""

import gzip
import hashlib
import io
import re
import struct
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from keras_pipeline.config.params import Params
from keras_pipeline.sources.raw import Raw, read_raw
from keras_pipeline.stages import fetch
from places import ROOT

RANDOM = np.random.default_rng(0)
COUNTS = {"train": 60, "test": 50}


def fetched(folder: Path, name: str, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Raw:
    """What fetch makes of the dataset when a mirror has these files."""
    mirror = folder / "mirror"
    mirror.mkdir()
    text = (ROOT / "datasets" / f"{name}.yaml").read_text(encoding="utf-8")
    parts = re.split(r"(?m)^(?=  - name: )", text)
    assert len(parts) == 1 + len(files)
    for index, part in enumerate(parts[1:], 1):
        file = re.findall(r"name: (\S+)", part)[0]
        content = files[file]
        (mirror / file).write_bytes(content)
        own = {
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "md5": hashlib.md5(content).hexdigest(),
        }
        if "content_bytes" in part:
            own["content_bytes"] = len(gzip.decompress(content))
        for key, value in own.items():
            part = re.sub(rf"(?m)^    {key}: .*", f"    {key}: {value}", part)
        parts[index] = part
    text = "".join(parts)
    if "counts:" in text:
        text = re.sub(r"(?m)^  (train|test): \d+$", lambda match: f"  {match[1]}: {COUNTS[match[1]]}", text)
    (folder / "datasets").mkdir()
    (folder / "datasets" / f"{name}.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("KERAS_PIPELINE_MIRRORS", str(mirror))
    params = cast(Params, SimpleNamespace(fetch=SimpleNamespace(dataset=name)))
    fetch.fetch_dataset(params, folder / "data" / "raw", folder / "data" / "downloads")
    return read_raw(folder / "data" / "raw")


def idx(array: Any, kind: int = 8) -> bytes:
    return gzip.compress(struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes())


def grey(split: str) -> Any:
    return RANDOM.integers(0, 256, (COUNTS[split], 28, 28), np.uint8)


def test_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = {split: RANDOM.integers(0, 256, (count, 32, 32, 3), np.uint8) for split, count in COUNTS.items()}
    labels = {split: np.arange(count) % 10 for split, count in COUNTS.items()}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

        def records(split: str, rows: slice) -> bytes:
            planes = images[split][rows].transpose(0, 3, 1, 2).reshape(-1, 3072)
            return np.column_stack([labels[split][rows], planes]).astype(np.uint8).tobytes()

        for number in range(5):
            add(f"data_batch_{number + 1}.bin", records("train", slice(12 * number, 12 * number + 12)))
        add("batches.meta.txt", b"airplane\n")
        add("readme.html", b"")
        add("test_batch.bin", records("test", slice(None)))
    raw = fetched(tmp_path, "cifar10", {"cifar-10-binary.tar.gz": file.getvalue()}, monkeypatch)
    for split in COUNTS:
        assert np.array_equal(raw.images[split], images[split])  # type: ignore[index]
        assert raw.labels[split].tolist() == labels[split].tolist()  # type: ignore[index]


@pytest.mark.parametrize(("name", "first", "classes"), [("letters", 1, "ABCXYZ"), ("balanced", 0, "012rqt")])
def test_emnist(name: str, first: int, classes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = {split: grey(split) for split in COUNTS}
    count = {"letters": 26, "balanced": 47}[name]
    labels = {split: np.arange(number) % count for split, number in COUNTS.items()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for split in COUNTS:
            stem = f"gzip/emnist-{name}-{split}"
            archive.writestr(f"{stem}-images-idx3-ubyte.gz", idx(images[split].transpose(0, 2, 1)))
            archive.writestr(f"{stem}-labels-idx1-ubyte.gz", idx((labels[split] + first).astype(np.uint8)))
        archive.writestr(f"gzip/emnist-{name}-mapping.txt", "")
        archive.writestr("gzip/emnist-mnist-train-images-idx3-ubyte.gz", b"")
    raw = fetched(tmp_path, f"emnist_{name}", {"gzip.zip": file.getvalue()}, monkeypatch)
    for split in COUNTS:
        assert np.array_equal(raw.images[split][..., 0], images[split])  # type: ignore[index]
        assert raw.labels[split].tolist() == labels[split].tolist()  # type: ignore[index]
    names = raw.description["class_names"]
    assert len(names) == count
    assert set(classes) <= set(names)
    capitals = [chr(ord("A") + index) for index in range(26)]
    assert names == (capitals if name == "letters" else [*"0123456789", *capitals, *"abdefghnqrt"])


def test_qmnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = {split: grey(split) for split in COUNTS}
    files, labels = {}, {}
    for split in COUNTS:
        rows = RANDOM.integers(0, 2**31, (COUNTS[split], 8)).astype(">i4")
        rows[:, 0] = labels[split] = np.arange(COUNTS[split]) % 10
        files[f"qmnist-{split}-images-idx3-ubyte.gz"] = idx(images[split])
        files[f"qmnist-{split}-labels-idx2-int.gz"] = idx(rows, 12)
    raw = fetched(tmp_path, "qmnist", files, monkeypatch)
    for split in COUNTS:
        assert np.array_equal(raw.images[split][..., 0], images[split])  # type: ignore[index]
        assert raw.labels[split].tolist() == labels[split].tolist()  # type: ignore[index]


def test_california_housing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = RANDOM.uniform(1, 100, (200, 9)).round(6)
    data = "".join(",".join(f"{value:.6f}" for value in row) + "\n" for row in rows).encode()
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in (("cal_housing.data", data), ("cal_housing.domain", b"longitude: continuous.\n")):
            member = tarfile.TarInfo(f"CaliforniaHousing/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    raw = fetched(tmp_path, "california_housing", {"cal_housing.tgz": file.getvalue()}, monkeypatch)
    assert raw.tables is not None
    train, test = raw.tables["train"], raw.tables["test"]
    assert list(train.values)[::7] == ["longitude", "medianIncome"]
    targets = np.concatenate([raw.labels["train"], raw.labels["test"]])
    assert sorted(targets.tolist()) == sorted(rows[:, 8].tolist())
    assert 20 < len(test.values["longitude"]) < 60


@pytest.mark.parametrize(
    ("name", "columns", "counts", "digest"),
    [
        ("iris", 4, {"train": [40, 40, 40], "test": [10, 10, 10]}, "89e5d7959fb8"),
        ("wine", 13, {"train": [47, 57, 38], "test": [12, 14, 10]}, "43cd4aa4a6f2"),
    ],
)
def test_tables_inside_scikit_learn(
    name: str, columns: int, counts: dict[str, list[int]], digest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = cast(Params, SimpleNamespace(fetch=SimpleNamespace(dataset=name)))
    fetch.fetch_dataset(params, tmp_path / "raw", tmp_path / "downloads")
    raw = read_raw(tmp_path / "raw")
    for split, expected in counts.items():
        assert np.bincount(raw.labels[split]).tolist() == expected  # type: ignore[index]
    assert len(raw.description["input"]["columns"]) == columns  # type: ignore[typeddict-item]
    assert hashlib.sha256((tmp_path / "raw" / "train.csv").read_bytes()).hexdigest()[:12] == digest


def test_every_download_is_here() -> None:
    shipped = {path.stem for path in (ROOT / "datasets").glob("*.yaml") if "download:" in path.read_text()}
    here = {"cifar10", "emnist_letters", "emnist_balanced", "qmnist", "california_housing"}
    assert shipped == here | {"mnist", "fashion_mnist", "kmnist"}  # those are in the tests of downloads

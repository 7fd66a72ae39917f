"""The stage fetch: what it writes, does again and leaves alone."""

import json
import multiprocessing
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import small
import tiny_datasets
from fault_server import FaultServer, silent, whole
from keras_pipeline.core import files
from keras_pipeline.core.errors import BusyError, DataError, DownloadError
from keras_pipeline.sources.files import formats
from keras_pipeline.stages import fetch, normalize, scan
from small_tasks import LINE
from tiny_mirror import CONTENTS, GOOD, snapshot

FILES = ("train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy")
PARAMS: Any = SimpleNamespace(fetch=SimpleNamespace(dataset="tiny"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FaultServer]:
    """The mirror of the dataset 'tiny', whose file is in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KERAS_PIPELINE_MIRRORS", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with FaultServer(GOOD) as server:
        tiny_datasets.write_file(tmp_path, CONTENTS, server.url)
        yield server


def pixels(role: str) -> np.ndarray:
    return formats.read_idx(CONTENTS[role], role)


def test_writes_the_arrays_and_their_description(server: FaultServer, tmp_path: Path) -> None:
    fetch.fetch_dataset(PARAMS, tmp_path / "raw", tmp_path / "downloads")
    described = json.loads((tmp_path / "raw" / "dataset.json").read_text())
    assert (described["name"], described["title"], described["licence"]) == ("tiny", "Tiny", "none")
    assert described["origins"] == [server.url]
    assert described["images"] == {"train": 6, "test": 3}
    assert described["input"] == {"kind": "images", "shape": [28, 28, 1], "dtype": "|u1", "low": 0, "high": 255}
    assert sorted(described["files"]) == sorted(FILES)
    for split in ("train", "test"):
        images, labels = (np.load(tmp_path / "raw" / f"{split}_{what}.npy") for what in ("images", "labels"))
        assert np.array_equal(images[..., 0], pixels(f"{split}-images"))
        assert labels.dtype == np.int64
        assert np.array_equal(labels, pixels(f"{split}-labels"))
    for name, entry in described["files"].items():
        path = tmp_path / "raw" / name
        assert entry == {"sha256": files.file_sha256(path), "bytes": path.stat().st_size}
    assert sorted(path.name for path in (tmp_path / "downloads" / "tiny").iterdir()) == sorted(GOOD)
    assert not (tmp_path / "raw.unfinished").exists()


def test_where_all_is_in_place_nothing_is_done(
    server: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch.fetch_dataset(PARAMS, tmp_path / "raw", tmp_path / "downloads")
    before = snapshot(tmp_path / "raw")
    server.requests.clear()
    capsys.readouterr()
    fetch.fetch_dataset(PARAMS, tmp_path / "raw", tmp_path / "elsewhere")
    fetch.download_only(PARAMS, tmp_path / "raw", tmp_path / "elsewhere")
    assert snapshot(tmp_path / "raw") == before
    assert server.requests == []
    assert not (tmp_path / "elsewhere").exists()
    assert capsys.readouterr().out == f"tiny: already in {tmp_path}/raw/, verified.\n"


def test_the_same_bytes_from_whatever_source_and_no_path_of_this_machine(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch.fetch_dataset(PARAMS, tmp_path / "raw", tmp_path / "downloads")
    monkeypatch.setenv("KERAS_PIPELINE_MIRRORS", f" /nowhere ,, {tmp_path}/downloads/tiny")
    server.requests.clear()
    fetch.fetch_dataset(PARAMS, tmp_path / "b" / "raw", tmp_path / "b" / "downloads")
    assert server.requests == []
    for path in (tmp_path / "raw").iterdir():
        assert (tmp_path / "b" / "raw" / path.name).read_bytes() == path.read_bytes()
        assert str(tmp_path).encode() not in path.read_bytes()


@pytest.mark.parametrize("damage", ["flip", "missing", "pipe", "dataset.json", "not JSON", "list", "leftover"])
def test_what_is_not_as_written_is_made_anew_from_the_downloads(
    damage: str, server: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw"
    fetch.fetch_dataset(PARAMS, raw, tmp_path / "downloads")
    before = {name: content for name, (content, _) in snapshot(raw).items()}
    server.requests.clear()
    capsys.readouterr()
    if damage == "flip":
        content = before["test_images.npy"]
        (raw / "test_images.npy").write_bytes(bytes([*content[:-1], content[-1] ^ 1]))
    elif damage == "missing":
        (raw / "train_labels.npy").unlink()
    elif damage == "pipe":
        (raw / "train_labels.npy").unlink()
        os.mkfifo(raw / "train_labels.npy")
    elif damage == "leftover":
        (raw / "dataset.json").unlink()
        (raw.with_name("raw.unfinished")).mkdir()
        (raw.with_name("raw.unfinished") / "train_images.npy").write_bytes(b"half")
    else:
        texts = {"dataset.json": '{"name": "tiny", "files": []}', "not JSON": '{"name": ', "list": "[]"}
        (raw / "dataset.json").write_text(texts[damage])
    fetch.fetch_dataset(PARAMS, raw, tmp_path / "downloads")
    assert {name: content for name, (content, _) in snapshot(raw).items()} == before
    assert server.requests == []
    out = capsys.readouterr().out
    assert (f"{raw}/: not as fetch wrote it (test_images.npy). It is made anew." in out) == (damage == "flip")


def test_another_dataset_replaces_the_one_there(
    server: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch.fetch_dataset(PARAMS, tmp_path / "raw", tmp_path / "downloads")
    others = tiny_datasets.payloads(seed=1)
    (tmp_path / "own").mkdir()
    for role, envelope in tiny_datasets.compressed(others).items():
        (tmp_path / "own" / tiny_datasets.NAMES[role]).write_bytes(envelope)
    tiny_datasets.write_file(tmp_path, others, str(tmp_path / "own"), name="other")
    params: Any = SimpleNamespace(fetch=SimpleNamespace(dataset="other"))
    fetch.fetch_dataset(params, tmp_path / "raw", tmp_path / "downloads")
    assert json.loads((tmp_path / "raw" / "dataset.json").read_text())["name"] == "other"
    found = np.load(tmp_path / "raw" / "train_images.npy")[..., 0]
    assert np.array_equal(found, formats.read_idx(others["train-images"], ""))
    assert "not as fetch wrote it" not in capsys.readouterr().out


def test_a_full_disk_leaves_what_was_there(server: FaultServer, tmp_path: Path) -> None:
    fetch.fetch_dataset(PARAMS, tmp_path / "raw", tmp_path / "downloads")
    (tmp_path / "raw" / "train_images.npy").write_bytes(b"")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            fetch.fetch_dataset(PARAMS, tmp_path / "raw", tmp_path / "downloads")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == sorted([*FILES, "dataset.json"])
    fetch.fetch_dataset(PARAMS, tmp_path / "raw", tmp_path / "downloads")
    assert np.array_equal(np.load(tmp_path / "raw" / "train_images.npy")[..., 0], pixels("train-images"))


def test_download_only_leaves_raw_alone_and_run_then_needs_no_mirror(server: FaultServer, tmp_path: Path) -> None:
    fetch.download_only(PARAMS, tmp_path / "raw", tmp_path / "downloads")
    assert not (tmp_path / "raw").exists()
    server.requests.clear()
    fetch.fetch_dataset(PARAMS, tmp_path / "raw", tmp_path / "downloads")
    assert server.requests == []
    assert (tmp_path / "raw" / "dataset.json").exists()


def test_download_only_has_nothing_to_do_for_digits(tmp_path: Path) -> None:
    params: Any = SimpleNamespace(fetch=SimpleNamespace(dataset="digits"))
    fetch.download_only(params, tmp_path / "raw", tmp_path / "downloads")
    assert not (tmp_path / "downloads").exists()


def test_no_mirror_means_exit_code_4_and_no_raw(server: FaultServer, tmp_path: Path) -> None:
    tiny_datasets.write_file(tmp_path, CONTENTS, str(tmp_path / "empty"))
    with pytest.raises(DownloadError, match="no mirror gave this file"):
        fetch.fetch_dataset(PARAMS, tmp_path / "raw", tmp_path / "downloads")
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    ("role", "array", "message"),
    [
        ("train-labels", np.array([0, 1, 2, 10, 255, 4], np.uint8), "label 3: got the label 10"),
        ("test-labels", np.zeros(4, np.uint8), "got 3 images and 4 labels"),
        ("train-images", np.zeros((6, 27, 28), np.uint8), "got images of 27 × 28. Expected: 28 × 28"),
        ("test-images", np.zeros((3, 784), np.uint8), r"got 3 × 784 numbers .*Expected: images of unsigned bytes"),
        ("train-labels", np.zeros(7, np.uint8), "got 6 images and 7 labels"),
    ],
)
def test_files_that_do_not_fit_together_are_refused_whatever_their_digests(
    role: str, array: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KERAS_PIPELINE_MIRRORS", raising=False)
    monkeypatch.chdir(tmp_path)
    contents = {**CONTENTS, role: formats.write_idx(array)}
    with FaultServer({tiny_datasets.NAMES[r]: whole(e) for r, e in tiny_datasets.compressed(contents).items()}) as bad:
        tiny_datasets.write_file(tmp_path, contents, bad.url, counts=False)
        with pytest.raises(DataError, match=f"^tiny/{tiny_datasets.NAMES[role][:5]}.*{message}"):
            fetch.fetch_dataset(PARAMS, tmp_path / "raw", tmp_path / "downloads")
    assert not (tmp_path / "raw").exists()


def test_other_counts_than_the_dataset_file_has_are_refused(server: FaultServer, tmp_path: Path) -> None:
    path = tiny_datasets.write_file(tmp_path, CONTENTS, server.url)
    path.write_text(path.read_text().replace('"train": 6', '"train": 7'))
    with pytest.raises(DataError, match=r"^tiny: got 6 train examples\. Expected: 7, as `counts`"):
        fetch.fetch_dataset(PARAMS, tmp_path / "raw", tmp_path / "downloads")
    assert not (tmp_path / "raw").exists()


def test_a_second_fetch_is_turned_away_while_the_first_is_at_work(server: FaultServer, tmp_path: Path) -> None:
    server.answers = {**GOOD, "train-images-idx3-ubyte.gz": silent}
    fork = multiprocessing.get_context("fork")
    first = fork.Process(target=fetch.fetch_dataset, args=(PARAMS, tmp_path / "raw", tmp_path / "downloads"))
    first.start()
    while not server.requests:
        time.sleep(0.01)
    with pytest.raises(BusyError, match=f"is being written by process {first.pid}"):
        fetch.fetch_dataset(PARAMS, tmp_path / "raw", tmp_path / "downloads")
    first.kill()
    first.join()
    server.answers = GOOD
    fetch.fetch_dataset(PARAMS, tmp_path / "raw", tmp_path / "downloads")
    assert (tmp_path / "raw" / "dataset.json").exists()


def test_a_damaged_table_is_noticed_and_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = small.params(LINE)
    fetch.fetch_dataset(chosen, tmp_path / "raw", tmp_path / "downloads")
    before = (tmp_path / "raw" / "train.csv").read_bytes()
    (tmp_path / "raw" / "train.csv").write_bytes(before.replace(b"1", b"2"))
    with pytest.raises(DataError, match="not the file that the stage 'fetch' wrote"):
        normalize.normalize_dataset(chosen, tmp_path / "raw", tmp_path / "normalized")
    fetch.fetch_dataset(chosen, tmp_path / "raw", tmp_path / "downloads")
    assert "not as fetch wrote it (train.csv). It is made anew." in capsys.readouterr().out
    assert (tmp_path / "raw" / "train.csv").read_bytes() == before


OWN: Any = SimpleNamespace(fetch=SimpleNamespace(dataset="own"))


def test_own_files_are_divided_by_their_pixels_and_another_state_of_them_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_datasets.write_own(tmp_path)
    fetch.fetch_dataset(OWN, tmp_path / "raw", tmp_path / "downloads")
    said = capsys.readouterr().out
    assert said.startswith("own: 2 files of 2,624 bytes, other ones than the 1 of 1 bytes that datasets/own.yaml rec")
    tested = np.load(tmp_path / "raw" / "test_images.npy")
    assert 20 < len(tested) < 60
    content = (tmp_path / "own" / "images").read_bytes()
    (tmp_path / "own" / "images").write_bytes(content[:-1] + bytes([content[-1] ^ 255]))
    fetch.fetch_dataset(OWN, tmp_path / "raw", tmp_path / "downloads")  # the last one is another, and the others stay
    again = {image.tobytes() for image in np.load(tmp_path / "raw" / "test_images.npy")}
    assert len(again ^ {image.tobytes() for image in tested}) <= 2


def test_data_that_are_not_here_are_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_datasets.write_own(tmp_path)
    (tmp_path / "own").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"own is not here\. Looked for: .*/own.*Put it there, or correct `path`\."):
        fetch.fetch_dataset(OWN, tmp_path / "raw", tmp_path / "downloads")
    (tmp_path / "own.dvc").write_text("outs: []")
    with pytest.raises(DataError, match=r"Run `dvc pull own\.dvc`"):
        fetch.fetch_dataset(OWN, tmp_path / "raw", tmp_path / "downloads")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    (tmp_path / "main").mkdir()
    (tmp_path / "elsewhere").rename(tmp_path / "main" / "own")
    fetch.fetch_dataset(OWN, tmp_path / "raw", tmp_path / "downloads")
    assert (tmp_path / "raw" / "dataset.json").exists()


def test_files_that_changed_after_the_scan_are_not_read_for_those_it_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_datasets.write_own(tmp_path)
    scanned = tmp_path / "scan.json"
    scan.scan_dataset(OWN, scanned, tmp_path / "downloads")
    monkeypatch.setenv("DVC_STAGE", "fetch")
    fetch.fetch_dataset(OWN, tmp_path / "raw", tmp_path / "downloads", scanned)
    content = (tmp_path / "own" / "images").read_bytes()
    (tmp_path / "own" / "images").write_bytes(content[:-1] + bytes([content[-1] ^ 255]))
    with pytest.raises(BusyError, match="they changed meanwhile"):
        fetch.fetch_dataset(OWN, tmp_path / "raw", tmp_path / "downloads", scanned)

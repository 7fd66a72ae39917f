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
from keras_pipeline.config import datasets
from keras_pipeline.core import files
from keras_pipeline.core.errors import BusyError, DataError, DownloadError
from keras_pipeline.sources import formats
from keras_pipeline.stages import fetch, normalize
from small_tasks import LINE
from tiny_mirror import CONTENTS, GOOD, snapshot

PARAMS: Any = SimpleNamespace(fetch=SimpleNamespace(dataset="tiny"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    """The mirror of the dataset 'tiny', which is a row for as long as the test lasts."""
    monkeypatch.delenv("KERAS_PIPELINE_MIRRORS", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with FaultServer(GOOD) as server:
        monkeypatch.setitem(datasets.DATASETS, "tiny", tiny_datasets.row(CONTENTS, server.url))
        yield server


def test_writes_the_payloads_and_their_description(server: FaultServer, tmp_path: Path) -> None:
    fetch.fetch_dataset(PARAMS, tmp_path / "raw", tmp_path / "downloads")
    raw = {name: content for name, (content, _) in snapshot(tmp_path / "raw").items()}
    described = json.loads(raw.pop("dataset.json"))
    assert raw == CONTENTS
    assert described["name"] == "tiny"
    assert described["licence"] == "none"
    assert described["origins"] == [server.url]
    for role, entry in described["files"].items():
        digest = files.file_sha256(tmp_path / "raw" / role)
        assert entry == {"sha256": digest, "bytes": len(CONTENTS[role]), "payload sha256": digest}
    assert sorted(path.name for path in (tmp_path / "downloads" / "tiny").iterdir()) == sorted(GOOD)


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
        content = CONTENTS["test-images"]
        (raw / "test-images").write_bytes(bytes([*content[:-1], content[-1] ^ 1]))
    elif damage == "missing":
        (raw / "train-labels").unlink()
    elif damage == "pipe":
        (raw / "train-labels").unlink()
        os.mkfifo(raw / "train-labels")
    elif damage == "leftover":
        (raw / "dataset.json").unlink()
        (raw / ".train-images.abc.unfinished").write_bytes(b"half")
    else:
        texts = {"dataset.json": '{"name": "tiny", "files": []}', "not JSON": '{"name": ', "list": "[]"}
        (raw / "dataset.json").write_text(texts[damage])
    fetch.fetch_dataset(PARAMS, raw, tmp_path / "downloads")
    assert {name: content for name, (content, _) in snapshot(raw).items()} == before
    assert server.requests == []
    out = capsys.readouterr().out
    assert (f"{raw}/: not as fetch wrote it (test-images). It is made anew." in out) == (damage == "flip")


def test_another_dataset_replaces_the_one_there(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch.fetch_dataset(PARAMS, tmp_path / "raw", tmp_path / "downloads")
    others = tiny_datasets.payloads(seed=1)
    other = tiny_datasets.row(others, str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    for role, envelope in tiny_datasets.compressed(others).items():
        (tmp_path / "own" / tiny_datasets.NAMES[role]).write_bytes(envelope)
    monkeypatch.setitem(datasets.DATASETS, "other", other.__class__(**{**vars(other), "name": "other"}))
    params: Any = SimpleNamespace(fetch=SimpleNamespace(dataset="other"))
    fetch.fetch_dataset(params, tmp_path / "raw", tmp_path / "downloads")
    assert json.loads((tmp_path / "raw" / "dataset.json").read_text())["name"] == "other"
    assert (tmp_path / "raw" / "train-images").read_bytes() == others["train-images"]
    assert "not as fetch wrote it" not in capsys.readouterr().out


def test_a_full_disk_leaves_no_description_of_what_is_not_there(server: FaultServer, tmp_path: Path) -> None:
    fetch.fetch_dataset(PARAMS, tmp_path / "raw", tmp_path / "downloads")
    (tmp_path / "raw" / "train-images").write_bytes(b"")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            fetch.fetch_dataset(PARAMS, tmp_path / "raw", tmp_path / "downloads")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == sorted(CONTENTS)
    fetch.fetch_dataset(PARAMS, tmp_path / "raw", tmp_path / "downloads")
    assert (tmp_path / "raw" / "train-images").read_bytes() == CONTENTS["train-images"]


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


def test_no_mirror_means_exit_code_4_and_no_raw(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(datasets.DATASETS, "tiny", tiny_datasets.row(CONTENTS, str(tmp_path / "empty")))
    with pytest.raises(DownloadError, match="no mirror gave this file"):
        fetch.fetch_dataset(PARAMS, tmp_path / "raw", tmp_path / "downloads")
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    ("role", "array", "message"),
    [
        ("train-labels", np.array([0, 1, 2, 10, 255, 4], np.uint8), "the label 10 at index 3"),
        ("test-labels", np.zeros(4, np.uint8), "got 3 images and 4 labels"),
        ("train-images", np.zeros((6, 27, 28), np.uint8), r"shape \(6, 27, 28\). Expected: \(6, 28, 28\)"),
        ("test-images", np.zeros((3, 784), np.uint8), "images of 2 and labels of 1 dimensions"),
    ],
)
def test_files_that_do_not_fit_together_are_refused_whatever_their_digests(
    role: str, array: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {**CONTENTS, role: formats.write_idx(array)}
    with FaultServer({tiny_datasets.NAMES[r]: whole(e) for r, e in tiny_datasets.compressed(contents).items()}) as bad:
        monkeypatch.setitem(datasets.DATASETS, "tiny", tiny_datasets.row(contents, bad.url))
        with pytest.raises(DataError, match=f"^tiny, {role[:-7]}.*{message}"):
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

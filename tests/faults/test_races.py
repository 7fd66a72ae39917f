"""Several processes at once on the same files, released together."""

import json
import multiprocessing
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tiny_datasets
from fault_server import FaultServer, Handler
from keras_pipeline.core import files, json_files
from keras_pipeline.core.errors import BusyError
from keras_pipeline.stages import fetch
from tiny_mirror import CONTENTS, ENVELOPES

PARAMS: Any = SimpleNamespace(fetch=SimpleNamespace(dataset="tiny"))
FORK = multiprocessing.get_context("fork")


def ends(process: Any) -> int:
    process.join(60)
    assert process.exitcode is not None
    code: int = process.exitcode
    return code


def slowly(content: bytes) -> Any:
    def answer(handler: Handler) -> None:
        handler.start(200, {"Content-Length": str(len(content))})
        time.sleep(0.02)
        handler.wfile.write(content)

    return answer


def fetching(folder: Path, barrier: Any) -> None:
    barrier.wait(30)
    try:
        fetch.fetch_dataset(PARAMS, folder / "raw", folder / "downloads")
    except BusyError as busy:
        os._exit(75 if "is being written by process" in str(busy) else 70)
    os._exit(0)


@pytest.mark.parametrize("turn", range(5))
def test_fetches_at_once_make_one_dataset(turn: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KERAS_PIPELINE_MIRRORS", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    answers = {tiny_datasets.NAMES[role]: slowly(envelope) for role, envelope in ENVELOPES.items()}
    with FaultServer(answers) as server:
        monkeypatch.chdir(tmp_path)
        tiny_datasets.write_file(tmp_path, CONTENTS, server.url)
        barrier = FORK.Barrier(6)
        processes = [FORK.Process(target=fetching, args=(tmp_path, barrier)) for _ in range(6)]
        for process in processes:
            process.start()
        codes = [ends(process) for process in processes]
        assert 0 in codes
        assert set(codes) <= {0, 75}
        assert sorted(path for path, _ in server.requests) == sorted(f"/{name}" for name in answers)  # each once
        fetch.fetch_dataset(PARAMS, tmp_path / "raw", tmp_path / "downloads")
    found = {path.name: path.read_bytes() for path in (tmp_path / "raw").iterdir()}
    for split in ("train", "test"):
        assert found[f"{split}_images.npy"].endswith(CONTENTS[f"{split}-images"][16:])
    assert set(found) == {*json.loads(found["dataset.json"])["files"], "dataset.json"}


def writing(path: Path, number: int, barrier: Any) -> None:
    barrier.wait(30)
    for turn in range(30):
        files.write_json(path, [number, turn] * 500)
    os._exit(0)


def test_whoever_writes_a_file_at_the_same_time_it_is_always_a_whole_one(tmp_path: Path) -> None:
    path, barrier = tmp_path / "file.json", FORK.Barrier(4)
    processes = [FORK.Process(target=writing, args=(path, number, barrier)) for number in range(4)]
    for process in processes:
        process.start()
    seen = set()
    while any(process.is_alive() for process in processes):
        if path.exists():
            value = json_files.parse_json(path.read_bytes())
            assert value == value[:2] * 500
            seen.add(value[0])
    assert [ends(process) for process in processes] == [0] * 4
    assert seen
    assert [one.name for one in tmp_path.iterdir()] == ["file.json"]


def holding(folder: Path, barrier: Any, held: Any) -> None:
    barrier.wait(30)
    for _ in range(40):
        try:
            with files.lock_folder(folder):
                assert held.acquire(block=False)  # nobody else is inside
                held.release()
        except BusyError:
            continue
    os._exit(0)


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    barrier, held = FORK.Barrier(8), FORK.Lock()
    processes = [FORK.Process(target=holding, args=(tmp_path, barrier, held)) for _ in range(8)]
    for process in processes:
        process.start()
    assert [ends(process) for process in processes] == [0] * 8

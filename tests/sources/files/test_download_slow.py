"""Downloads from slow mirrors, killed ones, and of the real MNIST."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_datasets
from fault_server import Answer, FaultServer, drip, drip_header, silent
from keras_pipeline.core.errors import DownloadError
from keras_pipeline.sources.dataset_file import load_dataset
from keras_pipeline.sources.files import formats
from keras_pipeline.sources.files.download import Limits, download_files
from places import SUPPORT
from tiny_mirror import BYTES, CONTENTS, ENVELOPES, GOOD, downloaded, reason

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("answer", "patience", "message"),
    [
        (silent, {"read": 0.2}, "silent for 0.2 s."),
        (drip(BYTES, 0.02), {"window": 0.2}, "given up, less than 10000 bytes per second over 0.2 s"),
        (drip_header(0.02), {"window": 0.2}, "per second over 0.2 s (0 bytes in all)."),
        (drip(BYTES, 0.02), {"total": 0.2}, "not complete after 0.2 s."),
    ],
)
def test_a_slow_answer_is_given_up_at_once_and_not_retried(
    answer: Answer,
    patience: dict[str, Any],
    message: str,
    tmp_path: Path,
    limits: Limits,
    slept: list[float],
) -> None:
    started = time.monotonic()
    assert message in reason(answer, tmp_path, dataclasses.replace(limits, **patience))
    assert time.monotonic() - started < 8
    assert slept == []


def test_a_slow_but_moving_mirror_is_waited_for(tmp_path: Path) -> None:
    content = CONTENTS["test-labels"]
    limits = Limits(window=0.2, speed=1)
    slow = drip(ENVELOPES["test-labels"], 0.01)
    with FaultServer({**GOOD, tiny_datasets.NAMES["test-labels"]: slow}) as server:
        got = downloaded(tiny_datasets.row(CONTENTS, server.url), tmp_path, limits=limits)
    assert got["test-labels"] == content


CHILD = """
import sys
from pathlib import Path
import tiny_datasets
from keras_pipeline.sources.files.download import download_files
download_files(tiny_datasets.row(tiny_datasets.payloads(), sys.argv[1]), Path(sys.argv[2]))
"""


def test_sigkill_at_any_moment_leaves_no_partial_file_and_the_next_run_completes(
    tmp_path: Path, limits: Limits
) -> None:
    slow = {tiny_datasets.NAMES[role]: pieces(envelope) for role, envelope in ENVELOPES.items()}
    dice = random.Random(0)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(SUPPORT)])}
    reached = set()
    with FaultServer(slow) as server:
        for attempt in range(10):
            folder = tmp_path / str(attempt)
            command = [sys.executable, "-c", CHILD, server.url, str(folder)]
            with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as child:
                while not server.requests and child.poll() is None:
                    time.sleep(0.01)
                time.sleep(dice.uniform(0, 0.4))
                child.send_signal(signal.SIGKILL)
            files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name in GOOD}
            reached.add(len(files))
            for role, name in tiny_datasets.NAMES.items():
                assert files.get(name, ENVELOPES[role]) == ENVELOPES[role]
            server.requests.clear()
            assert downloaded(tiny_datasets.row(CONTENTS, server.url), folder, limits=limits) == CONTENTS
            server.requests.clear()
            assert sorted(path.name for path in folder.iterdir()) == sorted(GOOD)
    assert len(reached) > 1


def pieces(content: bytes) -> Answer:
    """The content in ten parts over a tenth of a second."""

    def answer(handler: Any) -> None:
        handler.start(200, {"Content-Length": str(len(content))})
        step = -(-len(content) // 10)
        for start in range(0, len(content), step):
            handler.wfile.write(content[start : start + step])
            time.sleep(0.01)

    return answer


@pytest.mark.skipif(
    not Path(os.environ.get("KERAS_PIPELINE_MIRRORS") or "/nowhere").is_dir(),
    reason="KERAS_PIPELINE_MIRRORS names no local folder with the real MNIST",
)
def test_the_real_mnist_and_no_other_row_takes_its_files(tmp_path: Path) -> None:
    mirror = os.environ["KERAS_PIPELINE_MIRRORS"]
    found = download_files(load_dataset("mnist").download, tmp_path / "mnist", [mirror])
    got = {role: found[name] for role, name in tiny_datasets.NAMES.items()}
    labels = formats.read_idx(got["test-labels"], "labels")
    assert labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    images = formats.read_idx(got["train-images"], "images")
    assert images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    for other in ("fashion_mnist", "kmnist"):
        alone = load_dataset(other).download.model_copy(update={"mirrors": ()})
        with pytest.raises(DownloadError, match="another dataset's file"):
            download_files(alone, tmp_path / other, [mirror])
        assert list((tmp_path / other).iterdir()) == []

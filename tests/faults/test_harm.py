"""Harm done to the files of a finished pipeline, and what each verb that needs no framework makes of it."""

import contextlib
import io
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

import fault_catalogue
import finished_pipeline
import harmed
from fault_catalogue import Row, Try
from harmed import Ended
from keras_pipeline.cli import main

TRIES = list(fault_catalogue.tries("memory"))


class _Hang(BaseException):
    """A command did not end in time."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For copying only."""
    root: Path = tmp_path_factory.mktemp("finished") / "checkout"
    with contextlib.redirect_stdout(io.StringIO()):
        finished_pipeline.by_hand(root)
    return root


@pytest.fixture
def root(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it, which is the current folder, belongs to no git repository, and whose environment has nothing."""
    shutil.copytree(finished, tmp_path / "checkout")
    (tmp_path / "temporary").mkdir()
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "KERAS_", "DVC_", "GIT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "checkout")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)}
    yield tmp_path / "checkout"
    for number, handler in handlers.items():
        signal.signal(number, handler)


def in_this_process(words: list[str], one: Try) -> Ended:
    """The command line, ended by an alarm where it does not end."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise _Hang

    output = io.StringIO()
    before = dict(os.environ)
    os.environ.update(one.environment)
    signal.signal(signal.SIGALRM, ring)
    signal.alarm(one.seconds)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            code: int | None = main.main(words)
    except _Hang:
        code = None
    except SystemExit as usage:
        code = int(usage.code or 0)
    finally:
        signal.alarm(0)
        os.environ.clear()
        os.environ.update(before)
    return Ended(code, output.getvalue())


@pytest.mark.parametrize(("row", "one"), [(row, one) for _, row, one in TRIES], ids=[name for name, _, _ in TRIES])
def test_harm(row: Row, one: Try, root: Path, request: pytest.FixtureRequest) -> None:
    try:
        harmed.check(one, root, root.parent / "temporary", in_this_process)
    except harmed.ProblemError as problem:
        request.node.user_properties.append(("problem", problem.kind))
        raise

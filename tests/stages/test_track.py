"""The stage track: whose fault a failure is told as, and the exit code it ends in."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tracking_fixtures
from keras_pipeline.cli import main
from keras_pipeline.core.errors import DataError
from keras_pipeline.tracking import mirror
from keras_pipeline.tracking.stores.connection import StoreError
from tracking_fixtures import MLFLOW_WARNINGS, Checkout

pytestmark = MLFLOW_WARNINGS


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Checkout]:
    """A checkout with a trained network, in which the command is given."""
    before = dict(os.environ)
    checkout = tracking_fixtures.checkout(tmp_path / "checkout")
    checkout.write()
    monkeypatch.chdir(checkout.root)
    yield checkout
    os.environ.clear()
    os.environ.update(before)


def raising(error: Exception) -> Callable[..., None]:
    def fail(*arguments: object, **named: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyError("x"), 70, r"this is a bug of keras-pipeline, please report it \(KeyError\)"),
        (TypeError("x"), 70, r"this is a bug of keras-pipeline, please report it \(TypeError\)"),
        (ZeroDivisionError("x"), 70, r"this is a bug of keras-pipeline"),
        (DataError("models/run.json: not the JSON that it should be"), 3, r"models/run\.json: not the JSON"),
        (ImportError("No module named 'x'"), 6, r"No module named 'x'\. The installation is not complete"),
        (MemoryError(), 6, "memory is exhausted"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/params.yaml"), 6, "/x/params.yaml: Permission denied"),
        (StoreError("the store was copied"), 0, "track: the store was copied. Nothing is lost: run `keras-p"),
        (
            ConnectionResetError(104, "Connection reset by peer"),
            0,
            r"is not available \(.*reset by peer\)\. Noth",
        ),
    ],
)
def test_each_fault_has_its_own_exit_code(
    made: Checkout,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
    said: str,
) -> None:
    monkeypatch.setattr(mirror, "synchronise", raising(error))
    assert main.main(["track"]) == code
    err = capsys.readouterr().err
    assert re.search(said, err)
    assert ("is not available" in err) == isinstance(error, ConnectionResetError)
    for kept in re.findall(r"traceback is in (\S+)", err):
        Path(kept).unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda root: (root / "models" / "run.json").write_text("{"),
            r"models/run\.json: line 1 column 2: .* Expected: JSON",
        ),
        (lambda root: (root / "models" / "run.json").unlink(), r"models/run\.json: not there"),
    ],
)
def test_a_bad_record_is_no_fault_of_the_store(
    made: Checkout, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], object], said: str
) -> None:
    damage(made.root)
    assert main.main(["track"]) == 3
    err = capsys.readouterr().err
    assert re.search(said, err)
    assert "is not available" not in err


def test_a_closed_output_is_no_fault_of_the_store(made: Checkout) -> None:
    """What was to be done is done; nobody is there to be told."""
    reading, writing = os.pipe()
    os.close(reading)
    code = (
        "import sys; from keras_pipeline.tracking import mirror; mirror.is_mirrored = lambda *given: True; "
        "from keras_pipeline.cli import main; sys.exit(main.main(['track']))"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + 13, "")

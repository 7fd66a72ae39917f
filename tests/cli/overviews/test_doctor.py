import contextlib
import importlib.metadata
import os
import pty
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tracking_fixtures
from keras_pipeline.cli.overviews import doctor
from keras_pipeline.core.errors import MachineError
from keras_pipeline.tracking.stores import database
from tracking_fixtures import SECRET, Checkout

DEVICES = "#!/bin/sh\necho /physical_device:CPU:0\n"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Checkout]:
    """A checkout without a store, which is the current folder, and a machine without TensorFlow's slowness."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "KERAS_PIPELINE_MIRRORS"):
        monkeypatch.delenv(name, raising=False)
    checkout = tracking_fixtures.checkout(tmp_path / "checkout")
    checkout.set_params({"fetch.dataset": "digits"})
    python(tmp_path, monkeypatch, DEVICES)
    (tmp_path / "site").mkdir(mode=0o700)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setattr(doctor, "cache_folder", lambda folder: folder / "cache")  # DVC is asked in test_dvc_settings
    with contextlib.chdir(checkout.root):
        yield checkout


def python(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let another program stand for the Python that imports TensorFlow."""
    program = folder / "python"
    program.write_text(script)
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def findings(made: Checkout, capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[bool, str]]:
    """Every line that `keras-pipeline doctor` prints; whether it is good, and its text, by what it is about."""
    with contextlib.suppress(MachineError):
        doctor.show_findings(made.params_file, made.root / "data" / "raw")
    lines = [re.fullmatch(r"(good|BAD )  (\w+): +(.*)", line) for line in capsys.readouterr().out.splitlines()]
    found = {line[2]: (line[1] == "good", line[3]) for line in lines if line}
    assert len(found) == len(lines) == 13
    return found


def test_a_machine_s_faults_are_findings_and_end_no_other_check(
    made: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert findings(made, capsys)["dataset"] == (True, "digits is computed, from no files")
    made.set_params({"fetch.dataset": "mnist"})
    monkeypatch.setenv("KERAS_PIPELINE_MIRRORS", "m" * 5000)
    good, text = findings(made, capsys)["dataset"]
    assert not good
    assert "File name too long" in text
    raw = made.root / "data" / "raw"
    raw.mkdir(parents=True)
    for manifest in ("{", "[]", '{"title": "mnist"}'):
        (raw / "dataset.json").write_text(manifest)
        good, text = findings(made, capsys)["dataset"]
        assert not good
        assert "The stage 'fetch' writes it" in text


def test_locks_that_dvc_left_torn_are_a_finding(
    made: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name)  # on PATH or not, it is the locks that count here
    locks = made.root / ".dvc" / "tmp" / "rwlock"
    locks.parent.mkdir(parents=True)
    for content, whole in (('{"read": {}}', True), ("", False)):
        locks.write_text(content)
        good, text = findings(made, capsys)["dvc"]
        assert good == whole
        assert text.endswith("rm -r .dvc/tmp/rwlock") != whole


def test_what_git_and_dvc_refuse_is_a_finding_with_the_way_out(
    made: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name)
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    found = findings(made, capsys)
    assert found["git"] == (
        False,
        "no repository: DVC needs a clone (`git clone`), or `git init` and a first commit",
    )
    assert found["cache"] == (True, "cache; nobody else may write where DVC keeps what it runs")
    subprocess.run(["git", "init", "--quiet"], check=True)
    assert findings(made, capsys)["git"][1].startswith("no commit yet: DVC needs")
    (made.root / ".dvc").mkdir(exist_ok=True)
    (made.root / "dvc.lock").write_text("schema: '2.0'\n<<<<<<< HEAD\n")
    (made.root / "dvc.yaml").write_text("stages: {}\n>>>>>>> other\n")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    (made.root.parent / "site").chmod(0o777)
    found = findings(made, capsys)
    good, text = found["git"]
    assert not good
    assert text.startswith("unknown: fatal: detected dubious ownership in repository at ")
    assert f"git config --global --add safe.directory {made.root}" in text
    good, text = found["dvc"]
    assert not good
    assert "dvc.yaml:2: a git conflict marker, '>>>>>>>'. Keep one side" in text
    assert "dvc.lock:2: a git conflict marker, '<<<<<<<'. Take one side" in text
    assert "`git checkout --theirs dvc.lock && dvc repro`" in text
    good, text = found["cache"]
    assert not good
    assert "site can be written by others, and DVC runs what it finds there" in text


def test_a_folder_that_was_removed_is_a_finding(
    made: Checkout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    with contextlib.chdir(gone):
        gone.rmdir()
        found = findings(made, capsys)
    assert "No such file or directory" in found["store"][1]
    assert "No such file or directory" in found["disk"][1]


@pytest.mark.parametrize("mirror", ["http://a..b", "http://[::1", "http://127.0.0.1:1", "https://"])
def test_an_address_that_is_none_does_not_answer(mirror: str) -> None:
    assert not doctor._answers(mirror, "train-labels-idx1-ubyte.gz")


# TensorFlow


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("kill -ILL $$", "its process ended by signal 4 (Illegal instruction); it needs a processor with AVX"),
        ("kill -KILL $$", "its process ended by signal 9 (Killed)"),
        ("exit 3", "no reason given"),
        ("echo 'Traceback' >&2; printf 'ImportError: \\377' >&2; exit 1", "ImportError: \ufffd"),
    ],
)
def test_tensorflow_that_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    python(tmp_path, monkeypatch, f"#!/bin/sh\n{script}\n")
    assert doctor._devices() == (False, f"TensorFlow does not start: {said}")


def test_no_program_at_all(made: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "executable", str(made.root / "nothing"))
    assert findings(made, capsys)["devices"][0] is False


SLOW_PROBE = """if True:
    import sys
    from keras_pipeline.cli.overviews import doctor
    doctor.PATIENCE_SECONDS = 0.1
    sys.executable = sys.argv[1]
    print(doctor._devices()[0])
"""


@pytest.mark.parametrize("terminal", [True, False])
def test_a_slow_tensorflow_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    running = sys.executable
    os.mkfifo(tmp_path / "start")
    python(tmp_path, monkeypatch, f"#!/bin/sh\nread line < {tmp_path}/start\n{DEVICES.splitlines()[1]}\n")
    ours, theirs = pty.openpty() if terminal else os.pipe()
    command = [running, "-c", SLOW_PROBE, sys.executable]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        if terminal:
            assert (
                os.read(ours, 999).decode().startswith("      devices:    waiting for TensorFlow to start in process")
            )
        (tmp_path / "start").write_text("now\n")
        out, _ = process.communicate(timeout=60)
    assert out == "True\n"
    if not terminal:
        assert os.read(ours, 999) == b""
    os.close(ours)


# The store; what it is said to be is tested in tests/tracking/test_database.py


def test_a_store_that_does_not_exist_yet_is_good(made: Checkout) -> None:
    assert doctor._store() == (True, f"sqlite:///{made.database} will be made by the first run")
    assert not made.database.parent.exists()


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        (
            "http://me:open-sesame@127.0.0.1:{port}",
            r"http://\*\*\*@.* is not available \(.*Connection refused\): mend",
        ),
        ("http://a..b", r"is not available \(Failed to parse"),
        ("postgresql+nodriver://me:open-sesame@h/db", r"postgresql\+nodriver://\*\*\*@h/db is not available"),
        (
            "sqlite:///dvc.yaml",
            "is no database that SQLite can read, whatever it held: if it was no store, name another",
        ),
        ("sqlite:///.", r"is not available \(.*checkout is a folder, and no file\)"),
        ("sqlite:///other.db", "is the database of another program: name another one in MLFLOW_TRACKING_URI"),
        ("sqlite:///newer.db", "is of a newer MLflow than the installed one: update this project, or name another"),
        ("sqlite:///torn.db", r"is damaged \(.*\): if it was no store, .*`sqlite3 \S+torn.db .recover` may read"),
    ],
)
def test_a_store_that_is_none(made: Checkout, monkeypatch: pytest.MonkeyPatch, uri: str, said: str) -> None:
    craft(made.root / "other.db", "CREATE TABLE bookmarks AS SELECT 1")
    whole = "CREATE TABLE experiments AS SELECT 0; CREATE TABLE alembic_version AS SELECT '{}' AS version_num"
    craft(made.root / "newer.db", whole.format("0123456789ab"))
    torn = craft(made.root / "torn.db", whole.format(database._schemas()[0]) + "; CREATE TABLE runs AS SELECT 2")
    torn.write_bytes(torn.read_bytes()[:-4096] + b"\xff" * 4096)
    before = {path: path.read_bytes() for path in made.root.iterdir()}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(port=probe.getsockname()[1]))
        good, text = doctor._store()
    assert not good
    assert re.search(said, text)
    assert SECRET not in text
    assert {path: path.read_bytes() for path in made.root.iterdir()} == before


def craft(file: Path, script: str) -> Path:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.executescript(script)
    return file


def test_a_package_of_another_version_is_named(
    made: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, text = findings(made, capsys)["packages"]
    assert good
    assert int(text.split()[0]) > 15
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "optuna":
            raise importlib.metadata.PackageNotFoundError(name)
        return "3.9.1" if name == "keras" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    good, text = findings(made, capsys)["packages"]
    assert not good
    assert text.startswith("keras is 3.9.1, expected ==3.15.1; optuna is not installed, expected ")
    assert text.endswith(": run `make setup`")

"""The command line as a whole: help, exit codes, what a user gets wrong, and the other ends."""

import errno
import json
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import small
import tiny_datasets
import tiny_raw
from keras_pipeline.checks import params as checks
from keras_pipeline.checks.params import load_params
from keras_pipeline.cli import main
from keras_pipeline.core import errors, files, limits, process
from keras_pipeline.core.errors import PipelineError
from places import PROGRAM, SHIPPED

STAGES = ("scan", "fetch", "normalize", "train", "evaluate", "export", "track")
VERBS = (
    "scan", "fetch", "normalize", "train", "launch", "evaluate", "export", "track", "dataset", "study", "search",
    "status", "certify", "compare", "relocate", "ui", "model", "predict", "serve", "page", "edge", "params", "schema",
    "doctor", "debug", "determinism", "conformance", "completion",
)  # fmt: skip
HEAVY = {"tensorflow", "keras", "mlflow", "sklearn", "scipy", "matplotlib", "dvc", "numpy", "requests", "shtab"}
Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a command in an empty folder with the shipped params.yaml: exit code, lines of output, of errors."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(SHIPPED, tmp_path / "params.yaml")
    edit("dataset", "mnist")
    edit("scaling", "unit")
    edit("validation_share", "0.1")
    handlers = {number: signal.getsignal(number) for number in (*process.REQUESTS, signal.SIGALRM)}

    def run(*arguments: str) -> tuple[int, list[str], list[str]]:
        capsys.readouterr()
        try:
            code: Any = main.main(list(arguments))
        except SystemExit as exit_:
            code = exit_.code
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out.splitlines(), err.splitlines()

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def edit(key: str, value: str) -> None:
    text, count = re.subn(rf"(?m)^( *{key}:) .*$", rf"\1 {value}", Path("params.yaml").read_text())
    assert count == 1
    Path("params.yaml").write_text(text)


def write_raw() -> None:
    """data/raw as fetch leaves it, with a few images of noise."""
    tiny_raw.write_raw(Path("data/raw"), name="mnist", train=200, test=200)


# Help.


def test_help_lists_every_command_and_every_exit_code(run: Run) -> None:
    code, out, err = run("--help")
    assert (code, err) == (0, [])
    listed = re.findall(r"(?m)^ {4}(\w+)(?: |$)", "\n".join(out))
    assert listed == list(VERBS)
    text = " ".join("\n".join(out).split())
    for number, meaning in main.EXIT_MEANING.items():
        assert f"{number} {meaning.partition(' later')[0].replace('the same command ', '')}" in text


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_has_help(verb: str, run: Run) -> None:
    code, out, err = run(verb, "--help")
    assert (code, err) == (0, [])
    assert out[0].startswith(f"usage: keras-pipeline {verb}")
    assert any(line.endswith(".") for line in out[1:])


def test_every_kind_of_error_has_an_exit_code_with_a_meaning() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PipelineError)]
    kinds.remove(PipelineError)
    codes = {kind.__name__: kind.exit_code for kind in kinds}
    assert codes.pop("StoppedError") == codes["BusyError"]  # both: the same command succeeds later
    assert set(codes.values()) == set(main.EXIT_MEANING) - {1}  # 1: the answer of a question, no fault
    assert len(set(codes.values())) == len(codes)


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_prints_a_script_that_the_shell_accepts(shell: str, run: Run, tmp_path: Path) -> None:
    code, out, err = run("completion", shell)
    assert (code, err) == (0, [])
    for verb in VERBS:
        assert any(verb in line for line in out)
    if shutil.which(shell) is None or shell == "tcsh":
        return
    done = subprocess.run([shell, "-n"], input="\n".join(out), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_bash_completes_commands() -> None:
    script = subprocess.run([PROGRAM, "completion", "bash"], capture_output=True, text=True, check=True).stdout
    ask = 'COMP_WORDS=(keras-pipeline n); COMP_CWORD=1; _shtab_keras_pipeline; echo "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True)
    assert done.stdout == "normalize\n"


# What a user gets wrong.


@pytest.mark.parametrize(
    ("arguments", "last"),
    [
        ([], "keras-pipeline: error: the following arguments are required: COMMAND"),
        (["nope"], f"keras-pipeline: error: argument COMMAND: invalid choice: 'nope' "
         f"(choose from {', '.join(map(repr, VERBS))})"),
        (["params"], "keras-pipeline params: error: the following arguments are required: action"),
        (["params", "chek"], "keras-pipeline params: error: argument action: invalid choice: 'chek' "
         "(choose from 'check', 'use')"),
        (["fetch", "--nope"], "keras-pipeline: error: unrecognized arguments: --nope"),
        (["fetch", "--raw"], "keras-pipeline fetch: error: argument --raw: expected one argument"),
        (["ui", "--port", "x"], "keras-pipeline ui: error: argument --port: invalid int value: 'x'"),
        (["completion", "fish"], "keras-pipeline completion: error: argument shell: invalid choice: 'fish' "
         "(choose from 'bash', 'zsh', 'tcsh')"),
    ],
)  # fmt: skip
def test_usage_faults(arguments: list[str], last: str, run: Run) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, [])
    assert err[0].startswith("usage: keras-pipeline")
    # Python 3.12 and later list choices without quotes.
    assert err[-1].replace("'", "") == last.replace("'", "")


def test_params_check_says_that_all_is_good(run: Run) -> None:
    assert run("params", "check") == (0, ["params.yaml: good"], [])
    assert run("params", "check", "--params", str(SHIPPED)) == (0, [f"{SHIPPED}: good"], [])


def test_params_faults_are_all_listed_before_anything_is_done(run: Run, tmp_path: Path) -> None:
    edit("seed", "-1")
    edit("dropout", "3")
    for verb in STAGES:
        code, out, err = run(verb)
        assert (code, out) == (2, [])
        assert [line.rpartition(": ")[0].split(": ")[1] for line in err[:2]] == ["seed", "model.dropout"]
        assert err[2:] == ["Nothing was changed.", f"keras-pipeline {verb}: exit 2 (bad params or usage)"]
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (".", ".: this is a directory. A YAML file is expected: name one."),
        ("/dev/zero", "/dev/zero: this is no regular file. A YAML file is expected: name one."),
        ("none.yaml", "none.yaml: no such file. Run the command where it is, or restore it: "
         "`git restore none.yaml`."),
        ("empty.yaml", "empty.yaml:1:1: the file holds no params. A block with the keys seed, fetch, normalize, "
         "model, train, evaluate, export, tracking is expected."),
        ("bytes.yaml", "bytes.yaml:1:1: the byte 0x89 is not UTF-8; the text may be Latin-1. "
         "Save the file as UTF-8."),
    ],
)  # fmt: skip
def test_params_that_are_no_params(path: str, message: str, run: Run) -> None:
    Path("empty.yaml").touch()
    Path("bytes.yaml").write_bytes(b"\x89PNG\r\n\x1a\n")
    code, out, err = run("params", "check", "--params", path)
    assert (code, out) == (2, [])
    assert err == [message, "Nothing was changed.", "keras-pipeline params: exit 2 (bad params or usage)"]


@pytest.mark.parametrize(
    ("verb", "missing", "stage"),
    [
        ("normalize", "data/raw/dataset.json", "fetch"),
        ("train", "data/normalized/statistics.json", "normalize"),
        ("evaluate", "data/normalized/statistics.json", "normalize"),
        ("track", "models/run.json", "train"),
        ("status", "models/run.json", "train"),
    ],
)
def test_a_stage_without_its_input_names_the_stage_that_writes_it(
    verb: str, missing: str, stage: str, run: Run
) -> None:
    assert run(verb) == (
        3,
        [],
        [
            f"{missing}: not there. The stage '{stage}' writes it: run `dvc repro {stage}`.",
            f"keras-pipeline {verb}: exit 3 (bad data)",
        ],
    )


def test_a_damaged_input_is_bad_data(run: Run) -> None:
    write_raw()
    Path("data/raw/test_labels.npy").write_bytes(b"\0")
    code, _, err = run("normalize")
    assert code == 3
    assert err[0].startswith("data/raw/test_labels.npy: not the file that the stage 'fetch' wrote")


# The other ends.


def test_no_mirror_is_a_failed_download(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_datasets.write_file(Path(), tiny_datasets.payloads(train=100), name="mnist")
    monkeypatch.setenv("KERAS_PIPELINE_MIRRORS", "/nowhere")
    edit("batch_size", "full")
    for options in ([], ["--download-only"]):
        code, out, err = run("fetch", *options)
        assert (code, out) == (4, [])
        assert "no mirror gave this file" in err[0]
        assert err[-1] == "keras-pipeline fetch: exit 4 (download failed)"
    assert not Path("data/raw").exists()


def test_fetch_and_normalize_of_a_whole_dataset(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    contents = tiny_datasets.payloads(train=100)
    for role, envelope in tiny_datasets.compressed(contents).items():
        files.write_atomically(tmp_path / "own" / tiny_datasets.NAMES[role], envelope)
    tiny_datasets.write_file(Path(), contents, name="mnist")
    monkeypatch.setenv("KERAS_PIPELINE_MIRRORS", "own")
    edit("batch_size", "full")
    assert run("fetch", "--raw", "r/raw", "--downloads", "d")[0] == 0
    code, out, err = run("normalize", "--raw", "r/raw", "--normalized", "n/normalized")
    assert (code, err) == (0, [])
    assert out[0] == "normalize: mnist, 90 train, 10 validation, 3 test images, scaling unit"
    assert (tmp_path / "n" / "normalized" / "statistics.json").exists()
    assert not (tmp_path / "data").exists()


def test_a_network_larger_than_the_memory_is_refused_before_tensorflow(run: Run) -> None:
    edit("architecture", "layers")
    edit("layers", f"[{{layer: Flatten}}{', {layer: Dense, units: 65536}' * 99}]")
    images = {"train": 54_000, "validation": 6_000, "test": 10_000}
    made = load_params(Path("params.yaml")).normalize.model_dump()
    absent = small.statistics(images, dataset="mnist", normalize=made)
    files.write_json(Path("data/normalized/statistics.json"), absent)
    code, out, err = run("train")
    assert (code, out) == (6, [])
    assert err[0].startswith("params.yaml: model: a training step needs at least 67")
    assert err[-1] == "keras-pipeline train: exit 6 (something is missing on this machine)"


def test_a_full_disk_is_the_machine_s(run: Run) -> None:
    write_raw()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        code, _, err = run("normalize")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 6
    named = "data/normalized/train_images.npy: File too large ("
    asked = ", a file may have 2,000 bytes (ulimit -f), 0.1 MB are needed). Make room, give permission or name another "
    assert err[0].startswith(named)
    assert asked in err[0]
    assert err[-1] == "keras-pipeline normalize: exit 6 (something is missing on this machine)"
    assert list(Path("data/normalized").iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["fetch", "--raw", "file/raw"],
        ["normalize", "--raw", "file"],
        ["normalize", "--normalized", "file/normalized"],
        ["normalize", "--normalized", "/dev/null/a/b"],
        ["normalize", "--normalized", f"{'x' * 300}/normalized"],
        ["train", "--models", "file"],
        ["evaluate", "--reports", "file"],
        ["status", "--models", "file"],
    ],
)
def test_a_path_that_cannot_be_is_the_machine_s(arguments: list[str], run: Run) -> None:
    Path("file").touch()
    code, _, err = run(*arguments)
    assert code == 6
    assert err[0].endswith(". Make room, give permission or name another path, then run it again.")
    assert err[1] == f"keras-pipeline {arguments[0]}: exit 6 (something is missing on this machine)"


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="no folder here that even root cannot write to")
def test_a_missing_permission_is_the_machine_s(run: Run) -> None:
    code, _, err = run("normalize", "--normalized", "/sys/kernel/keras-pipeline/normalized")
    assert code == 6
    assert err[0].startswith("/sys/kernel/keras-pipeline: ")


def test_a_folder_that_another_process_writes_is_busy(run: Run) -> None:
    write_raw()
    with files.lock_folder(Path("data")):
        code, out, err = run("normalize")
    assert (code, out) == (75, [])
    assert err[0].startswith(f"data/ is being written by process {os.getpid()}, for 0 s. Wait until it ends")
    assert err[1] == "keras-pipeline normalize: exit 75 (stopped or busy: run the same command again)"
    assert run("normalize")[0] == 0


def raises(error: BaseException) -> Callable[[Path], Any]:
    def load(path: Path) -> Any:
        raise error

    return load


@pytest.mark.parametrize("kind", [errors.DivergedError, errors.ModelFileError, errors.MachineError])
def test_kinds_that_only_a_training_could_raise(
    kind: type[PipelineError], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "load_params", raises(kind("received, expected, https://user:secret@host/x")))
    code, out, err = run("params", "check")
    assert (code, out) == (kind.exit_code, [])
    assert err == [
        "received, expected, https://***@host/x",
        f"keras-pipeline params: exit {code} ({main.EXIT_MEANING[code]})",
    ]


def test_exhausted_memory_is_the_machine_s(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "load_params", raises(MemoryError()))
    code, _, err = run("params", "check")
    assert code == 6
    assert err[0] == "Memory is exhausted. Use a smaller network or train.batch_size, or end other programs."


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("no answer from https://user:secret@host/x?token=secret"),
        KeyError("images"),
        OSError(errno.ESRCH, "No such process"),
    ],
)
def test_a_bug_of_ours_is_a_file_that_only_its_user_can_read(
    error: Exception, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(checks, "load_params", raises(error))
    code, out, err = run("params", "check")
    assert (code, out) == (70, [])
    (path,) = tmp_path.glob("keras-pipeline-*.txt")
    assert err == [
        f"keras-pipeline params: this is a bug of keras-pipeline, please report it ({type(error).__name__}).",
        f"The traceback is in {path}",
        "keras-pipeline params: exit 70",
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = path.read_text()
    assert content.startswith("Traceback")
    assert str(error).split("://")[0] in content
    assert "secret" not in content


def test_no_thread_for_numpy_is_the_machine_s_and_no_interruption(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(limits, "numpy_threads", lambda: 3)
    monkeypatch.setattr(threading.Thread, "start", none)
    for arguments in (["status"], ["study", "list"], ["normalize"]):
        code, _, said = run(*arguments)
        assert code == 6
        assert said[0].startswith("NumPy needs 3 threads here, and 0 could be started")
    assert run("params", "check")[0] == 0


def test_ctrl_c_ends_in_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "load_params", raises(KeyboardInterrupt()))
    assert run("params", "check") == (130, [], ["keras-pipeline params: interrupted, exit 130"])


# Real processes.


def test_the_installed_program_ends_in_the_exit_code(tmp_path: Path) -> None:
    done = subprocess.run([PROGRAM, "params", "check"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "keras-pipeline params: exit 2 (bad params or usage)"


def test_help_and_params_check_load_nothing_heavy() -> None:
    program = (
        "import json, sys; from keras_pipeline.cli import main\n"
        "try: main.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'pydantic' not in sys.modules\n"
        "main.main(['params', 'check', '--params', sys.argv[1]])\n"
        "print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program, SHIPPED], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "pydantic" in loaded
    assert loaded & HEAVY == set()


def test_nohup_keeps_its_word(run: Run) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # put back by the fixture
    assert run("params", "check")[0] == 0
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN

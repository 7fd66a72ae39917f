"""What is printed: shown as text in every encoding, and to outputs that are closed, full or left."""

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import forked_program
from forked_program import Ended
from keras_pipeline.core import terminal
from keras_pipeline.core.terminal import shown
from on_terminal import run_on_terminal

HOSTILE = {
    "\x1b]0;owned\x07\x1b[2J": r"\x1b]0;owned\x07\x1b[2J",
    "good\rBAD": r"good\x0dBAD",
    "a\u202eb\u2066c\u200f": r"a\u202eb\u2066c\u200f",
    "\x9b31m \x7f \x00": r"\x9b31m \x7f \x00",
    "\ud800": r"\ud800",
    "Zürich 東京 × … ± − 😀\t|\n": "Zürich 東京 × … ± − 😀\t|\n",
}


@pytest.mark.parametrize("text", HOSTILE)
def test_what_cannot_be_seen_is_written_out(text: str) -> None:
    assert shown(text) == HOSTILE[text]
    assert shown(shown(text)) == HOSTILE[text]


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("ascii", r"1 x 2 ... 3 - 4 +- 5 \u6771\u4eac \xfc"),
        ("latin-1", "1 × 2 ... 3 - 4 ± 5 \\u6771\\u4eac ü"),
        ("utf-8", ""),
    ],
)
def test_every_encoding_takes_every_text(encoding: str, written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "1 × 2 … 3 − 4 ± 5 東京 ü"
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    with terminal.open_output() as faults:
        print(text)
        print(f"{text} https://me:secret@host \x1b[2J", file=sys.stderr)
    assert (sys.stdout, sys.stderr, faults) == (*streams, [])
    expected = written or text
    assert streams[0].buffer.getvalue().decode(encoding) == f"{expected}\n"  # type: ignore[attr-defined]
    assert streams[1].buffer.getvalue().decode(encoding) == f"{expected} https://***@host \\x1b[2J\n"  # type: ignore[attr-defined]


# Every command, at every kind of output. What it does ends with this exit code in an empty folder.

VERBS = {
    "fetch": 4, "normalize": 3, "train": 3, "launch --workers 2": 2, "evaluate": 3, "track": 3, "status": 3,
    "certify": 3, "relocate": 6, "params check": 0, "params chek": 2, "debug one-batch": 3, "--help": 0,
    "completion bash": 0, "train --help": 0,
}  # fmt: skip
PRINT = {verb for verb, code in VERBS.items() if code == 0}
"""Those that print to standard output here."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ended]:
    folder = tmp_path_factory.mktemp("empty")
    return forked_program.in_folder(folder)


@pytest.mark.parametrize("verb", VERBS)
def test_outputs_that_are_not_there(verb: str, run: Callable[..., Ended]) -> None:
    usual = run(verb)
    code = VERBS[verb]
    assert usual.code == code, usual.err
    assert bool(usual.out) == (verb in PRINT)
    for closed in ("0", "1", "2", "012"):
        ended = run(verb, **{f"closed_{number}": True for number in closed})
        assert ended.code == code
        assert ended.out == ("" if "1" in closed else usual.out)
        assert _same(ended.err, "" if "2" in closed else usual.err)
    left, full = run(verb, out="left"), run(verb, out="full")
    assert left.code == (128 + signal.SIGPIPE if verb in PRINT else code)
    assert full.code == (6 if verb in PRINT else code)
    assert _same(left.err, usual.err)
    if verb in PRINT:
        assert full.err.count("No space left on device") == 1
        assert full.err.splitlines()[-1].endswith(": exit 6 (something is missing on this machine)")
    for kind in ("left", "full"):
        ended = run(verb, err=kind)
        assert (ended.code, ended.out) == (code, usual.out)


def _same(err: str, usual: str) -> bool:
    """Whether the last line, which says the exit code, is the same and no more is said."""
    return err.splitlines()[-1:] == usual.splitlines()[-1:] and len(err.splitlines()) == len(usual.splitlines())


@pytest.mark.parametrize("verb", VERBS)
def test_an_ascii_output_and_no_terminal(verb: str, run: Callable[..., Ended]) -> None:
    ended = run(verb, encoding="ascii")
    assert ended.code == VERBS[verb]
    assert (ended.out + ended.err).isascii()


def test_no_file_becomes_an_output(tmp_path: Path) -> None:
    """Of a process whose outputs are closed: the first file that it opens would have their numbers."""

    def close_and_write() -> None:
        for descriptor in (0, 1, 2):
            os.close(descriptor)
        terminal.open_descriptors()
        with (tmp_path / "file").open("wb") as file:
            os.write(1, b"noise of a library")
            os.write(2, b"noise of a library")
            file.write(b"content %d %d" % (file.fileno() > 2, all(map(os.get_inheritable, (0, 1, 2)))))

    assert forked_program.run_forked(close_and_write) == 0
    assert (tmp_path / "file").read_bytes() == b"content 1 1"


# Bars, colours and quiet: for a person at a terminal, and for nobody else

WORK = """if True:
    import time
    from keras_pipeline.core import terminal
    from keras_pipeline.core.terminal import Progress
    with terminal.open_output():
        bar = Progress("Epoch 1/3", 300, "step", done=100)
        for step in range(101, 301):
            bar.advance(step, f"Epoch {step // 100}/3", loss="0.25")
            time.sleep(0.002)
            if step % 100 == 0:
                bar.print(f"Epoch {step // 100}/3: train/loss 0.25\\x1b[2J")
        bar.close()
        print("done")
"""
COLOURS = """if True:
    from keras_pipeline.core import terminal
    with terminal.open_output():
        print(terminal.better("good"), terminal.worse("bad"), "\\x1b[31m", "\\ufdd5")
"""


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_terminal_has_one_bar_below_its_lines(columns: int, encoding: str) -> None:
    said = run_on_terminal(WORK, columns, PYTHONIOENCODING=encoding)
    lines = [line.strip("\r") for line in said.split("\n")]
    assert [line.rpartition("\r")[2] for line in lines if "train/loss" in line] == [
        f"Epoch {epoch}/3: train/loss 0.25\\x1b[2J" for epoch in (2, 3)
    ]
    assert lines[-2].endswith("done")
    bars = [part for part in said.replace("\n", "\r").split("\r") if re.match(r"Epoch \d/3: +\d+%", part)]
    assert bars[0].startswith("Epoch 1/3:  33%")
    assert any("Epoch 2/3" in bar for bar in bars)
    assert all(len(bar) <= columns for bar in bars)
    assert columns < 80 or any("loss=0.25" in bar and "<" in bar for bar in bars)  # and the time left


def test_elsewhere_there_are_the_lines_alone() -> None:
    expected = ["Epoch 2/3: train/loss 0.25\\x1b[2J", "Epoch 3/3: train/loss 0.25\\x1b[2J", "done"]
    piped = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, check=True)
    assert (piped.stdout.splitlines(), piped.stderr) == (expected, "")
    assert run_on_terminal(WORK, TERM="dumb").splitlines() == expected
    hushed = WORK.replace("bar = ", "hush = terminal.quiet(result=True); hush.__enter__(); bar = ")
    assert run_on_terminal(hushed) == ""


def test_colours_are_for_a_terminal_whose_user_wants_them() -> None:
    assert run_on_terminal(COLOURS) == "\x1b[32mgood\x1b[0m \x1b[31mbad\x1b[0m \\x1b[31m \\ufdd5\r\n"
    plain = "good bad \\x1b[31m \\ufdd5"
    assert run_on_terminal(COLOURS, NO_COLOR="1") == run_on_terminal(COLOURS, TERM="dumb") == f"{plain}\r\n"
    assert run_on_terminal(COLOURS, NO_COLOR="").startswith("\x1b[32m")
    piped = subprocess.run([sys.executable, "-c", COLOURS], capture_output=True, text=True, check=True)
    assert piped.stdout == f"{plain}\n"


def test_quiet_leaves_the_result_and_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.quiet(result=True):
        print("one\ntwo")
        print("a warning", file=sys.stderr)
        print("the result")
    assert capsys.readouterr() == ("the result\n", "a warning\n")
    with terminal.quiet(result=False):
        print("one")
    with terminal.quiet(result=True):
        pass
    assert capsys.readouterr().out == ""
    with pytest.raises(ZeroDivisionError), terminal.quiet(result=True):
        print("one", 1 / 0)
    assert capsys.readouterr().out == ""
    print("two")
    assert capsys.readouterr().out == "two\n"


def test_what_a_library_writes_is_shown_only_where_it_fails(capfd: pytest.CaptureFixture[str]) -> None:
    with terminal.withheld_errors():
        os.write(2, b"a page of a log\n")
    assert capfd.readouterr() == ("", "")

    def fail() -> None:
        with terminal.withheld_errors():
            os.write(2, b"why it failed\n")
            raise OSError("no")

    with pytest.raises(OSError, match="no"):
        fail()
    assert capfd.readouterr() == ("", "why it failed\n")
    os.write(2, b"seen again\n")
    assert capfd.readouterr().err == "seen again\n"

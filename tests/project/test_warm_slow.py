"""Programs that are forked from a warm server: as a process of their own, but for what is imported already."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hidden import warm
from real_workspace import wait_until

pytestmark = pytest.mark.slow

SEEN = """\
import json, os, signal, sys, tempfile
import keras_pipeline
umask = os.umask(0)
signals = [str(signal.getsignal(number)) for number in (2, 1, 15, 3, 13)]
files = [name for name in os.listdir("/proc/self/fd") if int(name) < 200 and os.path.exists(f"/proc/self/fd/{name}")]
seen = [sys.argv, sys.path, os.getcwd(), dict(os.environ), umask, signals, sorted(files), sys.stdin.read(), __name__]
seen += [keras_pipeline.__file__, tempfile.gettempdir(), sys.stdout.encoding, sys.stdout.line_buffering, sys.flags[:5]]
print(json.dumps([seen, "keras" in sys.modules, os.getpid()]))
"""
WAITS = """\
import sys, time  # keras_pipeline
try:
    print("begun", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(5)
"""


def started(code: str, *arguments: str, **options: object) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, **options)


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_a_program_sees_what_it_would_see_in_a_process_of_its_own(tmp_path: Path) -> None:
    own, temporary = tmp_path / "own", tmp_path / "temporary"
    own.mkdir()
    temporary.mkdir()
    found = []
    for servers in ("", os.environ[warm.VARIABLE]):
        environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": f"lib:{warm.HIDDEN}", "A": "ü"}
        environment |= {warm.VARIABLE: servers, "TZ": "Asia/Tokyo"}
        process = started(SEEN, "a", "b c", stdin=subprocess.PIPE, cwd=own, env=environment, umask=0o27)
        seen, imported, pid = json.loads(process.communicate("said")[0])
        assert process.returncode == 0
        assert (imported, pid != process.pid) == (bool(servers), bool(servers))
        del seen[3][warm.VARIABLE]
        found.append(seen)
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("pass", 0),
        ("sys.exit(7)", 7),
        ("sys.exit('why')", 1),
        ("1 / 0", 1),
        ("os.abort()", -signal.SIGABRT),
        ("os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("atexit.register(os._exit, 4)", 4),
    ],
)
def test_it_ends_as_its_program_does(end: str, code: int) -> None:
    process = started(f"import atexit, os, sys  # keras_pipeline\nprint('said')\nsys.stdout.flush()\n{end}")
    assert process.communicate()[0] == "said\n"
    assert process.returncode == code


def test_signals_reach_the_program_and_a_killed_process_takes_it_along() -> None:
    with started(WAITS) as process:
        assert first_line(process) == "begun"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 5
    with started(WAITS) as process:
        assert first_line(process) == "begun"
        process.terminate()
        assert process.wait(20) == -signal.SIGTERM
    with started(f"import os; print(os.getpid(), flush=True)\n{WAITS}") as process:
        fork = Path("/proc", first_line(process))
        assert fork.exists()
        process.kill()
        wait_until(lambda: not fork.exists(), 20, "the fork is gone")

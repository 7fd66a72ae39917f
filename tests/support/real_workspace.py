"""A checkout of this project in a folder of its own, worked on by real git, dvc and keras-pipeline processes."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from places import ROOT, SUPPORT

PROGRAMS = Path(sys.executable).parent
IDENTITY = {
    f"GIT_{role}_{kind}": value
    for role in ("AUTHOR", "COMMITTER")
    for kind, value in (("NAME", "Test"), ("EMAIL", "test@localhost"))
}
NOT_INHERITED = ("DVC_", "GIT_", "KERAS_", "MLFLOW_", "XDG_")
HIDDEN = SUPPORT / "hidden"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


@dataclass(frozen=True)
class Done:
    """An ended process: its exit code, and what it wrote to its standard output and error."""

    code: int
    output: str


@dataclass(frozen=True)
class Run:
    """A run as MLflow's database has it; `metrics`: the last value of each; `epochs`: of each, the steps in order."""

    name: str
    status: str
    params: dict[str, str]
    metrics: dict[str, float]
    epochs: dict[str, list[int]]
    tags: dict[str, str]
    artifacts: Path
    models: list[Path]


@dataclass(frozen=True)
class Workspace:
    """`folder`, and what its processes see: an empty home beside it, and git's author and committer, if `identity`."""

    folder: Path
    identity: bool = True
    started: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def run(self, command: str, *more: str, timeout: float = 240, **variables: str) -> Done:
        """Run a command line (split at blanks; `more` as it is) to its end; its code and output are not judged."""
        process, log = self.start(command, *more, **variables)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{command}: not ended after {timeout} s:\n{log.read_text()}") from None
        self.started.remove(process)
        return Done(process.returncode, log.read_text())

    def good(self, command: str, *more: str, timeout: float = 240, **variables: str) -> str:
        """The output of a command line that has to end with exit code 0."""
        done = self.run(command, *more, timeout=timeout, **variables)
        assert done.code == 0, f"{command}: exit {done.code}\n{done.output}"
        return done.output

    def start(self, command: str, *more: str, **variables: str) -> tuple["subprocess.Popen[bytes]", Path]:
        """The process, leader of a group of its own, and the file with what it writes.

        A file, not a pipe: the workers that `dvc queue start` leaves behind would hold a pipe open.
        """
        logs = self.folder.parent / "logs"
        logs.mkdir(exist_ok=True)
        log = logs / f"{len(list(logs.iterdir())):03} {command.replace('/', ' ')[:40]}.txt"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command.split(), *more],
                cwd=self.folder,
                env=self._environment() | variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(process)
        return process, log

    def close(self) -> None:
        """End what was started and has not ended, with its children."""
        for process in self.started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _environment(self) -> dict[str, str]:
        home = self.folder.parent / "home"
        home.mkdir(exist_ok=True)
        return {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)} | {
            "HOME": str(home),
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "PYTHONPATH": f"{self.folder / 'src'}{os.pathsep}{HIDDEN}",
            "DVC_SITE_CACHE_DIR": str(home / "dvc"),
            "GIT_CONFIG_NOSYSTEM": "1",
            **(IDENTITY if self.identity else {}),
        }

    def clone(self, folder: Path) -> "Workspace":
        """A git clone of this workspace's last commit."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.good("git clone --quiet", str(self.folder), str(folder))
        return Workspace(folder)

    def copy(self, folder: Path) -> "Workspace":
        """Everything in another place, with caches and runs; MLflow's paths still name this one."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Workspace(folder)

    def commit(self) -> None:
        """Commit every change of a tracked file, and what is new."""
        self.good("git add --all")
        self.good("git commit --quiet --message state")

    def recover(self) -> None:
        """Back to the last commit with everything that belongs to it, as after a failed stage."""
        self.good("git checkout -- .")
        self.good("dvc checkout --force")  # a history.csv that a failed training left would stop it

    def set(self, **values: Any) -> None:
        """Change values of params.yaml, named by dotted keys with `__` for the dot; comments stay."""
        path = self.folder / "params.yaml"
        yaml = YAML()
        yaml.width = 120
        content = yaml.load(path)
        for key, value in values.items():
            *blocks, last = key.split("__")
            block = content
            for name in blocks:
                block = block[name]
            assert last in block, key
            block[last] = value
        # In a new file: git overlooks a change within the second of a clone that leaves the size as it was.
        changed = path.with_name("params.yaml.new")
        yaml.dump(content, changed)
        changed.replace(path)

    def replace(self, old: str, new: str) -> None:
        """Change the text of params.yaml in one place."""
        path = self.folder / "params.yaml"
        text = path.read_text()
        assert text.count(old) == 1, old
        path.write_text(text.replace(old, new))

    def json(self, path: str) -> Any:
        """The content of a JSON file."""
        return json.loads((self.folder / path).read_bytes())

    def runs(self) -> list[Run]:
        """Every run of MLflow's database, oldest first."""
        path = self.folder / "mlruns" / "mlflow.db"
        if not path.exists():
            return []
        # Not read-only: what a killed process left half written is rolled back by whoever reads next.
        with closing(sqlite3.connect(path, timeout=30)) as database:
            found = database.execute("SELECT run_uuid, name, status, artifact_uri FROM runs ORDER BY start_time")
            return [_run(database, *row) for row in found.fetchall()]


def origin(folder: Path) -> Workspace:
    """A repository with the files of this checkout as they are now: tracked ones, and new ones git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    for name in set(listed.stdout.split("\0")) - {""}:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    workspace = Workspace(folder)
    workspace.good("git init --quiet")
    return workspace


def wait_until(condition: Callable[[], Any], seconds: float, what: str, every: float = 0.05) -> None:
    """Return as soon as `condition` is true; fail when it is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(every)


def _run(database: sqlite3.Connection, identity: str, name: str, status: str, uri: str) -> Run:
    def pairs(query: str) -> dict[str, Any]:
        return dict(database.execute(query, (identity,)).fetchall())

    epochs: dict[str, list[int]] = {}
    steps = "SELECT key, step FROM metrics WHERE run_uuid = ? ORDER BY key, step"
    for key, step in database.execute(steps, (identity,)):
        epochs.setdefault(key, []).append(step)
    models = "SELECT artifact_location FROM logged_models WHERE source_run_id = ? AND status = 2"
    return Run(
        name,
        status,
        pairs("SELECT key, value FROM params WHERE run_uuid = ?"),
        pairs("SELECT key, value FROM latest_metrics WHERE run_uuid = ?"),
        epochs,
        pairs("SELECT key, value FROM tags WHERE run_uuid = ?"),
        Path(uri.removeprefix("file://")),
        [Path(row[0].removeprefix("file://")) for row in database.execute(models, (identity,))],
    )

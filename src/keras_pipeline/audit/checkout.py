"""A recorded run made again: its commit and its params in a temporary checkout, where the stages run once more."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from keras_pipeline.core import process
from keras_pipeline.core.errors import MachineError
from keras_pipeline.records import git, record

NOT_INHERITED = ("DVC_", "MLFLOW_", *git.SET_BY_GIT)
PROGRAM = """\
import sys
try:
    from keras_pipeline.cli.main import main
except ModuleNotFoundError:  # as in commits before version 0.2
    from keras_pipeline.commands import main
sys.exit(main())
"""
DIGEST = """\
import sys
try:
    from keras_pipeline.records import provenance
except ModuleNotFoundError:
    from keras_pipeline import provenance
print(provenance.code_digest(sys.argv[1]))
"""
STOP_SECONDS = 20.0


@contextmanager
def checkout_commit(commit: str) -> Iterator[Path]:
    """The project's folder as it is in a commit of this folder's repository, in a temporary place until the end.

    Objects are shared with the repository, which is only read. Raises MachineError where git, a repository or the
    commit is lacking.
    """
    root = _git(Path.cwd(), "rev-parse", "--show-toplevel")
    inside = _git(Path.cwd(), "rev-parse", "--show-prefix")
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", commit) or not _has(commit):
        raise MachineError(
            f"the run's commit {commit[:40]!r} is not in this repository. Get it with `git fetch --all` (in a shallow "
            "clone: `git fetch --unshallow`), or run `keras-pipeline certify` in the checkout that trained it."
        )
    temporary = Path(tempfile.mkdtemp(prefix="keras-pipeline-certify-")).resolve()
    try:
        place = temporary / "checkout"
        _git(temporary, "clone", "--quiet", "--shared", "--no-checkout", root, str(place))
        _git(place, "checkout", "--quiet", commit)
        yield place / inside
    finally:
        with process.defer_signals():  # a second Ctrl-C waits for the removal
            shutil.rmtree(temporary, ignore_errors=True)


def set_params(project: Path, values: Mapping[str, Any]) -> None:
    """Let the project's params.yaml say the values (by dotted key, lists as JSON text); blocks that no run records
    stay as they are. Raises MachineError where the commit has no params.yaml to be read."""
    path = project / "params.yaml"
    try:
        stated = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        blocks = {name: block for name, block in stated.items() if name not in record.BLOCKS}
    except (OSError, ValueError, AttributeError, YAMLError) as error:
        raise MachineError(
            f"params.yaml of the run's commit cannot be read ({str(error).splitlines()[0]}), so nothing can be "
            "trained with that commit. Certify a run of another one."
        ) from None
    for key, value in values.items():
        *names, last = key.split(".")
        block = blocks
        for name in names:
            block = block.setdefault(name, {})
        block[last] = _list(value) if isinstance(value, str) and value.startswith("[") else value
    path.write_text(json.dumps(blocks, indent=1), encoding="utf-8")  # JSON is YAML


def _list(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text  # the params' schema says what is wrong with it


def project_code_digest(project: Path, module: str) -> str:
    """`provenance.code_digest` of a module as the project's own code computes it; empty where it cannot."""
    done = subprocess.run(
        process.python("-c", DIGEST, module),
        env=_environment(project, {}) | process.UTF8_OUTPUT,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def run_stage(project: Path, arguments: list[str], machine: Mapping[str, str], folder: Path | None = None) -> int:
    """Run `keras-pipeline` with these arguments by the project's code, in `folder` or the project's; the exit code,
    negative after a signal. The settings of `machine` hold there. What it prints goes where ours goes. However this
    ends, the process has ended too."""
    command = process.python("-c", PROGRAM, *arguments)
    environment = _environment(project, machine) | {"DVC_STAGE": arguments[0]}  # so it ends when this process dies
    stage = subprocess.Popen(command, cwd=folder or project, env=environment, stdin=subprocess.DEVNULL)
    try:
        return stage.wait()
    finally:
        if stage.poll() is None:
            stage.terminate()
            with suppress(subprocess.TimeoutExpired):
                stage.wait(STOP_SECONDS)
            stage.kill()
            stage.wait()


def _environment(project: Path, machine: Mapping[str, str]) -> dict[str, str]:
    """This process's, but the project's code is imported, and runs are kept beside it."""
    inherited = {
        name: value for name, value in record.settings_of(machine).items() if not name.startswith(NOT_INHERITED)
    }
    path = os.pathsep.join(filter(None, [str(project / "src"), inherited.get("PYTHONPATH")]))
    return inherited | {"PYTHONPATH": path, "MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlruns/mlflow.db"}


def _has(commit: str) -> bool:
    return git.run_git(Path.cwd(), "cat-file", "-e", f"{commit}^{{commit}}").returncode == 0


def _git(folder: Path, *arguments: str) -> str:
    """What git prints. Raises MachineError with git's own words where it fails or is not installed."""
    done = git.run_git(folder, *arguments)
    if done.returncode:
        raise MachineError(
            f"git failed: {git.refusal(done.stderr)}. A run is repeated from its commit: run `keras-pipeline certify` "
            "in a git checkout of the project, with room in the folder for temporary files (TMPDIR)."
        )
    return done.stdout.strip()

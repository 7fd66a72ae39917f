"""Where a command works: in the project around the current folder, which is looked for upwards, as git and DVC do.

What a user names is taken from where the user is: `user_path` and `user_run` are the only types of arguments for it.
"""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_pipeline.checks.project import MARKS, PARAMS, find_project
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.distribution import launcher

_started_in: list[Path] = []


@contextmanager
def project() -> Iterator[None]:
    """Within, the project's folder is the current one, if there is one. A process that DVC or we have started stays."""
    here = _current_folder()
    stays = launcher.PARENT in os.environ or "DVC_STAGE" in os.environ
    folder = None if stays or here is None else find_project(here)
    if here is None or folder is None or folder == here:
        yield
        return
    _started_in.append(here)
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        _started_in.clear()


def _current_folder() -> Path | None:
    """None where it was removed."""
    try:
        return Path.cwd()
    except OSError:
        return None


def user_path(text: str) -> Path:
    """The path that a user named, from the current folder."""
    return Path(os.path.relpath(_started_in[0] / text)) if _started_in and text else Path(text)


def user_run(text: str) -> str:
    """What a user called a run: the folder of one, from the current folder; or as it is, a revision or a name."""
    folder = user_path(text)
    return str(folder) if (folder / "models").is_dir() and (folder / "reports").is_dir() else text


def require_project(params: Path) -> None:
    """Raises ParamsError, with where it was looked for, if there is no project here and no params file was named."""
    if params == PARAMS and not any(Path(mark).exists() for mark in MARKS):
        here = _current_folder() or "the current folder, which was removed"
        raise ParamsError(
            f"No project here: {' and '.join(MARKS)} are not in {here}, and no folder above it holds a {MARKS[0]}. "
            "Run the command in the folder of a project or below it, or name its params file with --params."
        )

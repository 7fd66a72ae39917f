"""A dataset's files as one file under datasets/, which DVC keeps: a folder of 20,000 files takes DVC half a minute to
add and six seconds to find unchanged, an archive of them two."""

import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from keras_pipeline.core import files, process
from keras_pipeline.core.errors import MachineError, masked
from keras_pipeline.core.terminal import Progress
from keras_pipeline.sources.source_files import SourceFiles


def keep(source: SourceFiles, original: Path, path: Path) -> None:
    """Write `path`, a .tar of the source's files where `original` is a folder, else a copy of it, and let DVC keep it.

    Raises DataError as the source does, MachineError with what DVC says.
    """
    if original.is_dir():
        progress = Progress(str(path), len(source.names()), "file")
        try:
            pack(source, path, progress.advance)
        finally:
            progress.close()
    else:
        with original.open("rb") as content, files.writing_atomically(path, original.stat().st_size) as out:
            shutil.copyfileobj(content, out, 1 << 20)
    _add_to_dvc(path)


def pack(source: SourceFiles, path: Path, advance: Callable[[int], None] = lambda done: None) -> None:
    """Write all files of a source as a .tar, uncompressed, without times and owners, sorted: the same files give the
    same bytes. One of them is read at a time, and no more than a block of it. Raises DataError as the source does."""
    names, done = source.names(), 0
    total = sum(source.size(name) + 2048 for name in names)
    with (
        files.writing_atomically(path, total) as out,
        tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = source.size(name)
            member.mode = 0o644
            with source.open(name) as content:
                archive.addfile(member, content)
            done += 1
            advance(done)


def _add_to_dvc(path: Path) -> None:
    """`dvc add` of a file of this project."""
    done = subprocess.run(
        process.python("-m", "dvc", "add", str(path)),
        env={**os.environ, **process.UTF8_OUTPUT, "DVC_NO_ANALYTICS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        said = next((line for line in lines if line.startswith("ERROR: ")), lines[-1]).removeprefix("ERROR: ")
        path.unlink()
        raise MachineError(
            f"dvc add {path}: {masked(said).rstrip('.')}. Nothing was written. Mend it, or leave out --dvc."
        )

"""What the files of a dataset are now: looked at every time, and read where they are not as they were.

A file is the same one if its size, its number and the time of its last change are, which nobody can set. What is kept
of the last time lies among the downloads, outside of git and DVC; the digest depends on names and contents alone.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_pipeline.core import files, limits, process
from keras_pipeline.core.errors import DataError
from keras_pipeline.core.terminal import Progress
from keras_pipeline.sources.dataset_file import FOLDER, definition_digest, found_in, load_dataset
from keras_pipeline.sources.kinds.kind import Download, Kind
from keras_pipeline.sources.source_files import Folder, Source, SourceFiles, open_source, walk

_UNSETTLED_NS = 2_000_000_000
"""What was changed so shortly before it was read may be changed again without another time, and is read again."""


@dataclass(frozen=True)
class Scan:
    """`source`: what is there; None of a dataset that is computed. `path`: where, if it is here at all, and it is no
    download. `said`: what is to be told of it, in one line, or nothing."""

    source: Source | None
    path: Path | None = None
    said: str = ""


def look(name: str, dataset: Kind, downloads: Path, *, keep: bool = True) -> Scan:
    """What the dataset's files are now; `keep`: remember it for the next time.

    Raises DataError, with what to do, where they are not here and nobody has recorded what they were.
    """
    if dataset.download:
        return Scan(_published(dataset.download))
    if dataset.path is None:
        return Scan(None)
    path = next((found for found in found_in(dataset.path) if found.exists()), None)
    if path is not None:
        return _look_at(name, dataset.path, path, downloads, keep=keep)
    if dataset.recorded is None:
        raise absent(name, dataset)
    recorded: Source = {
        "files": dataset.recorded.files,
        "bytes": dataset.recorded.bytes,
        "sha256": dataset.recorded.sha256,
    }
    return Scan(recorded, None, f"{dataset.path} is not here: taken for what {FOLDER}/{name}.yaml recorded")


def absent(name: str, dataset: Kind) -> DataError:
    """What is raised where the data are not here."""
    places = ", ".join(dict.fromkeys(str(path.resolve()) for path in found_in(str(dataset.path))))
    pointer = next((path for path in found_in(f"{dataset.path}.dvc") if path.is_file()), None)
    way_out = f"Run `dvc pull {dataset.path}.dvc`" if pointer else "Put it there, or correct `path`"
    return DataError(f"{FOLDER}/{name}.yaml: {dataset.path} is not here. Looked for: {places}. {way_out}.")


def open_files(name: str, dataset: Kind, seen: Scan, downloads: Path) -> SourceFiles:
    """The files that `look` saw, which it downloads where they are mirrors'; none of a dataset that is computed. Says
    where they are other ones than the dataset file recorded. Raises DataError or DownloadError."""
    if not dataset.has_files:
        return Folder(Path(os.devnull), name)
    if dataset.download:
        return _downloaded(name, dataset.download, downloads)
    if dataset.path is None or seen.path is None:
        raise absent(name, dataset)
    recorded = dataset.recorded
    if recorded and seen.source and seen.source["sha256"] != recorded.sha256:
        print(
            f"{dataset.path}: {seen.source['files']:,} files of {seen.source['bytes']:,} bytes, other ones than the "
            f"{recorded.files:,} of {recorded.bytes:,} bytes that datasets/{name}.yaml recorded. They are used."
        )
    return open_source(seen.path, dataset.path, downloads)


def _downloaded(name: str, download: Download, downloads: Path) -> SourceFiles:
    from keras_pipeline.sources.files.download import download_files

    folder = downloads / name
    mirrors = [mirror.strip() for mirror in os.environ.get("KERAS_PIPELINE_MIRRORS", "").split(",")]
    with process.time_part("download"):
        contents = download_files(download, folder, [mirror for mirror in mirrors if mirror])
    if len(download.files) == 1 and not contents:
        file = download.files[0].name
        return open_source(folder / file, file, downloads)
    return Folder(folder, name, contents)


def _published(download: Download) -> Source:
    lines = [f"{file.content_sha256 or file.sha256 or file.md5}  {file.name}\n" for file in download.files]
    size = sum(file.bytes or file.content_bytes or 0 for file in download.files)
    return {"files": len(lines), "bytes": size, "sha256": hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()}


def _look_at(name: str, called: str, path: Path, downloads: Path, *, keep: bool) -> Scan:
    begun = time.time_ns()
    states = dict(walk(path, called)) if path.is_dir() else {path.name: path.stat()}
    place = str(path.resolve())
    before = _kept(_state_file(name, downloads), place)
    now = {one: [state.st_size, state.st_ctime_ns, state.st_ino] for one, state in states.items()}
    known = {one: before[one][3] for one, own in now.items() if one in before and before[one][:3] == own}
    unread = [one for one in now if one not in known]
    digests = {**known, **_digests(path, unread, sum(now[one][0] for one in unread))}
    if keep and (unread or before.keys() != now.keys()):
        kept = {
            one: [*(own if own[1] < begun - _UNSETTLED_NS else [own[0], 0, 0]), digests[one]]
            for one, own in now.items()
        }
        state = json.dumps({"place": place, "files": kept}, separators=(",", ":"), ensure_ascii=False)
        files.write_atomically(_state_file(name, downloads), state.encode("utf-8", "surrogatepass"))
    lines = "".join(f"{digests[one]}  {one}\n" for one in sorted(now))
    source: Source = {
        "files": len(now),
        "bytes": sum(own[0] for own in now.values()),
        "sha256": hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest(),
    }
    return Scan(source, path, _difference(called, before, digests))


def _difference(called: str, before: Mapping[str, list[Any]], digests: Mapping[str, str]) -> str:
    if not before:
        return ""
    counts = {
        "added": len(digests.keys() - before.keys()),
        "removed": len(before.keys() - digests.keys()),
        "changed": sum(one in before and before[one][3] != digest for one, digest in digests.items()),
    }
    parts: list[str] = []
    for what, count in counts.items():
        noun = "" if parts else "file " if count == 1 else "files "
        parts += [f"{count:,} {noun}{what}"] if count else []
    return f"{called}: {', '.join(parts)} since the last time" if parts else ""


def _digests(path: Path, names: list[str], size: int) -> dict[str, str]:
    if not names:
        return {}
    whole = path if path.is_dir() else path.parent
    progress = Progress("scan: reading", size, "B")
    done, found = 0, {}
    try:
        with ThreadPoolExecutor(limits.available_cores()) as pool:
            for name, digest in zip(names, pool.map(lambda one: files.file_sha256(whole / one), names), strict=True):
                found[name] = digest
                done += 1
                progress.advance(done * size // len(names))
    finally:
        progress.close()
    return found


def _state_file(name: str, downloads: Path) -> Path:
    return downloads / f"{name}.scan.json"


def _kept(path: Path, place: str) -> dict[str, list[Any]]:
    """Of each file its size, time, number and digest of the last time; nothing where that was elsewhere, or is
    damaged."""
    for one in dict.fromkeys([path, *(found_in(str(path)) if not path.is_absolute() else [])]):
        try:
            found = json.loads(one.read_bytes())
            if found["place"] == place and all(len(own) == 4 for own in found["files"].values()):
                return dict(found["files"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return {}


def written_elsewhere(scan: Path, name: str, definition: str, source: Source | None) -> bool:
    """Whether data/scan.json, which DVC takes for what was read, is of another state of this dataset."""
    if "DVC_STAGE" not in os.environ or not scan.exists():
        return False
    try:
        found = json.loads(scan.read_bytes())
    except (OSError, ValueError):
        return True
    return bool(found != described(name, definition, source))


def state_digest(name: str, downloads: Path) -> str:
    """SHA-256 of what a dataset is now: of what its file says, and of its data. Raises as `look` does."""
    dataset = load_dataset(name)
    found = described(name, definition_digest(dataset), look(name, dataset, downloads).source)
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def described(name: str, definition: str, source: Source | None) -> dict[str, Any]:
    """What data/scan.json holds."""
    return {"name": name, "definition": definition, "source": source}

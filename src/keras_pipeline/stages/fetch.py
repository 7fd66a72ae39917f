"""fetch: the examples of the dataset, from whatever files, in data/raw in the one form of all datasets."""

from pathlib import Path
from typing import TYPE_CHECKING

from keras_pipeline.core import files, process
from keras_pipeline.core.errors import BusyError, DataError
from keras_pipeline.sources import dataset_file
from keras_pipeline.sources.files import scan
from keras_pipeline.sources.kinds.kind import Kind
from keras_pipeline.sources.source_files import Source

if TYPE_CHECKING:
    from keras_pipeline.config.params import Params
    from keras_pipeline.sources.raw import RawDescription


def fetch_dataset(params: "Params", raw: Path, downloads: Path, scanned: Path | None = None) -> None:
    """Make `raw` hold the examples of `params.fetch.dataset`, as `sources.raw` writes them.

    The same dataset gives the same bytes, from whatever mirror. Where all is in place already, nothing is read but
    that, and nothing is written. `scanned`: what the stage scan wrote, which must tell of the same files where DVC runs
    both. Raises DownloadError, DataError, BusyError, or OSError (disk).
    """
    name = params.fetch.dataset
    dataset = dataset_file.load_dataset(name)
    definition = dataset_file.definition_digest(dataset)
    with files.lock_folder(raw.parent):
        with process.time_part("scan"):
            seen = scan.look(name, dataset, downloads)
        if seen.said:
            print(f"fetch: {seen.said}")
        if scanned and scan.written_elsewhere(scanned, name, definition, seen.source):
            raise BusyError(
                f"{scanned}: not of the files that are there now: they changed meanwhile. Run `dvc repro` again."
            )
        if _in_place(name, definition, seen.source, raw):
            print(f"{name}: already in {raw}/, verified.")
            return
        described = _fetch(name, dataset, definition, seen, raw, downloads)
        things = "rows" if described["input"]["kind"] == "table" else "images"
        counts = [f"{count:,} {split}" for split, count in described["images"].items()]
        print(f"{name}: {', '.join(counts[:-1])} and {counts[-1]} {things} in {raw}/.")


def download_only(params: "Params", raw: Path, downloads: Path) -> None:
    """Have the verified files of `params.fetch.dataset` in `downloads`, where `fetch_dataset` looks for them.

    Nothing is done for a dataset without downloads, nor where `raw` is in place. Raises as `fetch_dataset` does.
    """
    name = params.fetch.dataset
    dataset = dataset_file.load_dataset(name)
    definition = dataset_file.definition_digest(dataset)
    with files.lock_folder(raw.parent):
        seen = scan.look(name, dataset, downloads)
        if dataset.download and not _in_place(name, definition, seen.source, raw):
            scan.open_files(name, dataset, seen, downloads)


def _fetch(name: str, dataset: Kind, definition: str, seen: scan.Scan, raw: Path, downloads: Path) -> "RawDescription":
    from keras_pipeline.sources.raw_writer import write_raw

    source = scan.open_files(name, dataset, seen, downloads)
    with process.time_part("read"):
        examples = dataset.read(source)
    with process.time_part("write"):
        return write_raw(raw, name, dataset, examples, definition=definition, source=seen.source)


def _in_place(name: str, definition: str, source: Source | None, raw: Path) -> bool:
    from keras_pipeline.sources.raw import read_description

    try:
        recorded = read_description(raw)
    except DataError:
        return False
    if (recorded["name"], recorded["definition"], recorded["source"]) != (name, definition, source):
        return False
    changed = [
        file
        for file, one in recorded["files"].items()
        if not (raw / file).is_file() or files.file_sha256(raw / file) != one["sha256"]
    ]
    if changed:
        print(f"{raw}/: not as fetch wrote it ({', '.join(changed)}). It is made anew.")
    return not changed

"""A dataset for its page: from data/raw where that holds it, else from its files."""

import json
import tempfile
from pathlib import Path
from typing import Any

from keras_pipeline.core.errors import DataError
from keras_pipeline.inspection.findings import Finding, kept_findings
from keras_pipeline.inspection.overview import Overview, overview_of_raw
from keras_pipeline.sources.dataset_file import definition_digest
from keras_pipeline.sources.files import scan
from keras_pipeline.sources.kinds.kind import Kind
from keras_pipeline.sources.raw import read_description, read_raw
from keras_pipeline.sources.raw_writer import write_raw


def dataset_overview(name: str, dataset: Kind, folder: Path, downloads: Path) -> tuple[Overview, list[Finding] | None]:
    """That of a dataset, and what the last check of the same dataset found, if there was one. Of `folder`, data/raw,
    where that holds it as it is now; else its files are read, to a temporary folder."""
    seen = scan.look(name, dataset, downloads)
    definition = definition_digest(dataset)
    with tempfile.TemporaryDirectory() as other:
        if not _holds(folder, name, definition, seen.source):
            folder = Path(other, "raw")
            examples = dataset.read(scan.open_files(name, dataset, seen, downloads))
            write_raw(folder, name, dataset, examples, definition=definition, source=seen.source)
        overview = overview_of_raw(read_raw(folder))
    try:
        kept = json.loads(kept_findings(name, downloads).read_bytes())
        if (kept["definition"], kept["source"]) == (definition, seen.source):
            return overview, [Finding(**one) for one in kept["findings"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return overview, None


def _holds(folder: Path, name: str, definition: str, source: Any) -> bool:
    try:
        found = read_description(folder)
    except DataError:
        return False
    return (found["name"], found["definition"], found["source"]) == (name, definition, source)

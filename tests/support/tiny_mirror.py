"""The files of a mirror of the dataset `tiny`."""

from collections.abc import Sequence
from pathlib import Path

import pytest

import tiny_datasets
from fault_server import Answer, FaultServer, whole
from keras_pipeline.core.errors import DownloadError
from keras_pipeline.sources.files.download import Limits, download_files
from keras_pipeline.sources.kinds.kind import Download

CONTENTS = tiny_datasets.payloads()
ENVELOPES = tiny_datasets.compressed(CONTENTS)
GOOD = {tiny_datasets.NAMES[role]: whole(envelope) for role, envelope in ENVELOPES.items()}
PATIENCE = Limits()
FIRST = "train-images-idx3-ubyte.gz"
BYTES = ENVELOPES["train-images"]


def downloaded(row: Download, folder: Path, mirrors: Sequence[str] = (), limits: Limits = PATIENCE) -> dict[str, bytes]:
    """What is in the files, by role."""
    found = download_files(row, folder, mirrors, limits)
    return {role: found[name] for role, name in tiny_datasets.NAMES.items()}


def reason(answer: Answer, folder: Path, limits: Limits) -> str:
    """Why the only mirror, with this answer to the first file, was left; checks the error around it."""
    with FaultServer({**GOOD, FIRST: answer}) as bad:
        with pytest.raises(DownloadError) as refused:
            downloaded(tiny_datasets.row(CONTENTS, bad.url), folder / "alone", limits=limits)
        assert list((folder / "alone").iterdir()) == []
    text = str(refused.value)
    assert refused.value.exit_code == 4
    assert "KERAS_PIPELINE_MIRRORS=" in text
    assert "dvc exp run -S fetch.dataset=digits" in text
    return text.splitlines()[1].strip().removeprefix(f"{bad.url}/{FIRST}: ")


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}

"""The files of a mirror of the dataset `tiny`."""

from pathlib import Path

import pytest

import tiny_datasets
from fault_server import Answer, FaultServer, whole
from keras_pipeline.core.errors import DownloadError
from keras_pipeline.sources.download import Limits, download_dataset

CONTENTS = tiny_datasets.payloads()
ENVELOPES = tiny_datasets.compressed(CONTENTS)
GOOD = {tiny_datasets.NAMES[role]: whole(envelope) for role, envelope in ENVELOPES.items()}
FIRST = "train-images-idx3-ubyte.gz"
BYTES = ENVELOPES["train-images"]


def reason(answer: Answer, folder: Path, limits: Limits) -> str:
    """Why the only mirror, with this answer to the first file, was left; checks the error around it."""
    with FaultServer({**GOOD, FIRST: answer}) as bad:
        with pytest.raises(DownloadError) as refused:
            download_dataset(tiny_datasets.row(CONTENTS, bad.url), folder / "alone", limits=limits)
        assert list((folder / "alone").iterdir()) == []
    text = str(refused.value)
    assert refused.value.exit_code == 4
    assert "KERAS_PIPELINE_MIRRORS=" in text
    assert "dvc exp run -S fetch.dataset=digits" in text
    return text.splitlines()[1].strip().removeprefix(f"{bad.url}/{FIRST}: ")


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}

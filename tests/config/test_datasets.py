"""The table of datasets."""

import re

import pytest

from keras_pipeline.config.datasets import DATASETS
from keras_pipeline.sources.made import MADE


@pytest.mark.parametrize("name", DATASETS)
def test_every_row_is_complete(name: str) -> None:
    row = DATASETS[name]
    assert row.name == name
    assert row.title
    assert row.licence
    assert len(set(row.class_names)) == (0 if row.columns else 10)
    assert row.shape == ((len(set(row.columns)) - 1,) if row.columns else (28, 28, 1))
    assert not [
        name for name in (*row.class_names, *row.columns) if name.startswith(("=", "+", "-", "@"))
    ]  # no formula
    assert bool(row.files) == bool(row.mirrors) == (name not in MADE)
    for role, file in row.files.items():
        count = row.train_count if role.startswith("train") else row.test_count
        assert file.payload_size == (16 + 784 * count if "images" in role else 8 + count)
        assert re.fullmatch("[0-9a-f]{64}" if file.algorithm == "payload sha256" else "[0-9a-f]{32}", file.digest)


def test_no_two_files_share_a_digest() -> None:
    digests = [file.digest for row in DATASETS.values() for file in row.files.values()]
    assert len(set(digests)) == len(digests) == 12

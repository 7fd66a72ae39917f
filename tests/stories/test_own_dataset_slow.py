"""A new dataset is a file: it is trained on and evaluated."""

import json
from pathlib import Path

import pytest

from own_dataset import LETTERS, OwnDataset

pytestmark = pytest.mark.slow


def test_letters_are_learned(tmp_path: Path) -> None:
    letters = OwnDataset(tmp_path)
    for stage in ("fetch", "normalize", "train", "evaluate"):
        done = letters.run(stage)
        assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "reports" / "metrics.json").read_text())["test/accuracy"] > 0.9
    rows = (tmp_path / "reports" / "tables" / "per_class.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == list(LETTERS)

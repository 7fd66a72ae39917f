"""The examples of docs/own-data.md: each dataset file is one, and reads the files that are made for it."""

import re
from pathlib import Path

import pytest

from any_bytes import read_all
from example_numbers import write_numbers
from example_table import write_flowers
from keras_pipeline.sources.dataset_file import KINDS, kind_name, read_dataset
from keras_pipeline.sources.source_files import open_source
from made_pictures import make_pictures
from places import ROOT

TEXT = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^```yaml\n(kind: (\w+)\n.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
OF_KIND = {kind: text for text, kind in EXAMPLES.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("made")
    write_numbers(made)
    write_flowers(made / "flowers.csv")
    make_pictures(made / "photos", 4)
    return made


@pytest.mark.parametrize("kind", OF_KIND)
def test_an_example_is_read(kind: str, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / f"{kind}.yaml"
    path.write_text(OF_KIND[kind], encoding="utf-8")
    dataset = read_dataset(path)
    assert dataset.path
    assert read_all(dataset, open_source(folder / dataset.path, dataset.path, tmp_path)) > 10


def test_there_is_one_of_each_kind() -> None:
    assert set(OF_KIND) == {kind_name(kind) for kind in KINDS if kind.has_files}

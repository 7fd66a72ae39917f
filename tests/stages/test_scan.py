"""The stage scan: what it writes is the same bytes as long as nothing changed, and no import of it is heavy."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from keras_pipeline.cli import main
from keras_pipeline.core.errors import DataError
from keras_pipeline.stages import scan
from places import SHIPPED

OWN: Any = SimpleNamespace(fetch=SimpleNamespace(dataset="own"))
TEXT = "kind: idx\npath: own\nsize: [4, 3]\ntrain: {images: images, labels: labels}\nclasses: [a, b]\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in (("datasets/own.yaml", TEXT), ("own/images", "i"), ("own/labels", "l")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def scanned(folder: Path) -> bytes:
    scan.scan_dataset(OWN, folder / "data" / "scan.json", folder / "downloads")
    return (folder / "data" / "scan.json").read_bytes()


def test_it_writes_the_same_bytes_until_data_or_what_the_file_says_change(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = scanned(folder)
    assert sorted(json.loads(first)) == ["definition", "name", "source"]
    (folder / "own" / "images").touch()
    (folder / "datasets" / "own.yaml").write_text(f"# A comment.\n{TEXT}")
    assert scanned(folder) == first
    assert capsys.readouterr().out == ""
    (folder / "own" / "images").write_text("j")
    second = scanned(folder)
    assert capsys.readouterr().out == "scan: own: 1 file changed since the last time\n"
    (folder / "datasets" / "own.yaml").write_text(TEXT.replace("[a, b]", "[b, a]"))
    assert len({first, second, scanned(folder)}) == 3


def test_without_data_and_record_it_says_what_to_do(folder: Path) -> None:
    (folder / "own").rename(folder / "elsewhere")
    with pytest.raises(DataError, match="own is not here"):
        scanned(folder)
    (folder / "datasets" / "own.yaml").write_text(f"{TEXT}recorded: {{files: 2, bytes: 2, sha256: {'a' * 64}}}\n")
    assert json.loads(scanned(folder))["source"] == {"files": 2, "bytes": 2, "sha256": "a" * 64}


def test_a_dataset_that_is_computed_has_no_source(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "params.yaml").write_text(SHIPPED.read_text().replace("dataset: mnist", "dataset: digits"))
    assert main.main(["scan"]) == 0
    assert json.loads((folder / "data" / "scan.json").read_text())["source"] is None
    assert capsys.readouterr().out == ""


def test_it_imports_no_numpy(folder: Path) -> None:
    program = (
        "import sys; from keras_pipeline.cli import main; code = main.main(['scan', '--params', sys.argv[1]])\n"
        "print(code, sorted({'numpy', 'PIL', 'pyarrow', 'requests', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program, SHIPPED], capture_output=True, text=True, check=True)
    assert done.stdout == "0 []\n"

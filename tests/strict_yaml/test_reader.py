"""A file against its schema: typed, frozen, named as given."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from keras_pipeline.core.errors import ParamsError
from keras_pipeline.strict_yaml.reader import load_yaml, parse_yaml
from yaml_schema import VALID, Dense, Dropout, Precision, Schema, Small


def test_valid_file_is_typed_and_frozen() -> None:
    params = parse_yaml(VALID.encode(), "params.yaml", Schema)
    assert params.train.optimizer.learning_rate == 0.001
    assert params.layers == (Dense(type="dense", units=64), Dropout(type="dropout", rate=0.5))
    assert params.train.precision is Precision.SINGLE
    with pytest.raises(ValidationError):
        params.seed = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    "content",
    [
        VALID.replace("\n", "\r\n"),
        VALID.replace("\n", "\r"),
        VALID.replace("\n", "  \n"),
        "\ufeff" + VALID,
        "---\n" + VALID + "...\n",
        VALID.replace("first-run", "'first-run'"),
        VALID.replace("seed:", '"seed":'),
        VALID.rstrip("\n"),
        json.dumps(YAML(typ="safe", pure=True).load(VALID)),
    ],
    ids=["CRLF", "CR", "trailing spaces", "BOM", "document marks", "quotes", "quoted key", "no end", "JSON"],
)
def test_other_spellings_are_the_same(content: str) -> None:
    assert parse_yaml(content.encode(), "params.yaml", Schema) == parse_yaml(VALID.encode(), "params.yaml", Schema)


def test_load_names_the_file_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("conf").mkdir()
    Path("conf/params.yaml").write_text(VALID)
    assert load_yaml(Path("conf/params.yaml"), Schema).seed == 1
    Path("conf/params.yaml").write_text("seed: x\nname: a\n")
    with pytest.raises(ParamsError, match=r"^conf/params\.yaml:1:7: seed: 'x' is a string\."):
        load_yaml(Path("conf/params.yaml"), Small)


def file_refusal(path: str) -> str:
    with pytest.raises(ParamsError) as refused:
        load_yaml(Path(path), Small)
    first, last = str(refused.value).split("\n")
    assert last == "Nothing was changed."
    return first


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("dangling").symlink_to("gone.yaml")
    Path("loop").symlink_to("loop")
    os.mkfifo("pipe")
    assert file_refusal("no.yaml") == (
        "no.yaml: no such file. Run the command where it is, or restore it: `git restore no.yaml`."
    )
    assert file_refusal("folder") == "folder: this is a directory. A YAML file is expected: name one."
    assert file_refusal("pipe") == "pipe: this is no regular file. A YAML file is expected: name one."
    assert file_refusal("dangling") == (
        "dangling: a link to 'gone.yaml', where no file is. Restore that file, or replace the link."
    )
    assert file_refusal("loop") == (
        "loop: cannot be read: Too many levels of symbolic links. Expected: a file you may read, see `ls -l loop`."
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(VALID)
    path.chmod(0)
    assert file_refusal(str(path)) == (
        f"{path}: cannot be read: Permission denied. Expected: a file you may read, see `ls -l {path}`."
    )


def test_import_is_light() -> None:
    code = "import sys, keras_pipeline.strict_yaml.reader; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "pydantic" in loaded
    assert not {"tensorflow", "keras", "mlflow", "numpy", "dvc"} & set(loaded)

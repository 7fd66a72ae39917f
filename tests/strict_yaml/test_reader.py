"""A file against its schema: typed, frozen, named as given."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from keras_pipeline.core.errors import ParamsError
from keras_pipeline.strict_yaml.nodes import MAX_BYTES
from keras_pipeline.strict_yaml.reader import change_yaml, load_yaml, parse_tree, parse_yaml, read_yaml_bytes
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


def test_of_a_huge_file_no_more_is_read_than_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    good = b"name: a\n" + b"#" * (MAX_BYTES - 16) + b"\nseed: 1"
    assert len(good) == MAX_BYTES
    Path("whole.yaml").write_bytes(good)
    assert load_yaml(Path("whole.yaml"), Small).seed == 1
    Path("more.yaml").write_bytes(good + b"\n")
    assert file_refusal("more.yaml").startswith("more.yaml:1:1: larger than 64 KiB")
    with Path("huge.yaml").open("wb") as file:
        file.truncate(1 << 40)
    assert len(read_yaml_bytes(Path("huge.yaml"))) == MAX_BYTES + 1


CHANGES = """\
a: {seed: x, name: 3}
b: {units: 0}
c: 7
"""


def changed(**changes: str) -> Any:
    """The valid file with values of another file, by the keys of that one: `seed="c"`, `__` for a dot."""
    nodes = parse_tree(CHANGES.encode()).value
    keys = {key.replace("__", "."): _at(nodes, place) for key, place in changes.items()}
    return change_yaml(parse_tree(VALID.encode()), "params.yaml", keys, "s.yaml", Schema)


def _at(nodes: Any, place: str) -> Any:
    first, _, rest = place.partition(".")
    return nodes[first].value[rest] if rest else nodes[first]


def test_values_of_another_file() -> None:
    made = changed(seed="c", train__epochs="c", train__warmup="b.units")
    assert (made.seed, made.train.epochs, made.train.warmup) == (7, 7, 0)
    assert changed(weights__new="c").weights == {"new": 7.0}


def test_faults_of_values_of_another_file_are_told_where_they_stand() -> None:
    assert changed(seed="a.seed", name="a.name", layers="c") == [
        "s.yaml:1:11: seed: 'x' is a string. A whole number is expected.",
        "s.yaml:1:20: name: 3 is a whole number. A string is expected: write '3'.",
        "s.yaml:3:4: layers: 7 is a whole number. A list is expected: write [7].",
    ]
    assert changed(seed__inner="c") == ["s.yaml:3:1: seed: a block is given. A whole number is expected."]
    assert changed(train__inner__most="c") == [
        "s.yaml:3:1: train.inner: this key is not known here. Allowed: epochs, batch_size, optimizer, shuffle, warmup, "
        "workers, precision, devices, window, crop."
    ]
    assert changed(train__batch_size="b.units") == [
        "s.yaml:2:12: train.batch_size: 0 is not a power of two. Use 64, for example."
    ]


def test_a_fault_of_the_file_itself_is_told_there() -> None:
    root = parse_tree(VALID.replace("epochs: 3", "epochs: 0").encode())
    value = parse_tree(b"2").plain()
    assert value == 2
    assert change_yaml(root, "params.yaml", {"seed": parse_tree(b"2")}, "s.yaml", Schema) == [
        "params.yaml:9:11: train.epochs: 0 is out of range. Expected: 1 <= value."
    ]


def test_a_tree_of_bad_yaml_is_refused() -> None:
    with pytest.raises(ValueError, match="this is not good YAML"):
        parse_tree(b"a: [")


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

"""datasets/NAME.yaml: the shipped ones, where they are found, and what is refused with its place."""

import re
import shutil
from pathlib import Path

import pytest

from keras_pipeline.core.errors import ParamsError
from keras_pipeline.sources import dataset_file
from keras_pipeline.sources.dataset_file import definition_digest, load_dataset
from keras_pipeline.sources.kinds.kind import MOST_CLASSES
from places import ROOT

SHIPPED = sorted(path.stem for path in (ROOT / "datasets").glob("*.yaml"))
GOOD = """\
kind: idx
path: own
size: [4, 3]
train: {images: a, labels: b}
classes: [x, z]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "datasets").mkdir()
    return tmp_path / "datasets"


def refused(folder: Path, text: str) -> list[str]:
    (folder / "own.yaml").write_text(text)
    with pytest.raises(ParamsError) as caught:
        load_dataset("own")
    *lines, last = str(caught.value).splitlines()
    assert last == "Nothing was changed."
    return lines


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_file_is_complete(name: str) -> None:
    dataset = load_dataset(name)
    text = (ROOT / "datasets" / f"{name}.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=../schemas/dataset.json\n")
    assert dataset.title
    assert len(dataset.classes) <= MOST_CLASSES
    assert not [one for one in dataset.classes if one.startswith(("=", "+", "-", "@"))]  # no formula
    assert all(side > 0 for side in dataset.input_shape)
    assert dataset.path is None
    assert bool(dataset.download) == dataset.has_files
    if dataset.download:
        assert dataset.download.mirrors


def test_mnist_and_the_two_made_to_replace_it_are_told_apart_by_digests() -> None:
    files = [file for name in ("mnist", "fashion_mnist", "kmnist") for file in load_dataset(name).download.files]
    digests = [file.content_sha256 or file.md5 for file in files]
    assert len(set(digests)) == len(digests) == 12
    assert [file.content_bytes for file in files] == [16 + 784 * 60_000, 60_008, 16 + 784 * 10_000, 10_008] * 3


def test_the_shipped_ones_are_known_everywhere_and_one_s_own_comes_first(folder: Path) -> None:
    assert set(SHIPPED) <= set(dataset_file.dataset_names())
    (folder / "mnist.yaml").write_text(GOOD)
    (folder / "no name!.yaml").write_text(GOOD)
    assert load_dataset("mnist").path == "own"
    assert dataset_file.dataset_names() == SHIPPED


def test_an_experiment_finds_what_is_in_the_main_checkout_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (folder / "own.yaml").write_text(GOOD)
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    with pytest.raises(ParamsError, match="'own' is not known"):
        load_dataset("own")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert load_dataset("own").path == "own"


@pytest.mark.parametrize(
    ("name", "meant"), [("mnits", "mnist"), ("MNIST", "mnist"), ("fashion-mnist", "fashion_mnist")]
)
def test_a_name_that_is_not_known_is_told_with_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(ParamsError) as caught:
        load_dataset(name)
    assert f"'{name}' is not known: datasets/{name}.yaml is not there. Known: " in str(caught.value)
    assert f"Did you mean '{meant}'?" in str(caught.value)


@pytest.mark.parametrize("name", ["../mnist", "", "a/b", "/etc/passwd", "a\0b", ".hidden", "x" * 101])
def test_no_name_leads_out_of_the_folder(name: str, folder: Path) -> None:
    shutil.copy(ROOT / "datasets" / "line.yaml", folder.parent / "mnist.yaml")
    with pytest.raises(ParamsError, match="is not known"):
        load_dataset(name)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: idx", "kind: idxx", "1:7: kind: 'idxx' is not known. Allowed: idx, .*Did you mean 'idx'?"),
        ("kind: idx\n", "", "1:1: kind: missing. Add it: idx, "),
        ("kind: idx", "kind: [idx]", "1:7: kind: "),
        ("path: own\n", "", "1:1: path: missing. Add it: a folder, a file or an archive; or `download`."),
        ("path: own", "paths: own", r"2:1: paths: this key is not known here\. .*Did you mean 'path'\?"),
        ("size: [4, 3]", "size: [4, 0]", r"3:11: size\[1\]: 0 is out of range\. Expected: 1 <= value <= 4096\."),
        ("classes: [x, z]", "classes: [x]", "5:10: classes: one class alone"),
        ("classes: [x, z]", "classes: [x, x]", r"5:14: classes\[1\]: 'x' is classes\[0\] already"),
        ("path: own", "path: own\nsplits: {test: 0.9}", r"3:16: splits\.test: 0\.9 is out of range"),
        ("path: own", "path: own\nsplits: {group: a, time: b}", r"3:26: splits\.time: by groups and by time at once"),
        ("path: own", 'path: "a\\nb"', "2:7: path: "),
        ("path: own", "path: own\ndownload: {files: [{name: a, sha256: b}]}", r"3:\d+: download\.files\[0\]\.sha256: "),
        ("path: own", "download: {files: [{name: a, bytes: 1}]}", r"2:\d+: download\.files\[0\]: nothing tells"),
        (
            "path: own", f"download: {{files: [{{name: a, content_bytes: 1, md5: {'a' * 32}}}]}}",
            r"2:\d+: download\.files\[0\]\.name: only of a \.gz is there a content",
        ),
        (
            "path: own", f"path: own\ndownload: {{files: [{{name: a, bytes: 1, md5: {'a' * 32}}}]}}",
            "3:1: download: not here: one of path and download",
        ),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_file_line_column_and_key(old: str, new: str, message: str, folder: Path) -> None:
    assert old in GOOD
    lines = refused(folder, GOOD.replace(old, new))
    assert any(re.match(f"datasets/own.yaml:{message}", line) for line in lines), lines


def test_comments_order_and_what_was_recorded_make_no_other_dataset(folder: Path) -> None:
    (folder / "own.yaml").write_text(GOOD)
    before = definition_digest(load_dataset("own"))
    lines = GOOD.splitlines()
    recorded = f"recorded: {{files: 1, bytes: 1, sha256: {'a' * 64}}}"
    (folder / "own.yaml").write_text("\n".join(["# a comment", *lines[:2], recorded, *reversed(lines[2:])]) + "\n")
    assert definition_digest(load_dataset("own")) == before
    (folder / "own.yaml").write_text(GOOD.replace("[x, z]", "[z, x]"))
    assert definition_digest(load_dataset("own")) != before


def test_every_kind_has_a_name_of_its_own() -> None:
    names = [dataset_file.kind_name(kind) for kind in dataset_file.KINDS]
    assert len(set(names)) == len(names)

"""Picture files of every layout to examples: folders, CSV, Parquet; from folders and archives; whatever is wrong."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

import small
from keras_pipeline.checks.params import load_params
from keras_pipeline.core.errors import DataError, ParamsError
from keras_pipeline.sources import dataset_file, raw
from keras_pipeline.sources import pictures as pictures_module
from keras_pipeline.sources.kinds.images import PictureFiles
from keras_pipeline.sources.kinds.kind import Examples
from keras_pipeline.sources.picture_files import decoding, recognition
from keras_pipeline.sources.source_files import SourceFiles, open_source
from keras_pipeline.stages import fetch
from made_pictures import CLASSES, make_pictures
from memory_files import MemoryFiles
from places import ROOT

VALUES = {"cat/03.png": 30, "dog/01.png": 10, "cat/02.png": 20, "dog/04.png": 40}


def png(value: int = 0, side: int = 4) -> bytes:
    file = io.BytesIO()
    Image.new("L", (side, side), value).save(file, "PNG")
    return file.getvalue()


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def pictures(names: Sequence[str] | dict[str, int]) -> dict[str, bytes]:
    """Files whose every pixel has one value."""
    values = names if isinstance(names, dict) else {name: index for index, name in enumerate(names)}
    return {name: png(value) for name, value in values.items()}


def zipped(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "data.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return folder / "data.zip"


def tarred(folder: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ("data.tar" if mode == "w" else "data.tar.gz")
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def kind(path: Path, text: str = "", classes: Sequence[str] = ("cat", "dog"), size: str = "[4, 4]") -> PictureFiles:
    """The dataset file with these lines, read as any other."""
    lines = [
        "kind: images",
        "path: data",
        f"classes: {json.dumps(list(classes))}",
        f"size: {size}",
        "colour: grey",
        text,
    ]
    file = path.parent / "pets.yaml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = dataset_file.read_dataset(file)
    assert isinstance(found, PictureFiles)
    return found


def opened(path: Path) -> SourceFiles:
    return open_source(path, "data", path.parent)


def read(path: Path, text: str = "", **keys: Any) -> Examples:
    return kind(path, text, **keys).read(opened(path))


def first_pixels(examples: Examples, done: int = 0) -> list[int]:
    return [int(one) for images, _ in examples.inputs.blocks(done) for one in images[:, 0, 0, 0]]  # type: ignore[union-attr]


# Folders.


@pytest.mark.parametrize("pack", [write, zipped, tarred, lambda *given: tarred(*given, mode="w:gz")])
def test_the_order_is_that_of_file_names_whatever_their_folders(tmp_path: Path, pack: Callable[..., Path]) -> None:
    examples = read(pack(tmp_path / "data", pictures(VALUES)))
    assert first_pixels(examples) == [10, 20, 30, 40]
    assert examples.labels.tolist() == [1, 0, 0, 1]
    assert list(examples.places) == [f"data/{name}" for name in sorted(VALUES, key=lambda one: one[-6:])]
    assert (examples.splits, examples.groups, examples.times) == (None, None, None)
    assert first_pixels(examples, 3) == [40]
    assert first_pixels(examples, 4) == []


def test_files_of_one_name_are_in_the_order_of_their_paths(tmp_path: Path) -> None:
    data = write(tmp_path / "data", pictures({"dog/1.png": 2, "cat/1.png": 1, "cat/0.png": 0, "cat/later/1.png": 3}))
    examples = read(data)
    assert first_pixels(examples) == [0, 1, 3, 2]
    assert examples.labels.tolist() == [0, 0, 0, 1]


def test_classes_and_their_order_are_the_dataset_files(tmp_path: Path) -> None:
    data = write(tmp_path / "data", pictures(["10/a.png", "9/b.png"]))
    assert read(data, classes=["9", "10"]).labels.tolist() == [1, 0]
    synsets = write(tmp_path / "more", pictures(["n01/a.png", "n02/b.png"]))
    assert read(synsets, "label_values: [n02, n01]").labels.tolist() == [1, 0]


def test_folders_above_the_classes_are_splits(tmp_path: Path) -> None:
    names = ["Train/cat/1.png", "Train/dog/2.png", "val/dog/3.png", "test/cat/4.png"]
    examples = read(write(tmp_path / "data", pictures(names)))
    assert examples.splits == ["train", "train", "validation", "test"]
    assert examples.labels.tolist() == [0, 1, 1, 0]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    examples = read(write(tmp_path / "data", pictures(["bus/1.png", "train/2.png"])), classes=["bus", "train"])
    assert (examples.splits, examples.labels.tolist()) == (None, [0, 1])


def test_folders_that_hold_all_are_not_looked_at(tmp_path: Path) -> None:
    data = zipped(tmp_path, pictures(["pets/images/cat/1.png", "pets/images/dog/2.png", "__MACOSX/pets/._1.png"]))
    assert read(data).labels.tolist() == [0, 1]


def test_what_is_hidden_or_of_a_system_is_left_out(tmp_path: Path) -> None:
    hidden = [
        "cat/Thumbs.db",
        ".ipynb_checkpoints/1.png",
        "cat/.ipynb_checkpoints/1-checkpoint.png",
        "__MACOSX/cat/._1.png",
    ]
    data = write(tmp_path / "data", {**pictures(["cat/1.png", "dog/2.png"]), **dict.fromkeys(hidden, b"")})
    assert len(read(data).labels) == 2


def test_groups_are_found_in_paths(tmp_path: Path) -> None:
    data = write(tmp_path / "data", pictures(["cat/anna_1.png", "cat/anna_2.png", "dog/ben_1.png"]))
    assert read(data, "splits: {group: '/([a-z]+)_'}").groups == ["anna", "anna", "ben"]
    with pytest.raises(DataError, match=r"^data/cat/anna_1.png: nothing in it matches .* Correct `splits.group`"):
        read(data, "splits: {group: '(ben)'}")


def test_mnist_as_a_folder_a_class_comes_back_bit_for_bit(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (300, 28, 28), np.uint8)
    labels = generator.permutation(np.arange(300) % 10)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / "data" / str(label) / f"{index:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    examples = read(tmp_path / "data", classes=[str(one) for one in range(10)], size="[28, 28]")
    blocks = list(examples.inputs.blocks())  # type: ignore[union-attr]
    assert examples.labels.tolist() == labels.tolist()
    assert np.concatenate([block for block, _ in blocks])[..., 0].tobytes() == images.tobytes()
    assert {reason for _, reasons in blocks for reason in reasons} == {None}


def test_what_was_used_and_how_goes_with_the_examples(tmp_path: Path) -> None:
    examples = read(write(tmp_path / "data", pictures(VALUES)), "fit: pad\nbackground: black")
    assert examples.preparation == {"height": 4, "width": 4, "fit": "pad", "colour": "grey", "background": "black"}
    assert "libjpeg_turbo" in examples.facts
    inputs: Any = examples.inputs
    assert (inputs.dtype, inputs.low, inputs.high) == ("|u1", 0, 255)
    assert kind(tmp_path / "data").input_shape == (4, 4, 1)


HUNDRED_FOLDERS = "/".join(["deep"] * 100)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["cat/1.png", "dog/2.png", "bird/3.png"],
            r"no class is called as the folder 'bird' with 'bird/3.png'\. .* `cl",
        ),
        (["cat/1.png", "dog/2.png", "Cat/3.png"], "no class is called as the folder 'Cat'"),
        (["cat/1.png", "3.png"], "'3.png': in no class's folder. Expected: a folder a class"),
        (["train/cat/1.png", "train/3.png", "test/dog/2.png"], "'train/3.png': in no class's folder"),
        (["train/cat/1.png", "test/dgo/2.png"], "no class is called as the folder 'dgo'"),
        (["cat/1.png", "dog/2.png", "notes.txt", "cat/a.psd"], "'cat/a.psd', 'notes.txt': no picture by its name"),
        (["cat/1.png", "cat/2.png"], "no picture is of the class 'dog'. Expected: one at least of each"),
        ([f"cat/{HUNDRED_FOLDERS}/1.png", f"bird/{HUNDRED_FOLDERS}/2.png"], "the folder 'bird'"),
        ([], "no file is in it"),
    ],
)
@pytest.mark.parametrize("pack", [write, zipped])
def test_folders_that_do_not_fit_are_refused(
    tmp_path: Path, files: list[str], message: str, pack: Callable[..., Path]
) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match=f"^data[:/].*{message}") as refused:
        read(pack(tmp_path / "data", pictures(files)))
    assert refused.value.exit_code == 3


def test_two_spellings_of_one_class_are_refused(tmp_path: Path) -> None:
    both = [unicodedata.normalize(form, "löwe") for form in ("NFC", "NFD")]
    data = write(tmp_path / "data", pictures([f"{both[0]}/1.png", f"{both[1]}/1.png", "dog/2.png"]))
    with pytest.raises(DataError, match="one name on some machines"):
        read(data, classes=["löwe", "dog"])
    one = write(tmp_path / "one" / "data", pictures([f"{both[1]}/1.png", "dog/2.png"]))
    assert read(one, classes=["löwe", "dog"]).labels.tolist() == [0, 1]
    with pytest.raises(DataError, match=r"the folders 'Dog' and 'dog' are one on some machines|'dog' and 'Dog'"):
        read(write(tmp_path / "two" / "data", pictures(["Dog/1.png", "dog/2.png"])), classes=["Dog", "dog"])


@pytest.mark.parametrize("what", ["class", "file", "pipe"])
def test_no_link_is_followed(tmp_path: Path, what: str) -> None:
    data = write(tmp_path / "data", pictures(VALUES))
    outside = write(tmp_path / "outside", pictures(["9.png"]))
    if what == "pipe":
        os.mkfifo(data / "cat" / "9.png")
    else:
        (data / ("bird" if what == "class" else "cat/9.png")).symlink_to(
            outside if what == "class" else outside / "9.png"
        )
    with pytest.raises(DataError, match=r"^data: '(bird|cat/9.png)': a link, a pipe or a device"):
        read(data)


def test_a_name_with_a_line_break_is_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "data", pictures([*VALUES, "cat/a\nb.png"]))
    with pytest.raises(DataError, match=r"'cat/a\\nb.png': a control character"):
        read(data)


# Archives.


def test_an_archive_that_leads_out_of_itself_is_refused(tmp_path: Path) -> None:
    for pack in (zipped, tarred):
        for name in ("../cat/9.png", "/etc/9.png", "cat/../../9.png"):
            with pytest.raises(DataError, match="leads out of it"):
                read(pack(tmp_path, pictures([*VALUES, name])))


def test_members_that_are_no_files_are_refused(tmp_path: Path) -> None:
    for sort in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        path = tarred(tmp_path, pictures(VALUES))
        with tarfile.open(path, "a") as archive:
            member = tarfile.TarInfo("cat/9.png")
            member.type, member.linkname = sort, "/etc/passwd"
            archive.addfile(member)
        with pytest.raises(DataError, match=r"'cat/9.png': a link, a pipe or a device"):
            read(path)


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped(tmp_path, pictures(VALUES)).read_bytes())
    at = content.index(b"PK\1\2")
    content[at + 8] |= 1
    (tmp_path / "data.zip").write_bytes(content)
    with pytest.raises(DataError, match="is encrypted"):
        read(tmp_path / "data.zip")


def test_a_bomb_in_an_archive_is_one_damaged_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures_module, "MOST_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in pictures(VALUES).items():
            archive.writestr(name, content)
        archive.writestr("dog/09.png", bytes(2**24))
    examples = read(tmp_path / "data.zip", "damaged: skip")
    reasons = [reason for _, found in examples.inputs.blocks() for reason in found]  # type: ignore[union-attr]
    assert reasons == [None, None, None, None, "more than 1,048,576 bytes. Expected: so many at most"]


# Damage.


def harmed(tmp_path: Path) -> Path:
    harm = {
        "cat/05.png": b"",
        "cat/06.png": b"I am a text.",
        "dog/07.jpg": b"\xff\xd8\xff\xe0\0\x10JFIF",
        "dog/08.png": png()[:44],
    }
    return write(tmp_path / "data", {**pictures(VALUES), **harm, "dog/09.png": png(90)})


def test_damage_is_refused_with_its_file(tmp_path: Path) -> None:
    examples = read(harmed(tmp_path))
    with pytest.raises(DataError) as refused:
        first_pixels(examples)
    assert str(refused.value) == (
        "data/cat/05.png: no picture (0 bytes). Expected: PNG, JPEG, BMP, WebP, TIFF or GIF. Replace or remove it, or "
        "have damaged pictures left out and counted: `damaged: skip` in the dataset file."
    )
    with pytest.raises(DataError, match=r"^data/cat/06.png: no picture \(begins with b'I am a text.'\)"):
        first_pixels(examples, 5)


def test_or_it_is_left_out_with_the_reason(tmp_path: Path) -> None:
    examples = read(harmed(tmp_path), "damaged: skip")
    found = [one for _, reasons in examples.inputs.blocks() for one in reasons]  # type: ignore[union-attr]
    assert [str(reason)[:9] for reason in found] == ["None"] * 4 + ["no pictur"] * 2 + ["damaged o"] * 2 + ["None"]
    assert first_pixels(examples) == [10, 20, 30, 40, 0, 0, 0, 0, 90]


def test_many_pictures_come_in_order_in_blocks_and_can_be_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "BLOCK_BYTES", 200)
    monkeypatch.setattr(decoding, "WAITING_BYTES", 2000)
    names = [f"{'cat' if index % 3 else 'dog'}/{index:03}.png" for index in range(250)]
    examples = read(write(tmp_path / "data", pictures(names)))
    assert len(list(examples.inputs.blocks())) > 50  # type: ignore[union-attr]
    for done in (0, 1, 17, 249):
        assert first_pixels(examples, done) == list(range(done, 250))


def test_whoever_listens_no_more_leaves_no_thread(tmp_path: Path) -> None:
    import threading

    examples = read(
        write(tmp_path / "data", pictures([f"{one}/{index}.png" for index in range(200) for one in ("cat", "dog")]))
    )
    blocks: Any = examples.inputs.blocks()  # type: ignore[union-attr]
    next(blocks)
    blocks.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("pictures")]


# CSV.


CSV = "file,label\nb.png,dog\na.png,cat\nsub/c.png,dog\n"


def csv_folder(tmp_path: Path, text: str, files: Sequence[str] = ("b.png", "a.png", "sub/c.png")) -> Path:
    return write(tmp_path / "data", {**pictures(files), "labels.csv": text.encode()})


TABLE = "table: {files: labels.csv, image: file}"


def test_a_csv_names_files_and_labels_in_its_own_order(tmp_path: Path) -> None:
    examples = read(csv_folder(tmp_path, CSV), TABLE)
    assert first_pixels(examples) == [0, 1, 2]
    assert examples.labels.tolist() == [1, 0, 1]
    assert list(examples.places) == ["data/b.png", "data/a.png", "data/sub/c.png"]


def test_columns_of_a_csv_divide_it(tmp_path: Path) -> None:
    rows = ["b.png;dog;train;p1;2026-01-01", "a.png;cat;val;p1;2026-01-02", "sub/c.png;dog;test;p2;2026-01-03"]
    table = "table: {files: labels.csv, image: path, label: kind, delimiter: ';'}"
    data = csv_folder(tmp_path, "\n".join(["path;kind;part;who;day", *rows]))
    assert read(data, f"{table}\nsplits: {{column: part}}").splits == ["train", "validation", "test"]
    examples = read(data, f"{table}\nsplits: {{group: who}}")
    assert (examples.groups, examples.splits) == (["p1", "p1", "p2"], None)
    examples = read(data, f"{table}\nsplits: {{time: day}}")
    assert examples.times is not None
    assert np.diff(examples.times).tolist() == [86400, 86400]


def test_several_csv_files_divide_by_their_names(tmp_path: Path) -> None:
    files = {"train/metadata.csv": b"file,label\n1.png,cat\n", "test/metadata.csv": b"file,label\n1.png,dog\n"}
    data = write(tmp_path / "data", {**pictures(["test/1.png", "train/1.png"]), **files})
    examples = read(data, "table: {files: '*/metadata.csv', image: file}")
    assert (examples.splits, examples.labels.tolist()) == (["test", "train"], [1, 0])
    assert first_pixels(examples) == [0, 1]


def test_labels_of_a_csv_may_be_numbers_with_names(tmp_path: Path) -> None:
    data = csv_folder(tmp_path, CSV.replace("dog", "7").replace("cat", "3"))
    assert read(data, f"{TABLE}\nlabel_values: [3, 7]").labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "a.png",
            "z.png",
            r"labels.csv: row 2 \(line 3\): the file 'z.png' is not there. Expected: all that are listed",
        ),
        (
            "a.png",
            "../outside.png",
            r"row 2 .*: got '../outside.png' for a file. Expected: its path from the folder of",
        ),
        ("a.png", "/etc/passwd", "row 2 .*: got '/etc/passwd' for a file"),
        ("a.png", "C:\\\\a.png", "row 2 .*for a file"),
        ("sub/c.png", "sub\\\\c.png", "row 3 .*for a file"),
        ("a.png", "", "row 2 .*: no file is named"),
        ("a.png", "b.png", "row 2 .*: the file 'b.png' is listed twice, first in data/labels.csv: row 1"),
        ("a.png", "./b.png", "row 2 .*: the file './b.png' is listed twice"),
        ("a.png,cat", "a.png,bird", "row 2 .*: got the label 'bird'"),
        ("a.png,cat", "a.png,", "row 2 .*: got no label"),
        ("file,label", "file,class", "the column 'label' is there 0 times"),
        ("file,label", "label,label", "the column 'label' is there 2 times|the column 'file' is there 0 times"),
        ("a.png,cat", "a.png,cat,9", "row 2 .*got 3 values"),
        ("a.png", "\0", "a byte 0"),
    ],
)
def test_a_csv_that_does_not_fit_is_refused_with_its_row(tmp_path: Path, old: str, new: str, message: str) -> None:
    write(tmp_path, pictures(["outside.png"]))
    with pytest.raises(DataError, match=f"^data[:/].*{message}"):
        read(csv_folder(tmp_path, CSV.replace(old, new)), TABLE)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ("{column: part}", "got 'holdout' for a split"),
        ("{group: who}", "got nothing for the group"),
        ("{time: part}", "got 'train' for a time"),
        ("{time: nobody}", "the column 'nobody' is there 0 times"),
    ],
)
def test_a_column_that_divides_nothing_is_refused(tmp_path: Path, splits: str, message: str) -> None:
    text = "file,label,part,who\nb.png,dog,train,p1\na.png,cat,holdout,\n"
    with pytest.raises(DataError, match=f"^data[:/].*{message}"):
        read(csv_folder(tmp_path, text), f"{TABLE}\nsplits: {splits}")


def test_a_table_that_is_not_there_or_none_is_refused(tmp_path: Path) -> None:
    data = csv_folder(tmp_path, CSV)
    for name in ("other.csv", "*.parquet"):
        with pytest.raises(DataError, match=r"^data: no file is called '.*'\. Expected: CSV, or Parquet"):
            read(data, f"table: {{files: '{name}'}}")
    with pytest.raises(DataError, match=r"^data: 'a.png' is none of them"):
        read(data, "table: {files: a.png}")


# Parquet.


def hub_file(
    path: Path,
    labels: Sequence[Any],
    *,
    names: Sequence[str] | None = ("cat", "dog"),
    struct: bool = True,
    **options: Any,
) -> Path:
    """As Hugging Face's libraries export pictures: struct<bytes, path> or bytes, and a number for the class."""
    contents = [png(index) for index in range(len(labels))]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    values: Any = [{"bytes": one, "path": None} for one in contents] if struct else contents
    image = pyarrow.array(values, kind if struct else pyarrow.binary())
    table = pyarrow.table({"image": image, "label": pyarrow.array(labels)})
    if names is not None:
        features = {"label": {"names": list(names), "_type": "ClassLabel"}, "image": {"_type": "Image"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, **options)
    return path


PARQUET = "table: {files: '*.parquet'}"


@pytest.mark.parametrize("struct", [True, False])
@pytest.mark.parametrize("dictionary", [True, False])
def test_parquet_as_hubs_export_it(tmp_path: Path, struct: bool, dictionary: bool) -> None:
    options = {"struct": struct, "use_dictionary": dictionary, "row_group_size": 40}
    hub_file(tmp_path / "data" / "train-00000-of-00002.parquet", [1, 0] * 50, **options)
    hub_file(tmp_path / "data" / "train-00001-of-00002.parquet", [0] * 7, **options)
    hub_file(tmp_path / "data" / "test-00000-of-00001.parquet", [1, 0, 1], **options)
    examples = read(tmp_path / "data", PARQUET)
    values = [0, 1, 2, *range(100), *range(7)]
    assert first_pixels(examples) == values
    for done in (2, 3, 50, 83, 102, 103, 109):
        assert first_pixels(examples, done) == values[done:]
    assert examples.splits == ["test"] * 3 + ["train"] * 107
    assert examples.labels.tolist() == [1, 0, 1] + [1, 0] * 50 + [0] * 7
    assert examples.places[5] == "data/train-00000-of-00002.parquet: row 3"


def test_names_of_classes_in_parquet_and_in_the_dataset_file_may_be_in_another_order(tmp_path: Path) -> None:
    path = hub_file(tmp_path / "data.parquet", [0, 1, 1])
    assert read(path, PARQUET, classes=["dog", "cat"]).labels.tolist() == [1, 0, 0]
    with pytest.raises(DataError, match=r"^data/data.parquet: row 2: got the label 'dog'"):
        read(path, PARQUET, classes=["cat", "hound"])


def test_parquet_without_names_or_with_texts(tmp_path: Path) -> None:
    plain = hub_file(tmp_path / "data.parquet", [0, 1, 1], names=None)
    assert read(plain, PARQUET).labels.tolist() == [0, 1, 1]
    texts = hub_file(tmp_path / "texts.parquet", ["dog", "cat", "dog"], names=None)
    assert read(texts, PARQUET).labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, -1], "row 3: got -1 for the label, which means none. Expected: a class. Leave out such files"),
        ([0, 1, None], "row 3: got nothing for the label"),
        ([0, 1, 2], "row 3: got the label '2'"),
        ([0.5, 1.5, 2.5], "row 1: got the label '0.5'"),
        ([[0], [1], [2]], "the column 'label' is nested"),
    ],
)
def test_labels_of_parquet_that_are_none_are_refused(tmp_path: Path, labels: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=f"^data/data.parquet: {message}"):
        read(hub_file(tmp_path / "data.parquet", labels), PARQUET)


def test_parquet_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = hub_file(tmp_path / "data.parquet", [0, 1])
    with pytest.raises(
        DataError, match=r"no column 'img' of pictures. .* Pictures are in 'image'\. Correct `table.image`"
    ):
        read(path, "table: {files: data.parquet, image: img}")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="Expected: a Parquet file"):
        read(path, PARQUET)
    several = tmp_path / "several"
    for name in ("train-0", "more-0"):
        hub_file(several / f"{name}.parquet", [0, 1])
    with pytest.raises(DataError, match=r"'more-0.parquet' says no split in its name, and other files do"):
        read(several, PARQUET)
    hub_file(several / "more-0.parquet", [0, 1], names=["dog", "cat"])
    with pytest.raises(DataError, match=r"'label' is not as in 'more-0.parquet'"):
        read(several, PARQUET)


def test_a_row_without_a_picture_is_a_damaged_one(tmp_path: Path) -> None:
    kind_of = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    images = pyarrow.array([{"bytes": png(5), "path": None}, {"bytes": None, "path": "1.png"}, None], kind_of)
    parquet.write_table(pyarrow.table({"image": images, "label": ["cat", "dog", "dog"]}), tmp_path / "data.parquet")
    examples = read(tmp_path / "data.parquet", f"{PARQUET}\ndamaged: skip")
    ((_, reasons),) = examples.inputs.blocks()  # type: ignore[union-attr]
    assert [str(one)[:20] for one in reasons] == ["None", "no picture (0 bytes)", "no picture (0 bytes)"]


# From the files to data/raw.


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, bytes]]:
    """What the stage fetch writes of `data` by a dataset file with these lines."""
    monkeypatch.chdir(tmp_path)

    def fetch_pictures(text: str = "", into: str = "raw") -> dict[str, bytes]:
        (tmp_path / "params.yaml").write_bytes(small.params_text({"fetch.dataset": "pets"}))
        lines = f"kind: images\npath: data\nclasses: {json.dumps(CLASSES)}\nsize: [16, 20]\n{text}\n"
        write(tmp_path, {"datasets/pets.yaml": lines.encode()})
        fetch.fetch_dataset(load_params(Path("params.yaml")), tmp_path / into / "raw", tmp_path / "downloads")
        assert not (tmp_path / into / "raw.unfinished").exists()
        return {path.name: path.read_bytes() for path in (tmp_path / into / "raw").iterdir()}

    return fetch_pictures


def test_fetch_writes_pictures_as_arrays(tmp_path: Path, fetched: Callable[..., dict[str, bytes]]) -> None:
    data = make_pictures(tmp_path / "data", 12)
    fetched()
    described = raw.read_description(tmp_path / "raw" / "raw")
    assert described["input"] == {"kind": "images", "shape": [16, 20, 3], "dtype": "|u1", "low": 0, "high": 255}
    assert sum(described["images"].values()) == 36
    assert described["preparation"] == {
        "height": 16,
        "width": 20,
        "fit": "crop",
        "colour": "rgb",
        "background": "white",
    }
    assert described["facts"]["pillow"]
    images = {split: np.load(tmp_path / "raw" / "raw" / f"{split}_images.npy") for split in described["images"]}
    kept = pictures_module.Preparation(16, 20)
    every = {one.tobytes() for split in images.values() for one in split}
    assert every == {pictures_module.prepare_picture(one.read_bytes(), kept).tobytes() for one in data.rglob("*.*")}


def test_the_same_pictures_in_an_archive_give_the_same_arrays(
    tmp_path: Path, fetched: Callable[..., dict[str, bytes]]
) -> None:
    data = make_pictures(tmp_path / "data", 6)
    folder = fetched()
    contents = {str(one.relative_to(data)): one.read_bytes() for one in sorted(data.rglob("*.*"), reverse=True)}
    shutil.rmtree(data)
    zipped(tmp_path, contents).rename(data)
    assert {**fetched(into="other"), "dataset.json": b""} == {**folder, "dataset.json": b""}


def test_fetch_leaves_out_and_counts_or_writes_nothing(
    tmp_path: Path, fetched: Callable[..., dict[str, bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    write(make_pictures(tmp_path / "data", 6), {"shape/zz.png": b"no picture", "digit/zz.jpg": b""})
    with pytest.raises(DataError, match=r"^data/digit/zz.jpg: no picture \(0 bytes\)"):
        fetched()
    assert not (tmp_path / "raw" / "raw").exists()
    fetched("damaged: skip")
    assert raw.read_description(tmp_path / "raw" / "raw")["left_out"] == 2
    assert "data/shape/zz.png: left out: no picture (begins with b'no picture')" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("digit/zz.png", b"", "photos/digit/zz.png: no picture (0 bytes)"),
        ("bird/1.png", b"", "photos: no class is called as the folder 'bird' with 'bird/1.png'."),
    ],
)
def test_the_command_ends_with_3_and_names_the_file(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    keys = {"kind": "images", "path": "photos", "classes": CLASSES, "size": [16, 20]}
    write(tmp_path, {"params.yaml": small.params_text({"fetch.dataset": "pets"})})
    write(tmp_path, {"datasets/pets.yaml": json.dumps(keys).encode(), f"photos/{name}": content})
    write(tmp_path / "photos", pictures([f"{one}/1.png" for one in CLASSES]))
    command = [sys.executable, "-m", "keras_pipeline.cli.main", "fetch"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data" / "raw").exists()


def test_a_fetch_that_was_interrupted_is_gone_on_with(
    tmp_path: Path, fetched: Callable[..., dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pictures(tmp_path / "data", 20)
    whole = fetched(into="whole")
    monkeypatch.setattr(decoding, "BLOCK_BYTES", 5000)
    asked: list[int] = []

    def counted(content: bytes, preparation: Any) -> Any:
        asked.append(1)
        if len(asked) == 40:
            raise KeyboardInterrupt
        return pictures_module.prepare_picture(content, preparation)

    monkeypatch.setattr(decoding, "prepare_picture", counted)
    with pytest.raises(KeyboardInterrupt):
        fetched()
    asked[:] = [1] * 40
    assert fetched() == whole
    assert len(asked) - 40 < 60


# The dataset file.


def test_the_examples_of_the_documentation_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = (ROOT / "docs" / "own-data.md").read_text().partition("\n## Pictures\n")[2].partition("\n## ")[0]
    whole, table = re.findall("```yaml\n(.*?)```", section, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "photos.yaml"
    file.write_text(whole)
    make_pictures(tmp_path / "photos", 4)
    assert len(dataset_file.read_dataset(file).read(open_source(Path("photos"), "photos", tmp_path)).labels) == 12
    parquet_line = re.search(r"`(table: \{files: '\*\.parquet'.*?\})`", section, re.DOTALL)
    assert parquet_line
    for text in (table, "splits: {group: '(person[0-9]+)_'}", re.sub(r"\s+", " ", parquet_line[1])):
        file.write_text(f"{whole}{text}\n")
        dataset_file.read_dataset(file)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("size: [4, 4, 1]", "size: "),
        ("size: [0, 4]", r"size\[0\]: 0 is out of range. Expected: 1 <= value <= 4096"),
        ("size: [4, 4]\nfit: zoom", "fit: 'zoom' is not known. Allowed: crop, pad, stretch"),
        ("size: [4, 4]\ncolour: gray", "colour: 'gray' is not known. Allowed: grey, rgb. Did you mean 'grey'"),
        ("size: [4, 4]\ndamaged: ignore", "damaged: 'ignore' is not known. Allowed: refuse, skip"),
        ("size: [4, 4]\nsplits: {column: part}", "splits.column: folders have no columns"),
        ("size: [4, 4]\ntable: {files: a.csv, delimiter: é}", "table.delimiter: 'é' does not fit"),
        ("size: [4, 4]\nsplits: {group: '['}", "splits.group: no regular expression"),
        ("size: [4, 4]\nsplits: {group: 'person'}", "splits.group: it has no group"),
        ("size: [4, 4]\ntable: {image: file}", "table.files: missing"),
    ],
)
def test_a_dataset_file_that_contradicts_itself_is_refused(tmp_path: Path, lines: str, message: str) -> None:
    file = tmp_path / "pets.yaml"
    file.write_text(f"kind: images\npath: data\nclasses: [cat, dog]\n{lines}\n")
    with pytest.raises(ParamsError, match=f"pets.yaml:[0-9]+:[0-9]+: {message}"):
        dataset_file.read_dataset(file)


def test_path_and_two_classes_are_needed(tmp_path: Path) -> None:
    file = tmp_path / "pets.yaml"
    for lines, message in (("classes: [a, b]", "path: missing"), ("path: data", "classes: two at least")):
        file.write_text(f"kind: images\nsize: [4, 4]\n{lines}\n")
        with pytest.raises(ParamsError, match=message):
            dataset_file.read_dataset(file)


# What `dataset add` takes files for.


def recognized(path: Path) -> dict[str, Any]:
    found = PictureFiles.recognize(opened(path))
    assert found is not None
    assert all(reason.endswith(".") for reason in found.reasons)
    lines = "\n".join(f"{key}: {json.dumps(value)}" for key, value in {**found.keys, "path": "data"}.items())
    (path.parent / "found.yaml").write_text(lines)
    examples = dataset_file.read_dataset(path.parent / "found.yaml").read(opened(path))
    assert sum(len(block) for block, _ in examples.inputs.blocks()) == len(examples.labels)  # type: ignore[union-attr]
    return found.keys


def test_a_folder_of_odd_pictures_is_recognized_and_read(tmp_path: Path) -> None:
    data = make_pictures(tmp_path / "data", 12)
    found = recognized(data)
    assert found["classes"] == list(CLASSES)
    assert found["colour"] == "rgb"
    assert found["size"] == [72, 72] or max(found["size"]) <= recognition.LONGEST
    found = recognized(
        zipped(tmp_path / "z", {str(one.relative_to(data)): one.read_bytes() for one in data.rglob("*.*")})
    )
    assert found["classes"] == list(CLASSES)


def test_size_colour_and_order_of_small_grey_pictures(tmp_path: Path) -> None:
    names = [
        f"{split}/{label}/{index}.png" for split in ("train", "test") for label in (10, 9, 2) for index in range(3)
    ]
    data = write(tmp_path / "data", pictures(names))
    assert recognized(data) == {"kind": "images", "classes": ["2", "9", "10"], "size": [4, 4], "colour": "grey"}
    found = PictureFiles.recognize(opened(data))
    assert found is not None
    assert any("train 9, test 9" in reason for reason in found.reasons)


def test_a_csv_is_recognized_with_its_columns(tmp_path: Path) -> None:
    text = "id;file_name;category;split\n1;b.png;dog;train\n2;a.png;cat;train\n3;sub/c.png;dog;test\n"
    found = recognized(csv_folder(tmp_path, text))
    assert found["table"] == {"files": "labels.csv", "image": "file_name", "label": "category", "delimiter": ";"}
    assert (found["splits"], found["classes"]) == ({"column": "split"}, ["cat", "dog"])
    files = {f"{split}/metadata.csv": b"image,label\n1.png,cat\n2.png,dog\n" for split in ("train", "test")}
    two = write(
        tmp_path / "two" / "data", {**pictures([f"{a}/{b}.png" for a in ("train", "test") for b in (1, 2)]), **files}
    )
    assert recognized(two)["table"] == {"files": "*/metadata.csv"}


def test_parquet_is_recognized_with_its_names(tmp_path: Path) -> None:
    for split in ("train", "test"):
        hub_file(tmp_path / "data" / f"{split}-00000-of-00001.parquet", [0, 1, 1], names=["z", "a"])
    found = recognized(tmp_path / "data")
    assert (found["classes"], found["table"]["files"]) == (["z", "a"], "*.parquet")
    found = recognized(hub_file(tmp_path / "one.parquet", [5, 7], names=None))
    assert (found["classes"], found["label_values"]) == (["5", "7"], [5, 7])


def test_other_files_are_of_another_kind(tmp_path: Path) -> None:
    assert PictureFiles.recognize(opened(write(tmp_path / "data", {"a.csv": b"x,y\n1,2\n", "b.npz": b""}))) is None
    parquet.write_table(pyarrow.table({"x": [1, 2], "label": [0, 1]}), tmp_path / "t.parquet")
    assert PictureFiles.recognize(opened(tmp_path / "t.parquet")) is None


def test_pictures_of_which_nothing_says_what_they_are_of_are_refused(tmp_path: Path) -> None:
    for files in (["1.png", "2.png"], ["cat/1.png", "cat/2.png"], ["cat/1.png", "2.png"]):
        data = write(tmp_path / str(len(files[0])) / files[1][0] / "data", pictures(files))
        with pytest.raises(
            DataError, match=r"nothing says what .* are pictures of. Expected: a folder a class, two at lea"
        ):
            PictureFiles.recognize(opened(data))


@pytest.mark.parametrize(
    ("sizes", "proposed"),
    [
        ([(28, 28)] * 3, (28, 28)),
        ([(97, 61)] * 3, (97, 61)),
        ([(480, 640)] * 3, (72, 96)),
        ([(400, 420), (300, 310)], (96, 96)),
        ([(10, 30), (12, 28)], (16, 32)),
        ([(2000, 20)], (96, 16)),
    ],
)
def test_the_size_that_is_proposed(sizes: list[tuple[int, int]], proposed: tuple[int, int]) -> None:
    assert recognition.sensible_size(sizes) == proposed


# Whatever there is.

PARTS = st.sampled_from(
    ["cat", "dog", "Dog", "train", "val", "test", "löwe", "a", "1.png", "2.PNG", "3.txt", "labels.csv"]
)
NAMES = st.lists(st.lists(PARTS, min_size=1, max_size=4).map("/".join), max_size=8, unique=True)
CELLS = st.sampled_from(
    ["file", "label", "1.png", "cat/1.png", "../1.png", "/1.png", "cat", "dog", "", '"', "x", "\0", "é"]
)
TEXT = st.lists(st.lists(CELLS, min_size=1, max_size=3).map(",".join), max_size=6).map("\n".join)


@given(names=NAMES, text=TEXT, table=st.booleans())
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_names_and_any_csv_are_read_or_refused(tmp_path: Path, names: list[str], text: str, table: bool) -> None:
    every = [*names, "labels.csv"] if table else names
    source = MemoryFiles({name: text.encode() if name.endswith(".csv") else png() for name in every})
    chosen = kind(tmp_path / "data", TABLE if table else "")
    with suppress(DataError):
        examples = chosen.read(source)
        assert len(examples.labels) == len(examples.places) > 0
        assert first_pixels(examples) == [0] * len(examples.labels)
    with suppress(DataError):
        PictureFiles.recognize(source)

"""Pictures and arrays as a network's dataset has its images, or refused by name."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keras_pipeline.core.errors import DataError
from keras_pipeline.prediction.images import open_images
from keras_pipeline.prediction.inputs import Inputs, open_path
from keras_pipeline.sources.pictures import Preparation, prepare_picture

PREPARATION = {"height": 12, "width": 16, "fit": "crop", "colour": "rgb", "background": "white"}


def dataset(shape: tuple[int, int, int] = (12, 16, 3), dtype: str = "|u1", high: float = 255, **more: Any) -> Any:
    given = {"kind": "images", "shape": [*shape], "dtype": dtype, "low": 0, "high": high}
    usual = {
        "dataset": "own",
        "shape": [*shape],
        "input": given,
        "preparation": PREPARATION,
        "drawing": None,
        "facts": {},
    }
    return usual | more


ARRAYS = dataset((4, 5, 1), preparation=None)


def opened(path: Path, described: Any, *, skip: bool = False) -> Inputs:
    return open_images(*open_path(path), described, skip=skip)


def read(inputs: Inputs) -> tuple[list[str], Any]:
    blocks = list(inputs.blocks)
    return [place for places, _ in blocks for place in places], np.concatenate([images for _, images in blocks])


def picture(seed: int, kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (20 + seed, 30, 3), np.uint8)
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "pictures"
    for name, seed, kind in (("b.png", 1, "PNG"), ("a/deep/c.JPG", 2, "JPEG"), ("a/d.bmp", 3, "BMP")):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(picture(seed, kind))
    (made / "notes.txt").write_text("no picture")
    return made


def test_pictures_of_a_folder_and_of_an_archive_are_those_of_the_training(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        for path in sorted(folder.rglob("*.*")):
            archive.write(path, path.relative_to(folder))
    for path in (folder, tmp_path / "pictures.zip"):
        inputs = opened(path, dataset())
        places, images = read(inputs)
        assert places == ["a/d.bmp", "a/deep/c.JPG", "b.png"]
        assert (inputs.place, inputs.count) == ("file", 3)
        for place, image in zip(places, images, strict=True):
            expected = prepare_picture((folder / place).read_bytes(), Preparation(**PREPARATION))  # type: ignore[arg-type]
            np.testing.assert_array_equal(image, expected)
        assert inputs.notes == ["1 file that is no picture was left out"]


def test_one_picture_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(picture(1))
    assert read(opened(tmp_path / "photo", dataset()))[0] == ["photo"]


def test_a_damaged_picture_is_named_and_left_out_only_where_that_is_asked(folder: Path) -> None:
    (folder / "a" / "broken.png").write_bytes(picture(4)[:200])
    (folder / "a" / "empty.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"pictures/a/broken\.png: got .*Replace or remove it, or .*--damaged skip\."):
        read(opened(folder, dataset()))
    inputs = opened(folder, dataset(), skip=True)
    assert read(inputs)[0] == ["a/d.bmp", "a/deep/c.JPG", "b.png"]
    assert [note.partition(" was left out")[0].rpartition("/")[2] for note in inputs.notes[1:]] == [
        "broken.png",
        "empty.png",
    ]


def test_where_no_pictures_were_trained_on_they_take_the_form_of_the_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 100, (4, 5), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "same.png")
    np.testing.assert_array_equal(read(opened(tmp_path / "same.png", ARRAYS))[1][0, ..., 0], pixels)
    Image.fromarray(np.repeat(np.repeat(pixels, 3, axis=0), 3, axis=1)).save(tmp_path / "larger.png")
    np.testing.assert_array_equal(read(opened(tmp_path / "larger.png", ARRAYS))[1][0, ..., 0], pixels)


def test_pictures_have_8_bits(folder: Path) -> None:
    with pytest.raises(DataError, match=r"got pictures, .* Expected: arrays .* pixels of uint16 from 0 to 4095\."):
        opened(folder, dataset(dtype="<u2", high=4095))


def test_nothing_to_ask_about_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    with pytest.raises(DataError, match=r"got a\.txt, b\.txt\. Expected: pictures"):
        opened(tmp_path, dataset())
    with pytest.raises(DataError, match=r"nowhere: not there\. Expected: a folder, a file or an archive\."):
        opened(tmp_path / "nowhere", dataset())


@pytest.mark.parametrize("kind", ["uint8", "bool", "int64", ">u2"])
def test_whole_numbers_of_any_type_are_pixels(tmp_path: Path, kind: str) -> None:
    array = np.random.default_rng(0).integers(0, 2 if kind == "bool" else 256, (7, 4, 5)).astype(kind)
    np.save(tmp_path / "x.npy", array)
    inputs = opened(tmp_path / "x.npy", ARRAYS)
    places, images = read(inputs)
    assert (places, images.dtype, inputs.place, inputs.count) == (list("0123456"), np.uint8, "index", 7)
    np.testing.assert_array_equal(images[..., 0], array.astype(np.uint8))


def test_floats_are_taken_where_the_dataset_has_them(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((7, 4, 5, 1))
    np.save(tmp_path / "x.npy", array)
    images = read(opened(tmp_path / "x.npy", dataset((4, 5, 1), "<f4", 1.0)))[1]
    np.testing.assert_array_equal(images, array.astype(np.float32))


def test_an_array_of_several_is_named(tmp_path: Path) -> None:
    first, second = np.zeros((2, 4, 5), np.uint8), np.ones((3, 4, 5), np.uint8)
    np.savez(tmp_path / "x.npz", first=first, second=second, labels=np.zeros(2))
    with pytest.raises(DataError, match=r"several arrays of images: .*x\.npz/first, .*x\.npz/second\. Expected: one"):
        opened(tmp_path / "x.npz", ARRAYS)
    assert read(opened(tmp_path / "x.npz" / "second", ARRAYS))[1].mean() == 1
    np.savez_compressed(tmp_path / "one.npz", images=first, labels=np.zeros(2))
    assert read(opened(tmp_path / "one.npz", ARRAYS))[0] == ["0", "1"]
    with pytest.raises(
        DataError, match=r"got no such array\. Expected: the shape \(n, 4, 5, 1\) or \(n, 4, 5\) of own"
    ):
        opened(tmp_path / "x.npz" / "third", ARRAYS)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, 5, 4), np.uint8), r"\(2, 5, 4\)\. Expected: the shape \(n, 4, 5, 1\) or \(n, 4, 5\) of own"),
        (np.zeros((4, 5), np.uint8), r"Of one image give array\[numpy\.newaxis\]"),
        (np.zeros((2, 4, 5)), r"got float64\. Expected: uint8 from 0 to 255, .* give them as the dataset has them"),
        (np.full((2, 4, 5), 256), r"x\.npy: index 0, row 0, column 0, channel 0: got the value 256"),
        (np.full((2, 4, 5), -1), r"got the value -1"),
        (np.full((2, 4, 5), None), r"pickled Python objects"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(tmp_path: Path, array: Any, said: str) -> None:
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=said):
        read(opened(tmp_path / "x.npy", ARRAYS))

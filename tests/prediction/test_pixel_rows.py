"""A picture a row: with and without header and label, in colour, or refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from keras_pipeline.core.errors import DataError
from keras_pipeline.prediction.images import open_images
from keras_pipeline.prediction.inputs import Inputs, open_path

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 6, 4), np.uint8)
FLAT = PIXELS.reshape(5, 24)
NAMES = [f"pixel{index}" for index in range(24)]


def dataset(channels: int = 1, **more: Any) -> Any:
    shape = [6, 4, channels] if channels == 1 else [4, 2, channels]
    given = {"kind": "images", "shape": shape, "dtype": "|u1", "low": 0, "high": 255}
    return {"dataset": "own", "shape": shape, "input": given, "preparation": None, "drawing": None, "facts": {}, **more}


def written(path: Path, names: list[str], rows: Any, delimiter: str = ",") -> Path:
    lines = [names, *rows.tolist()] if names else rows.tolist()
    path.write_text("".join(delimiter.join(map(str, line)) + "\n" for line in lines))
    return path


def opened(path: Path, described: Any) -> Inputs:
    return open_images(*open_path(path), described, skip=False)


def read(inputs: Inputs) -> tuple[list[str], Any]:
    blocks = list(inputs.blocks)
    return [place for places, _ in blocks for place in places], np.concatenate([images for _, images in blocks])


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_pixels_alone_and_beside_a_label_are_the_same(tmp_path: Path, delimiter: str) -> None:
    labelled = np.insert(FLAT.astype(int), 0, [7, 1, 2, 3, 4], axis=1)
    for number, (names, rows, left) in enumerate((
        (NAMES, FLAT, []), ([], FLAT, []), (["label", *NAMES], labelled, ["columns left out: label"]),
        ([*NAMES, "class"], np.roll(labelled, -1, axis=1), ["columns left out: class"]),
        (["id", *NAMES, "more"], np.append(labelled, labelled[:, :1], axis=1), ["columns left out: id, more"]),
        (["y", *(f"{row}x{column}" for row in range(6) for column in range(4))], labelled, ["columns left out: y"]),
    )):  # fmt: skip
        inputs = opened(written(tmp_path / f"{number}.csv", names, rows, delimiter), dataset())
        places, images = read(inputs)
        assert (inputs.place, places, inputs.notes) == ("row", ["1", "2", "3", "4", "5"], left)
        np.testing.assert_array_equal(images[..., 0], PIXELS)


def test_parquet_too(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table(dict(zip(NAMES, FLAT.T, strict=True))), tmp_path / "x.parquet")
    np.testing.assert_array_equal(read(opened(tmp_path / "x.parquet", dataset()))[1][..., 0], PIXELS)


@pytest.mark.parametrize("order", ["interleaved", "planes"])
def test_colours_are_in_the_order_of_the_training_s(tmp_path: Path, order: str) -> None:
    described = dataset(3, facts={"order of pixels": order})
    images = read(opened(written(tmp_path / "x.csv", NAMES, FLAT), described))[1]
    shape = (5, 4, 2, 3) if order == "interleaved" else (5, 3, 4, 2)
    expected = FLAT.reshape(shape) if order == "interleaved" else FLAT.reshape(shape).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(images, expected)


@pytest.mark.parametrize(
    ("names", "rows", "said"),
    [
        ([], np.zeros((2, 25), int), r"got 25 columns\. Expected: 24, .*Without a header nobody knows"),
        (NAMES[:23], np.zeros((2, 23), int), r"got 23 columns\. Expected: 24, one for each of 6 x 4 x 1 pixels"),
        (NAMES, np.full((2, 24), 256), r"row 1 \(line 2\), column 'pixel0': got '256'\. Expected: a whole number"),
        (NAMES, np.full((2, 24), 0.5), r"got '0\.5'"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, names: list[str], rows: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(opened(written(tmp_path / "x.csv", names, rows), dataset()))


def test_pixels_of_another_range_are_refused(tmp_path: Path) -> None:
    given = {"kind": "images", "shape": [6, 4, 1], "dtype": "<f4", "low": 0, "high": 1}
    with pytest.raises(DataError, match=r"got a table of pixels, .* pixels of float32 from 0 to 1\."):
        opened(written(tmp_path / "x.csv", NAMES, FLAT), dataset(input=given))

"""A picture is prepared in one way: for the training, for `predict`, for the service; and the exports of a network of
colour images agree."""

import asyncio
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluated_project import Project
from exported import ask_formats_here
from keras_pipeline.core import json_files
from keras_pipeline.prediction.predict import open_inputs
from keras_pipeline.records.record import read_record
from keras_pipeline.serving.inputs.images import KINDS, Decoder
from keras_pipeline.serving.network import load_network

CLASSES = ("cat", "dog", "=owl")
DATASET = """\
kind: images
path: pets
classes: [cat, dog, "=owl"]
size: [20, 24]
fit: pad
background: black
"""
CNN = {
    "fetch.dataset": "pets", "normalize.validation_share": 0.25, "train.batch_size": 4,
    "model.architecture": "cnn", "model.filters": [3, 4], "model.hidden_units": [8],
}  # fmt: skip


def write_pictures(folder: Path) -> None:
    """Of odd sizes and formats, some transparent, in folders that say which split and class they are."""
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 5)):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                channels, kind = ((4, "png"), (3, "jpg"), (3, "png"), (1, "png"))[index % 4]
                height, width = random.integers(15, 60, 2)
                pixels = random.integers(0, 256, (height, width, channels), np.uint8)
                picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
                picture.save(folder / split / name / f"{name}{index}.{kind}")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    write_pictures(tmp_path / "pets")
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "pets.yaml").write_text(DATASET)
    monkeypatch.chdir(tmp_path)
    ask_formats_here(monkeypatch)
    return Project(tmp_path, CNN)


def test_a_picture_is_the_same_wherever_it_goes_in(project: Project) -> None:
    trained = np.load(project.root / "raw" / "test_images.npy")
    record = read_record(project.models / "run.json")
    inputs = open_inputs(Path("pets/test"), record["dataset"], "refuse")
    blocks = list(inputs.blocks)
    places = [place for names, _ in blocks for place in names]
    images = np.concatenate([images for _, images in blocks])
    assert len(places) == 15
    described = project.export()
    assert described["preparation"] == record["dataset"]["preparation"]
    assert json_files.parse_json((project.reports / "export.json").read_bytes())["export/onnx/labels_flipped"] == 0
    network, decoder = load_network(project.models / "export"), Decoder()
    known = {image.tobytes() for image in trained}
    kinds = {ending: kind for kind, ending in KINDS.items()}
    for place, image in zip(places, images, strict=True):
        assert image.tobytes() in known
        body = (Path("pets/test") / place).read_bytes()
        kind = kinds["PNG" if place.endswith(".png") else "JPEG"]
        assert asyncio.run(decoder.raw_input(network, kind, body)) == image.tobytes()
    assert len({image.tobytes() for image in images}) == 15
    # In order of the files of the test split, whose answers are known: what is served is what was evaluated.
    order = [next(index for index, one in enumerate(images) if one.tobytes() == image.tobytes()) for image in trained]
    outputs = network.outputs(images[order].tobytes())
    np.testing.assert_allclose(outputs, project.answers.outputs, atol=1e-5)


def test_another_picture_is_another_image(project: Project) -> None:
    content = io.BytesIO()
    Image.fromarray(np.full((40, 10, 3), 200, np.uint8)).save(content, "PNG")
    Path("tall.png").write_bytes(content.getvalue())
    record: Any = read_record(project.models / "run.json")
    [(_, images)] = open_inputs(Path("tall.png"), record["dataset"], "refuse").blocks
    assert images.shape == (1, 20, 24, 3)
    assert sorted(np.unique(images).tolist()) == [0, 200]  # padded with black, as the dataset file says

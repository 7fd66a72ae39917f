"""The shipped params on all of MNIST: needs the four files in a folder that KERAS_PIPELINE_MIRRORS names."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import small
from drawn_digits import DRAWN, png
from keras_pipeline.checks.params import load_params
from keras_pipeline.core import json_files
from keras_pipeline.export import runtimes
from keras_pipeline.records.observer import Observer
from keras_pipeline.serving.page import files as page_files
from keras_pipeline.serving.page.pictures import network_input
from keras_pipeline.stages import evaluate, export, fetch, normalize, train
from page_browser import ARGUMENTS, draw

HERE = os.environ.get("KERAS_PIPELINE_MIRRORS", "").split(",")
FOUND = any((Path(mirror or "/nowhere") / "train-images-idx3-ubyte.gz").is_file() for mirror in HERE)
pytestmark = [
    pytest.mark.proof,
    pytest.mark.skipif(not FOUND, reason="KERAS_PIPELINE_MIRRORS names no folder with the MNIST files"),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a pipeline whose stages were all run."""
    folder = tmp_path_factory.mktemp("mnist")
    shipped = load_params(small.SHIPPED)
    fetch.fetch_dataset(shipped, folder / "raw", folder / "downloads")
    normalize.normalize_dataset(shipped, folder / "raw", folder / "normalized")
    train.train_network(shipped, folder / "normalized", folder / "models", Observer(), folder / "checkpoints")
    evaluate.evaluate_network(shipped, folder / "normalized", folder / "models", folder / "reports")
    export.export_network(shipped, folder / "normalized", folder / "models", folder / "reports")
    return folder


def test_the_default_network_is_as_good_as_the_readme_says(finished: Path) -> None:
    """The shipped params on all of MNIST reach what the README says: 98.4 % of the test images, well calibrated."""
    scores = json_files.parse_json((finished / "reports" / "metrics.json").read_bytes())
    assert scores["test/accuracy"] >= 0.984
    assert scores["test/calibration_error"] < 0.02


@pytest.mark.parametrize(("pen", "dark_on_light"), [(18, True), (18, False), (10, True), (28, True)])
def test_pictures_of_digits_drawn_by_hand_are_recognized(finished: Path, pen: int, dark_on_light: bool) -> None:
    """Nineteen of twenty, in the form that the service gives them."""
    pictures = [np.asarray(Image.open(io.BytesIO(png(one["strokes"], 280, pen, dark_on_light)))) for one in DRAWN]
    made = [network_input(one, "mnist", 28, 28) for one in pictures]
    raw = np.stack([one for one in made if one is not None])
    outputs = runtimes.ask_format("onnx", finished / "models" / "export", raw, 10, 1).outputs
    right = outputs.argmax(axis=1) == [one["digit"] for one in DRAWN]
    assert right.mean() >= 0.95


@pytest.mark.needs_browser
def test_digits_drawn_on_the_page_are_recognized_while_one_waits(finished: Path, chromium: str) -> None:
    """Nineteen of twenty, with the mouse; the answer is there within 50 ms of the end of a stroke, most of the time."""
    from playwright.sync_api import sync_playwright

    address = page_files.write_page(finished / "models" / "export", finished / "page")[0].as_uri()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_page()
        page.goto(address)
        page.locator("#pad").wait_for()
        page.evaluate(
            """() => {
              globalThis.times = [];
              const answer = document.getElementById("answer");
              let began = null;
              document.getElementById("pad").addEventListener("pointerup", () => (began = performance.now()), true);
              new MutationObserver(() => {
                if (began !== null) times.push(performance.now() - began);
                began = null;
              }).observe(answer, { attributes: true, attributeFilter: ["data-version"] });
            }"""
        )
        right = 0
        for one in DRAWN:
            draw(page, one["strokes"])
            right += page.locator("#label").inner_text() == str(one["digit"])
            page.get_by_role("button", name="Clear").click()
        times = page.evaluate("times")
        browser.close()
    assert right / len(DRAWN) >= 0.95
    assert len(times) >= len(DRAWN)
    assert np.median(times) < 50

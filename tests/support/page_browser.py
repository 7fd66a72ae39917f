"""The page in Chromium: a folder or a server that has it, and hands that draw on it."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from exported import CLASSES, DRAWINGS, exported_folder
from fault_server import Answer, FaultServer, Handler, whole
from keras_pipeline.serving.page import files as page_files
from page_scripts import linear_network

ARGUMENTS = ["--no-sandbox", "--disable-gpu"]
DIGITS = {
    **CLASSES,
    "dataset": "digits",
    "drawing": DRAWINGS["digits"],
    "architecture": "softmax_regression",
    "parameters": 7850,
}


def class_means() -> dict[str, bytes]:
    """A network that needs no training: which mean of scikit-learn's digits, class by class, is nearest."""
    from keras_pipeline.sources.kinds.made import digits

    images, labels = digits()["train"]
    pixels = images.reshape(-1, 784).astype(np.float64)
    means = np.stack([pixels[labels == label].mean(axis=0) for label in range(10)])
    weights, bias = means / 255**2 * 4, -(means**2).sum(axis=1) / 2 / 255**2 * 4
    return linear_network(weights.astype(np.float32), bias.astype(np.float32))


def written_page(folder: Path, network: Mapping[str, bytes], described: Mapping[str, Any] = DIGITS) -> str:
    """The address of the page with this network, in a folder."""
    exports = exported_folder(folder / "export", dict(network), dict(described))
    return page_files.write_page(exports, folder / "page")[0].as_uri()


def about(described: Mapping[str, Any] = DIGITS, **more: Any) -> dict[str, Any]:
    """What the service says of itself."""
    manifest = {key: value for key, value in described.items() if key != "formats"}
    model = {"name": "digits", "version": "3", "run": manifest["run"], "manifest": manifest}
    return {"model": model, "candidate": None, "problem": None, "neighbours": False, "drawn": False, **more}


def sure_of(label: int) -> dict[str, Any]:
    """The service's answer to one picture."""
    shares = [0.91 if index == label else 0.01 for index in range(10)]
    return {
        "predictions": [{"label": str(label), "probabilities": shares}],
        "model": {"name": "digits", "version": "3", "run": DIGITS["run"]},
    }


def as_json(value: Any) -> Answer:
    return whole(json.dumps(value).encode(), Content_Type="application/json")


def of_each(answer: Callable[[], Any]) -> Answer:
    """As many answers as there are pictures in the request."""

    def answered(handler: Handler) -> None:
        one = answer()
        count = len(handler.body) // 784
        as_json({**one, "predictions": one["predictions"] * count})(handler)

    return answered


@contextmanager
def serving(answers: Mapping[str, Answer]) -> Iterator[FaultServer]:
    """A server with the page, and these answers by path."""
    kinds = page_files.KINDS
    own = {
        name: whole(content, Content_Type=kinds[Path(name).suffix], Content_Security_Policy=page_files.POLICY)
        for name, content in page_files.page_files().items()
    }
    with FaultServer({"": own["index.html"], **own, **answers}) as server:
        yield server


def draw(page: Any, strokes: Sequence[Sequence[float]]) -> None:
    """With the mouse, point by point."""
    page.locator("#pad").wait_for()
    box = page.locator("#pad").bounding_box()
    for stroke in strokes:
        points = [
            (box["x"] + x * box["width"], box["y"] + y * box["height"])
            for x, y in zip(stroke[::2], stroke[1::2], strict=True)
        ]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()


def seen(page: Any) -> Any:
    """The pixels that the network was given, (28, 28)."""
    values = page.evaluate(
        "() => { const canvas = document.getElementById('seen');"
        " return Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data); }"
    )
    return np.array(values, np.uint8).reshape(28, 28, 4)[..., 0]

"""The images of a comparison, drawn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compared_runs import LABELS, Images, made, normalized_arrays, record, written
from keras_pipeline.comparison import report, two_runs
from keras_pipeline.evaluation import multiclass

pytestmark = pytest.mark.slow


def test_the_images_that_flipped_are_drawn_both_ways_and_are_inside_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    flipped = report.figures.draw_flipped

    def kept(*arguments: Any) -> Any:
        drawn.append(flipped(*arguments))
        return drawn[-1]

    monkeypatch.setattr(report.figures, "draw_flipped", kept)
    run = record()
    images = normalized_arrays(Path("data/normalized"), run)
    a, b = made(1, 0.75, run, "relu"), made(2, 0.95, asked="sigmoid")
    b.record["dataset"] = run["dataset"]
    found = two_runs.compare_answers(a, b)
    assert found
    assert found.flips
    assert len(found.flips.only_a) < 36 < len(found.flips.only_b)
    text, html, names = written(a, b, images)
    assert names[2:] == ["curves.png", "classes.png", "only-A-right.png", "only-B-right.png"]
    only_a, only_b = len(found.flips.only_a), len(found.flips.only_b)
    first = "the most confident mistakes first"
    assert f"![relu right, sigmoid wrong: all {only_a}, {first}](only-A-right.png)" in text
    assert f"![sigmoid right, relu wrong: 36 of {only_b}, {first}](only-B-right.png)" in text
    assert drawn[0].get_suptitle() == f"relu right, sigmoid wrong\nall {only_a}, {first}"
    sources = Images(html).sources
    assert len(sources) == 4
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in sources)
    assert [len(figure.axes[0].images) for figure in drawn] == [len(found.flips.only_a), 36]
    for figure, chosen in zip(drawn, (found.flips.only_a, found.flips.only_b), strict=True):
        [axes] = figure.axes
        for title, image, index in zip(axes.texts, axes.images, chosen, strict=False):
            told = [f"true {LABELS[index]}"]
            for name, one in (("relu", a), ("sigmoid", b)):
                row = multiclass.probabilities(one.outputs)[index]
                told.append(f"{name}: {row.argmax()}  {row.max():.2f}")
            assert title.get_text() == "\n".join(told)
            np.testing.assert_array_equal(image.get_array(), images.scaled([index])[0, :, :, 0])
    monkeypatch.undo()
    written(
        made(1, run=run), made(1, run=record("b" * 32, dataset=run["dataset"])), images
    )  # nothing flipped: old ones go

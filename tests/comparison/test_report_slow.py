"""The images of a comparison, drawn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compared_runs import LABELS, Images, made, record, scaled_arrays, written
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
    images = scaled_arrays(Path("data/normalized"), run)
    a, b = made(1, 0.75, run), made(2, 0.95)
    b.record["dataset"] = run["dataset"]
    found = two_runs.compare_answers(a, b)
    assert found
    assert found.flips
    assert len(found.flips.only_a) < 36 < len(found.flips.only_b)
    text, html, names = written(a, b, images)
    assert names[2:] == ["only-A-right.png", "only-B-right.png"]
    assert (
        f"![A right, B wrong: all {len(found.flips.only_a)}, those first that B is surest of](only-A-right.png)" in text
    )
    assert (
        f"![B right, A wrong: 36 of {len(found.flips.only_b)}, those first that A is surest of](only-B-right.png)"
        in text
    )
    sources = Images(html).sources
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in sources)
    assert [len(figure.axes) for figure in drawn] == [len(found.flips.only_a), 36]
    for figure, chosen in zip(drawn, (found.flips.only_a, found.flips.only_b), strict=True):
        for axes, index in zip(figure.axes, chosen, strict=False):
            told = [f"true {LABELS[index]}"]
            for letter, one in (("A", a), ("B", b)):
                row = multiclass.probabilities(one.outputs)[index]
                told.append(f"{letter}: {row.argmax()}  {row.max():.2f}")
            assert axes.get_title() == "\n".join(told)
            np.testing.assert_array_equal(axes.images[0].get_array(), images[index, :, :, 0])
    monkeypatch.undo()
    written(
        made(1, run=run), made(1, run=record("b" * 32, dataset=run["dataset"])), images
    )  # nothing flipped: old ones go

"""The trials of a search by the value of each key, drawn."""

from itertools import combinations, pairwise

import pytest

from keras_pipeline.searches import report
from keras_pipeline.searches.search import Dimension
from keras_pipeline.searches.trials import TrialResult

pytestmark = pytest.mark.slow

SPACE = {
    "train.optimizer.learning_rate": Dimension(low=0.0003, high=0.03, log=True),
    "model.dropout": Dimension(low=0.0, high=0.6),
    "train.schedule.name": Dimension(choices=("constant", "cosine", "exponential", "reduce_on_plateau")),
    "model.hidden_units": Dimension(choices=([32], [512, 512], [1024, 512, 256], [128] * 9, [64] * 7)),
}


def test_each_panel_shows_the_whole_space_and_labels_that_are_apart() -> None:
    values = {"train.optimizer.learning_rate": 0.001, "model.dropout": 0.1, "train.schedule.name": "cosine"}
    trials = [
        TrialResult(0, "complete", 0.9, {**values, "model.hidden_units": [512, 512]}, {1: 0.9}, 1.0, ""),
        TrialResult(1, "pruned", None, {**values, "model.hidden_units": [32]}, {1: 0.5}, 1.0, ""),
    ]
    figure = report.draw_slices(trials, SPACE, "val/accuracy")
    figure.draw_without_rendering()
    rate, dropout, schedule, units = figure.axes
    assert rate.get_xlim() == pytest.approx((0.0003, 0.03), rel=0.3)
    assert rate.get_xlim()[0] < 0.0003 < 0.03 < rate.get_xlim()[1]
    assert dropout.get_xlim()[0] < 0 < 0.6 < dropout.get_xlim()[1]
    assert rate.get_xlabel() == "train.optimizer.learning_rate (log scale)"
    assert [label.get_text() for label in schedule.get_xticklabels()] == [
        "constant", "cosine", "exponential", "reduce_on_plateau",
    ]  # fmt: skip
    assert [line.get_xdata().tolist() for line in units.lines] == [[1], [0]]
    for axes in figure.axes:
        low, high = axes.get_xlim()
        labels = [one for one in axes.get_xticklabels() if low <= one.get_position()[0] <= high and one.get_text()]
        boxes = [label.get_window_extent() for label in labels]
        assert len(boxes) >= 4
        if labels[0].get_rotation():  # 30 degrees: the next line passes below by half of what lies between their ends
            line = labels[0].get_fontsize() * figure.dpi / 72
            assert all((b.x1 - a.x1) / 2 > line for a, b in pairwise(boxes))
        else:
            assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert [text.get_text() for text in figure.legends[0].texts] == ["complete", "pruned"]

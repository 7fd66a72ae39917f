"""What several trainings have in common, drawn."""

import pytest

from keras_pipeline.comparison import figures

pytestmark = pytest.mark.slow


def test_a_forest_plot_shows_each_difference_its_interval_and_its_numbers() -> None:
    rows = {"$a$": (0.01, -0.005, 0.025, False), "b" * 60: (-0.2, -0.3, -0.1, True)}
    figure = figures.draw_differences(rows, "accuracy minus that of '$x$'" + " and more" * 9, "real")
    figure.draw_without_rendering()  # nothing is read as TeX
    (axes,) = figure.axes
    assert [container.lines[0].get_xdata()[0] for container in axes.containers] == [1.0, -20.0]
    ends = [bars.get_segments()[0][:, 0].tolist() for one in axes.containers for bars in one.lines[2]]
    assert ends == [pytest.approx([-0.5, 2.5]), pytest.approx([-30.0, -10.0])]
    hollow, filled = (container.lines[0].get_markerfacecolor() for container in axes.containers)
    assert (hollow, filled) == ("white", figures.VERMILION)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["$a$", f"{'b' * 47}…"]
    (told,) = axes.child_axes
    assert [label.get_text() for label in told.get_yticklabels()] == ["+1.00 [-0.50, +2.50]", "-20.00 [-30.00, -10.00]"]
    box = axes.xaxis.label.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1


def test_both_learning_curves_are_in_one_panel() -> None:
    names = {f"{split}/{metric}": [0.5, 0.4, 0.3] for split in ("train", "val") for metric in ("loss", "accuracy")}
    figure = figures.draw_histories({"$a$": names, "b": {key: values[:1] for key, values in names.items()}}, ["loss"])
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert [len(line.get_xdata()) for line in axes.lines] == [3, 3, 1, 1]
    assert [line.get_marker() for line in axes.lines] == ["", "", "o", "o"]  # of one epoch there is no line
    told = [text.get_text() for text in figure.legends[0].texts]
    assert told == ["$a$, validation", "$a$, training", "b, validation", "b, training"]

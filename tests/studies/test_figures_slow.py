"""The learning curves of a study, as a picture and as a plot."""

import numpy as np
import pytest

from keras_pipeline.studies import figures
from keras_pipeline.studies.results import CURVES

pytestmark = pytest.mark.slow

NAMES = [f"${number}$" for number in range(9)]
STRONG = NAMES[2:8]
CURVE = np.array([[1.0, 0.5, 0.25], [2.0, 0.1, np.nan]])
PANELS = {metric: dict.fromkeys(NAMES, CURVE) for metric in CURVES}


def test_curves_fill_a_square_and_six_of_them_are_in_colour() -> None:
    figure = figures.draw_curves(PANELS, STRONG)
    figure.draw_without_rendering()
    assert [axes.get_subplotspec().get_geometry()[:2] for axes in figure.axes] == [(2, 2)] * 4
    for axes, metric in zip(figure.axes, CURVES, strict=True):
        assert axes.get_ylabel() == metric
        coloured = {line.get_label(): line.get_color() for line in axes.lines if line.get_color() != figures.FAINT}
        assert coloured == dict(zip(STRONG, figures.COLOURS, strict=True))
        assert len(axes.lines) == 9
        assert axes.lines[0].get_ydata().tolist() == [1.5, 0.3]  # as far as all seeds have it
    assert [text.get_text() for text in figure.legends[0].texts] == [*STRONG, "3 more"]


def test_a_loss_that_falls_far_has_a_log_scale() -> None:
    far = {"train/loss": {"a": np.array([[100.0, 1.0]])}, "val/accuracy": {"a": np.array([[0.01, 1.0]])}}
    figure = figures.draw_curves(far, ["a"])
    assert [axes.get_yscale() for axes in figure.axes[:2]] == ["log", "linear"]
    assert figure.axes[0].get_ylabel() == "train/loss (log scale)"
    scales = [panel["layer"][1]["encoding"]["y"]["scale"] for panel in figures.plot_curves(far, ["a"])["concat"]]
    assert scales == [{"type": "log", "nice": False}, {"zero": False}]


def test_variants_without_an_epoch_have_no_curve() -> None:
    empty = {metric: {"a": np.zeros((0, 0)), "b": CURVE} for metric in CURVES}
    figures.draw_curves(empty, ["a", "b"]).draw_without_rendering()
    rows = figures.plot_curves(empty, ["a", "b"])["concat"][0]["data"]["values"]
    assert {row["variant"] for row in rows} == {"b"}


def test_the_plot_has_the_same_numbers_colours_and_choice() -> None:
    plot = figures.plot_curves(PANELS, STRONG)
    assert plot["columns"] == 2
    assert [len(panel["data"]["values"]) for panel in plot["concat"]] == [18] * 4
    first = {"variant": "$0$", "epoch": 1, "mean": 1.5, "min": 1.0, "max": 2.0}
    assert plot["concat"][0]["data"]["values"][0] == first
    (chosen,) = plot["concat"][0]["layer"][1]["params"]
    assert chosen["value"] == [{"variant": name} for name in STRONG]
    scale = plot["concat"][0]["layer"][1]["encoding"]["color"]["condition"]["scale"]
    assert scale["domain"][:6] == STRONG
    assert sorted(scale["domain"]) == NAMES
    assert scale["range"][:6] == list(figures.COLOURS)

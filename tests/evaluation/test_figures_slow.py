"""Figures: the same bytes every time, texts that are whole and apart, and the numbers that they show."""

import io
import os
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from drawn_binary import drawn
from keras_pipeline.evaluation import figures, many_classes, multiclass

pytestmark = pytest.mark.slow

FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"]
FASHION += ["Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
# each is an error or another text if TeX is read from it
TEX = ["$\\frac{1}$", "$x$", "cost 5$ or 6$", "a very long name, much longer than its cell"]


def history(epochs):
    losses = [abs(epoch - 3) / 10 + 0.1 for epoch in range(1, epochs + 1)]
    columns = ("train/loss", "val/loss", "train/accuracy", "val/accuracy", "train/learning_rate")
    return {"epoch": list(range(1, epochs + 1))} | dict.fromkeys(columns, losses)


def predictions(classes=3, images=400):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, images)
    outputs = generator.dirichlet(np.full(classes, 0.5), images) + np.eye(classes)[labels]
    return (outputs / 2).astype(np.float32), labels


def class_rows(names):
    row = {"precision": 0.97, "precision_low": 0.94, "precision_high": 0.99, "f1": 0.965, "support": 90}
    row |= {"recall": 0.96, "recall_low": 0.95, "recall_high": 0.98}
    return [{"class": name, **row} for name in names]


def mistakes(names, count):
    images = np.random.default_rng(0).normal(size=(count, 8, 8, 1)).astype(np.float32)
    labels, wrong = np.arange(count) % len(names), (np.arange(count) + 1) % len(names)
    return figures.draw_worst_mistakes(images, labels, wrong, np.full(count, 0.987), names)


def figures_with_names(names):
    outputs, labels = predictions(len(names))
    matrix = multiclass.confusion_matrix(labels, outputs.argmax(axis=1), len(names))
    return {
        "confusion_matrix": figures.draw_confusion_matrix(matrix, names),
        "per_class": figures.draw_per_class(class_rows(names)),
        "worst_mistakes": mistakes(names, 4),
    }


def every_figure(names):
    return figures_with_names(names) | {
        "learning_curves": figures.draw_learning_curves(history(5)),
        "reliability": figures.draw_reliability(multiclass.calibration_rows(*predictions(), 10)),
    }


def figures_of_many(names):
    outputs, labels = predictions(len(names), 40 * len(names))
    predicted = outputs.argmax(axis=1)
    predicted[::7] = (labels[::7] + 1) % len(names)
    matrix = multiclass.confusion_matrix(labels, predicted, len(names))
    pairs = multiclass.confused_pairs(matrix, names)
    return {
        "confusions": many_classes.draw_confusions(matrix, pairs, names),
        "extremes": many_classes.draw_extremes(multiclass.per_class_rows(labels, predicted, names)),
    }


def drawn_texts(figure, monkeypatch):
    """Every text that really is drawn: no tick beyond the axis, nothing of a hidden axis."""
    drawn, draw = [], Text.draw
    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", lambda text, renderer: (drawn.append(text), draw(text, renderer)))
        figure.draw_without_rendering()
    return [text for text in dict.fromkeys(drawn) if text.get_text() and text.get_visible()]


def png(figure, folder):
    figures.save_figure(figure, folder / "figure.png")
    return (folder / "figure.png").read_bytes()


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    again = every_figure(["a", "b"])
    for name, figure in every_figure(["a", "b"]).items():
        content = png(figure, tmp_path)
        assert content == png(again[name], tmp_path), name
        if name == "confusion_matrix":  # matplotlib's layout moves an image when it is done again
            assert content == png(figure, tmp_path)


def test_other_wishes_for_figures_change_none(tmp_path):
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nlines.linewidth: 9\n")
    program = (
        "from keras_pipeline.core import interpreter; from keras_pipeline.evaluation import figures\n"
        "from matplotlib import rcParams, rcParamsDefault\n"
        "print([one for one in rcParams if one != 'backend' and rcParams[one] != rcParamsDefault[one]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "nonsense", "MATPLOTLIBRC": "/nowhere", "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_save_writes_a_plain_png_into_a_new_folder(tmp_path):
    figures.save_figure(Figure(figsize=(2, 1)), tmp_path / "new" / "figure.png")
    with Image.open(tmp_path / "new" / "figure.png") as image:
        assert (image.format, image.size) == ("PNG", (240, 120))
        assert not getattr(image, "text", None)  # no software, no date
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["figure.png"]


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (every_figure, FASHION),
        (figures_with_names, [f"longer name no {number}" for number in range(10)]),
        (figures_with_names, ["even", "odd"]),
        (figures_of_many, [f"n{number:05} a long name" for number in range(47)]),
        (figures_of_many, [f"n{number:05}" for number in range(100)]),
    ],
    ids=["words", "long", "two", "47", "100"],
)
def test_no_text_covers_another_or_leaves_the_figure(build, names, monkeypatch):
    for kind, figure in build(names).items():
        texts = [(text, text.get_window_extent()) for text in drawn_texts(figure, monkeypatch)]
        assert len(texts) > 4, kind
        page = figure.bbox
        for text, box in texts:
            inside = page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
            assert inside, (kind, text)
        upright = [(text, box.padded(-1)) for text, box in texts if text.get_rotation() in (0, 90)]
        covered = [(a, b) for (a, box), (b, other) in combinations(upright, 2) if box.overlaps(other)]
        assert covered == [], kind


def test_names_are_drawn_as_they_are(monkeypatch):
    short = [*TEX[:3], "a very long nam…"]
    for kind, figure in figures_with_names(TEX).items():
        texts = drawn_texts(figure, monkeypatch)  # raises at an unknown or unclosed TeX command
        for name in short:
            naming = [text for text in texts if name in text.get_text()]
            assert naming, (kind, name)
            assert not any(text.get_parse_math() for text in naming), (kind, name)


def test_confusion_matrix_shows_every_count_and_share():
    matrix = np.array([[97, 2, 1], [0, 1200, 0], [0, 0, 0]])
    axes = figures.draw_confusion_matrix(matrix, ["a", "b", "c"]).axes[0]
    cells = [text.get_text() for text in axes.texts]
    assert cells[0::2] == [str(count) for count in matrix.ravel()]
    assert cells[1::2] == ["97.0%", "2.0%", "1.0%", "0.0%", "100.0%", "0.0%", "0.0%", "0.0%", "0.0%"]
    places = [(round(text.get_position()[1]), text.get_position()[0]) for text in axes.texts[0::2]]
    assert places == list(np.ndindex(3, 3))  # rows are true classes, the first on top
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true class", "predicted class")
    assert "3 of 1,300" in axes.get_title()


def test_confusion_matrix_colours_rare_mistakes():
    figure = figures.draw_confusion_matrix(np.array([[999, 1], [0, 1000]]), ["a", "b"])
    diagonal, mistakes = (image.to_rgba(image.get_array()) for image in figure.axes[0].images)
    assert mistakes[0, 1, :3].max() - mistakes[0, 1, :3].min() > 0.1  # one in a thousand is not white
    assert (mistakes[1, 0, 3], mistakes[0, 0, 3], diagonal[0, 1, 3]) == (0, 0, 0)  # transparent


@pytest.mark.parametrize("matrix", [[[5]], [[3, 0], [0, 4]], [[0, 0], [0, 0]], [[0, 9], [0, 0]]])
def test_confusion_matrix_of_few_classes_draws(matrix):
    names = ["a", "b"][: len(matrix)]
    figure = figures.draw_confusion_matrix(np.array(matrix), names)
    figure.draw_without_rendering()
    right = np.trace(matrix)
    assert f"{np.sum(matrix) - right} of {np.sum(matrix)} test images" in figure.axes[0].get_title()


@pytest.mark.parametrize(("epochs", "best"), [(1, 1), (2, 2), (5, 3), (60, 3)])
def test_learning_curves_mark_the_lowest_validation_loss(epochs, best):
    figure = figures.draw_learning_curves(history(epochs))
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "accuracy", "learning rate"]
    assert f"lowest in epoch {best} of {epochs}" in figure.get_suptitle()
    training, validation, star = figure.axes[0].lines[:3]
    assert star.get_xdata() == [best]
    assert star.get_ydata() == [min(validation.get_ydata())]
    assert len(training.get_xdata()) == epochs
    assert training.get_marker() == ("o" if epochs <= 40 else "")  # a single point has no line
    figure.draw_without_rendering()
    low, high = figure.axes[2].get_xlim()
    shown = [tick for tick in figure.axes[2].get_xticks() if low <= tick <= high]
    assert shown == [int(tick) for tick in shown] != []


def test_learning_curves_take_a_learning_rate_of_zero():
    figure = figures.draw_learning_curves(history(1) | {"train/learning_rate": [0.0]})
    figure.draw_without_rendering()  # matplotlib warns of an axis from 0 to 0
    assert figure.axes[2].get_ylim()[1] > 0


def heights(container):
    """The values of an errorbar, and the ends of its intervals."""
    line, _, intervals = container.lines
    return list(line.get_ydata()), [segment[:, 1].tolist() for bars in intervals for segment in bars.get_segments()]


def test_per_class_shows_dots_with_their_intervals():
    figure = figures.draw_per_class(class_rows(["a", "b"]))
    axes = figure.axes[0]
    assert axes.get_ylim()[0] == pytest.approx(0.9, abs=0.002)
    assert axes.get_ylabel() == "score, with 95 % intervals"
    assert [container.get_label() for container in axes.containers] == ["precision", "recall", "F1"]
    precision, recall, f1 = map(heights, axes.containers)
    assert (precision[0], recall[0], f1) == ([0.97] * 2, [0.96] * 2, ([0.965] * 2, []))
    assert np.array([precision[1], recall[1]]) == pytest.approx(np.array([[[0.94, 0.99]] * 2, [[0.95, 0.98]] * 2]))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a (90)", "b (90)"]
    assert [text.get_text() for text in figure.legends[0].texts] == ["precision", "recall", "F1"]


def test_per_class_of_a_class_without_images_starts_at_zero():
    rows = multiclass.per_class_rows(np.array([0, 0]), np.array([0, 0]), ["a", "b"])
    figure = figures.draw_per_class(rows)
    figure.draw_without_rendering()
    assert -0.02 < figure.axes[0].get_ylim()[0] <= 0


def test_reliability_shows_the_calibration_error_and_how_much_each_bin_says():
    outputs, labels = predictions()
    bins = multiclass.calibration_rows(outputs, labels, 10)
    figure = figures.draw_reliability(bins)
    error = multiclass.class_scores(outputs, labels, 0.0, 10)["test/calibration_error"]
    assert f"expected calibration error {error:.4f} over 400 test images" in figure.get_suptitle()
    accuracy, dots = figure.axes[0].containers
    filled = [row for row in bins if row["count"]]
    assert [bar.get_height() for bar in accuracy] == [row["accuracy"] for row in filled]
    ends = np.array(heights(dots)[1])
    assert ends == pytest.approx(np.array([[row["accuracy_low"], row["accuracy_high"]] for row in filled]))
    markers = next(line for line in figure.axes[0].lines if line.get_label() == "mean confidence")
    assert list(markers.get_xdata()) == [row["confidence"] for row in filled]
    counts = [bar.get_height() for bar in figure.axes[1].containers[0]]
    assert counts == [row["count"] for row in filled]
    widths = ends[:, 1] - ends[:, 0]
    opacities = np.array([bar.get_facecolor()[3] for bar in accuracy])
    assert np.argsort(opacities).tolist() == np.argsort(-widths).tolist()  # of few images: a wide interval, and faint
    assert opacities.min() > 0.1
    one_image = multiclass.calibration_rows(np.array([[0, 1]], dtype=np.float32), np.array([0]), 10)
    figure = figures.draw_reliability(one_image)
    figure.draw_without_rendering()
    assert "1.0000 over 1 test" in figure.get_suptitle()


@pytest.mark.parametrize(("count", "grid"), [(36, (6, 6)), (5, (2, 3)), (1, (1, 1))])
def test_worst_mistakes_fill_a_square_grid(count, grid):
    figure = mistakes(list("0123456789"), count)
    [axes] = figure.axes
    places = [image.get_extent() for image in axes.images]
    assert len(places) == count
    assert (len({place[3] for place in places}), len({place[0] for place in places})) == grid
    assert axes.texts[0].get_text() == "true 0 → 1  0.99"
    values = [image.get_array() for image in axes.images]
    assert min(map(np.min, values)) < 0  # drawn in the range that they have
    assert {image.get_clim() for image in axes.images} == {(np.min(values), np.max(values))}


@pytest.mark.parametrize("names", [list("0123456789"), FASHION, [*TEX, *FASHION[:6]]])
def test_flipped_images_tell_their_class_and_both_answers(names, tmp_path):
    images = np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype(np.float32)
    answers = {"A": ([0, 1, 2, 3, 4], [0.9] * 5), "B": ([5, 6, 7, 8, 9], [0.5] * 5)}
    figure = figures.draw_flipped(images, [0, 1, 2, 3, 4], answers, names, "A right, B wrong")
    assert figure.get_suptitle() == "A right, B wrong"
    short = [name if len(name) <= 16 else name[:15] + "…" for name in names]
    [axes] = figure.axes
    assert [text.get_text() for text in axes.texts] == [
        f"true {short[index]}\nA: {short[index]}  0.90\nB: {short[index + 5]}  0.50" for index in range(5)
    ]
    figures.save_figure(figure, tmp_path / "figure.png")
    boxes = [one.get_window_extent() for one in (*axes.texts, *axes.images)]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    whole = figure.bbox
    assert all(box.x0 >= whole.x0 and box.x1 <= whole.x1 and box.y1 <= whole.y1 for box in boxes)


def test_no_mistakes(tmp_path, monkeypatch):
    figure = figures.draw_worst_mistakes(np.zeros((0, 28, 28, 1)), [], [], [], ["a", "b"])
    assert "no mistakes" in [text.get_text() for text in drawn_texts(figure, monkeypatch)]
    constant = figures.draw_worst_mistakes(np.zeros((1, 28, 28, 1)), [0], [1], [0.9], ["a", "b"])
    assert png(figure, tmp_path) != png(constant, tmp_path)


def test_the_figures_say_what_is_in_them() -> None:
    from keras_pipeline.evaluation import binary, figures

    outputs, labels = drawn()
    random = np.random.default_rng(0)
    true = random.normal(5, 3, 50)
    drawings = {
        "ROC curve of '$x$ & y' against the rest: area 0.9000": figures.draw_roc(
            binary.roc_curve(outputs, labels), 0.9, "$x$ & y"
        ),
        "average precision 0.8000": figures.draw_precision_recall(
            binary.precision_recall_curve(outputs, labels), 0.8, 0.2, "3"
        ),
        "R² 0.5000": figures.draw_predicted(true + 1, true, "y", 0.5),
        "over 50 test rows": figures.draw_residuals(true + random.normal(0, 1, 50), true, "y"),
    }
    for text, figure in drawings.items():
        titles = [axes.get_title() for axes in figure.axes] + [figure.get_suptitle()]
        assert any(text in title for title in titles), titles
        content = io.BytesIO()
        figure.savefig(content, dpi=figures.DOTS_PER_INCH)
        assert len(content.getvalue()) > 10_000


def test_names_that_begin_alike_keep_their_ends():
    names = ["a sea lion of the north", "a sea lion of the south", "a cat", "another name of a class"]
    shown = figures.short_names(names)
    assert shown == ["a sea l…he north", "a sea l…he south", "a cat", "another name of…"]
    assert max(map(len, shown)) == figures.LONGEST_NAME


def test_colours_and_shapes_are_those_of_the_images():
    colour = np.random.default_rng(0).uniform(-1, 1, (2, 10, 20, 3)).astype(np.float32)
    [axes] = figures.draw_first_batch(colour, [0, 1], ["a", "b"]).axes
    drawn = [image.get_array() for image in axes.images]
    for image, shown in zip(colour, drawn, strict=True):
        span = colour.max() - colour.min()
        np.testing.assert_allclose(shown, (image - colour.min()) / span, atol=1e-6)
    left, right, bottom, top = axes.images[0].get_extent()
    assert (right - left) / (bottom - top) == pytest.approx(2)
    [axes] = figures.draw_first_batch([colour[0, ..., :2]], [0], ["a"]).axes
    np.testing.assert_allclose(axes.images[0].get_array(), colour[0, ..., :2].mean(axis=2))


def test_a_thumbnail_has_the_means_of_whole_blocks():
    image = np.random.default_rng(0).random((700, 1100, 3)).astype(np.float32)
    small = figures.thumbnail(image)
    assert small.shape == (175, 275, 3)
    np.testing.assert_allclose(small[3, 5], image[12:16, 20:24].mean((0, 1)), rtol=1e-5)
    assert figures.thumbnail(image[:300, :511]) is not image
    np.testing.assert_array_equal(figures.thumbnail(image[:300, :511]), image[:300, :511])
    assert figures.thumbnail(image[:1]).shape == (1, 275, 3)


def test_of_many_classes_no_mistake_is_lost_from_the_map():
    classes = 1000
    matrix = 10 * np.eye(classes, dtype=int)
    matrix[17, 900] = matrix[17, 17] = 5
    matrix[3, 2] = 30  # beside the diagonal, in the same cell as it
    names = [f"class {number}" for number in range(classes)]
    figure = many_classes.draw_confusions(matrix, multiclass.confused_pairs(matrix, names), names)
    left, right = (axes for axes in figure.axes if axes.get_title())
    assert "35 of 10,030 test images wrong, 4 classes a cell" in left.get_title()
    right_ones, mistakes, _ = (image.get_array() for image in left.images)
    assert mistakes.shape == (250, 250)
    assert mistakes[17 // 4, 900 // 4] == 0.5
    assert right_ones[4, 4] == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert mistakes.count() == 2
    labels = [label.get_text() for label in right.get_yticklabels()]
    assert labels == ["class 3 → class 2", "class 17 → class 900"]
    assert [bar.get_width() for bar in right.patches] == [0.75, 0.5]
    nothing = many_classes.draw_confusions(np.diag(np.ones(50, int)), [], names[:50])
    nothing.draw_without_rendering()
    assert "No mistakes" in [axes.get_title() for axes in nothing.axes]


def test_extremes_are_of_the_classes_that_were_tested():
    rows = [row | {"f1": number / 100} for number, row in enumerate(class_rows([f"c{one}" for one in range(100)]))]
    rows[0] |= {"support": 0}
    figure = many_classes.draw_extremes(rows)
    worst, best = figure.axes
    assert worst.get_yticklabels()[0].get_text() == "c1 (90)"
    assert [label.get_text() for label in best.get_yticklabels()][::19] == ["c99 (90)", "c80 (90)"]
    assert figure.get_suptitle().endswith("the extremes of 100 classes; without test images: 1")
    ends = worst.containers[0].lines[2][0].get_segments()[0][:, 0]
    assert ends == pytest.approx([0.94, 0.99])


def test_the_rows_of_a_table_are_called_rows(monkeypatch):
    outputs, labels = predictions(3, 900)
    predicted, names = outputs.argmax(axis=1), ["a", "b", "c"]
    matrix = multiclass.confusion_matrix(labels, predicted, 3)
    scores = multiclass.per_class_rows(labels, predicted, names)
    curve = [{"threshold": 0.7, "precision": 0.9, "recall": 0.8}]
    for figure in (
        figures.draw_confusion_matrix(matrix, names, "rows"),
        figures.draw_per_class(scores, "rows"),
        figures.draw_reliability(multiclass.calibration_rows(outputs, labels, 10), "rows"),
        figures.draw_precision_recall(curve, 0.9, 0.5, "yes", "rows"),
        many_classes.draw_confusions(matrix, multiclass.confused_pairs(matrix, names), names, "rows"),
        many_classes.draw_extremes(scores, "rows"),
    ):
        texts = " ".join(text.get_text() for text in drawn_texts(figure, monkeypatch))
        assert "rows" in texts
        assert "image" not in texts

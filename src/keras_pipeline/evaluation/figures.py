"""Numbers to matplotlib figures."""

import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from keras_pipeline.config.tasks import format_score, metric_beside_loss
from keras_pipeline.core.files import write_atomically

BLUE, SKY, ORANGE, GREEN, VERMILION = "#0072B2", "#56B4E9", "#E69F00", "#009E73", "#D55E00"
GREY = "#666666"
LONGEST_NAME = 16
FEW_CLASSES = 12
MOST_PIXELS = 256
Pixels = NDArray[np.floating[Any]]
Images = Sequence[Pixels] | Pixels
DOTS_PER_INCH = 120
IMAGE, CELL, LETTER, HEADING = 1.65, 1.75, 0.085, 0.5
"""Inches in a grid of images: an image, with the space to the next one, a letter of its title, the grid's heading."""
matplotlib.rcdefaults()  # a file matplotlibrc, in the current folder or the home, changes no figure


def draw_confusion_matrix(
    matrix: NDArray[np.integer[Any]], class_names: Sequence[str], things: str = "images"
) -> Figure:
    """Counts, int (classes, classes), rows true: each cell shows its count and its share of the row. `things`: what was
    counted.

    Mistakes have a colour scale of their own, the square root of their share up to 10 %, so that one of 1 %
    is visible beside a diagonal of 99 %; it is the same in every figure, so that two runs can be compared.
    """
    images, classes = int(matrix.sum()), len(class_names)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    diagonal = np.eye(classes, dtype=bool)
    names = short_names(class_names)
    side = max(4.5, 2.5 + 0.68 * classes)
    figure = Figure(figsize=(side + 1.5, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(np.ma.masked_array(shares, ~diagonal), cmap="Blues", vmin=0, vmax=1)
    mistakes = np.ma.masked_array(shares, diagonal | (matrix == 0))
    picture = axes.imshow(mistakes, cmap="Oranges", norm=PowerNorm(0.5, vmin=0, vmax=0.1))
    for row, column in np.ndindex(classes, classes):
        count, share = int(matrix[row, column]), float(shares[row, column])
        colour = "white" if share > (0.6 if row == column else 0.05) else "black" if count else GREY
        axes.text(column, row - 0.12, str(count), ha="center", va="center", color=colour, size=10)
        axes.text(column, row + 0.22, f"{share:.1%}", ha="center", va="center", color=colour, size=7)
    _name_ticks(axes, names)
    axes.set_yticks(range(classes), names, parse_math=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(f"Confusion matrix: {images - int(np.trace(matrix)):,} of {images:,} test {things} wrong")
    scale = figure.colorbar(picture, shrink=0.8, extend="max", ticks=[0, 0.005, 0.01, 0.02, 0.05, 0.1])
    scale.ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    scale.set_label("mistakes: share of the true class (square-root scale)")
    return figure


def draw_learning_curves(history: Mapping[str, Sequence[float]]) -> Figure:
    """Loss, accuracy and learning rate over the epochs, with the epoch of the lowest validation loss marked.

    `history` has at least one epoch and the columns epoch, train/loss, val/loss, train/accuracy,
    val/accuracy, train/learning_rate; or mean_absolute_error for accuracy.
    """
    epochs = history["epoch"]
    best = int(np.argmin(history["val/loss"]))
    marker = "o" if len(epochs) <= 40 else ""  # one epoch has no line; many would be a row of dots
    figure = Figure(figsize=(8, 8), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 1])
    for axes, metric in zip(panels, ("loss", metric_beside_loss(history)), strict=False):
        training, validation = history[f"train/{metric}"], history[f"val/{metric}"]
        axes.plot(epochs, training, "--", color=BLUE, marker=marker, ms=4, label="training")
        axes.plot(epochs, validation, "-", color=VERMILION, marker=marker, ms=4, label="validation")
        label = f"validation in epoch {epochs[best]}: {format_score(validation[best])}"
        axes.plot(epochs[best], validation[best], "*", ms=14, mfc=ORANGE, mec="black", ls="", label=label)
        axes.set_ylabel(metric.replace("_", " "))
        axes.legend()
    panels[2].plot(epochs, history["train/learning_rate"], color=GREEN, marker=marker, ms=4)
    panels[2].set_ylim(bottom=0)
    panels[2].set(xlabel="epoch", ylabel="learning rate", xlim=(epochs[0] - 0.5, epochs[-1] + 0.5))
    panels[2].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes in panels:
        axes.axvline(epochs[best], color=GREY, lw=1, ls=":")
        axes.grid(alpha=0.3)
    figure.suptitle(f"Learning curves: validation loss is lowest in epoch {epochs[best]} of {epochs[-1]}")
    return figure


def draw_per_class(rows: Sequence[Mapping[str, Any]], things: str = "images") -> Figure:
    """Precision and recall of each class as dots with their 95 % intervals, F1 as a dot without: the rows of
    `multiclass.per_class_rows`."""
    lowest = min(row[key] for row in rows for key in ("precision_low", "recall_low", "f1"))
    bottom = max(0.0, math.floor(20 * (lowest - 0.01)) / 20)
    width = (
        3 + 0.8 * len(rows) if len(rows) <= FEW_CLASSES else 3 + 0.8 * FEW_CLASSES + 0.45 * (len(rows) - FEW_CLASSES)
    )
    figure = Figure(figsize=(max(7.0, width), 5), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(rows))
    for key, offset, marker, colour in (("precision", -0.2, "o", ORANGE), ("recall", 0.0, "D", BLUE)):
        draw_intervals(axes, places + offset, rows, key, label=key, fmt=marker, color=colour)
    axes.errorbar(places + 0.2, [row["f1"] for row in rows], fmt="x", color=GREY, label="F1")
    for place in places[:-1]:
        axes.axvline(place + 0.5, color=GREY, lw=0.5, alpha=0.4)
    axes.set(xlim=(-0.5, len(rows) - 0.5), ylim=(bottom - 0.01 * (1 - bottom), 1 + 0.02 * (1 - bottom)))
    names = short_names([row["class"] for row in rows])
    _name_ticks(axes, [f"{name} ({row['support']})" for name, row in zip(names, rows, strict=True)])
    axes.set_xlabel(f"class (test {things})")
    axes.set_ylabel("score, with 95 % intervals")
    axes.set_title(f"Precision, recall and F1 of each class on the test {things}")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def draw_intervals(
    axes: Axes, places: NDArray[Any], rows: Sequence[Mapping[str, Any]], key: str, across: bool = False, **style: Any
) -> None:
    """The value `key` of each row as a dot with its interval, KEY_low to KEY_high: upward, or across."""
    values = np.array([row[key] for row in rows])
    below = values - [row[f"{key}_low"] for row in rows]
    above = [row[f"{key}_high"] for row in rows] - values
    errors = np.maximum([below, above], 0.0)
    if across:
        axes.errorbar(values, places, xerr=errors, ms=5, capsize=2, **style)
    else:
        axes.errorbar(places, values, errors, ms=6, capsize=3, **style)


def draw_reliability(bins: Sequence[Mapping[str, Any]], things: str = "images") -> Figure:
    """Accuracy against confidence with 95 % intervals, and how many images each bin holds: the rows of
    `multiclass.calibration_rows`. A bar is the fainter, the wider its interval: one of few images says little.

    The title holds the expected calibration error: the gaps' mean, weighted by the bins' counts.
    """
    filled = [row for row in bins if row["count"]]
    images = sum(row["count"] for row in filled)
    error = sum(row["count"] * abs(row["accuracy"] - row["confidence"]) for row in filled) / images
    centres = np.array([(row["lower"] + row["upper"]) / 2 for row in filled])
    width = 0.94 / len(bins)
    confidence = [row["confidence"] for row in filled]
    figure = Figure(figsize=(7, 8), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    colours = [(BLUE, 1 - 0.9 * (row["accuracy_high"] - row["accuracy_low"])) for row in filled]
    for axes, key in ((upper, "accuracy"), (lower, "count")):
        axes.bar(centres, [row[key] for row in filled], width, color=colours, ec=BLUE, lw=0.8)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    draw_intervals(upper, centres, filled, "accuracy", label="accuracy, 95 % interval", fmt="_", color="black")
    upper.plot(confidence, confidence, "D", ms=5, mfc=ORANGE, mec="black", clip_on=False, label="mean confidence")
    upper.plot([0, 1], [0, 1], "--", color=GREY, label="perfect calibration")
    upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel=f"accuracy of the {things} in the bin")
    upper.legend(loc="upper left")
    lower.set(yscale="log", ylim=(0.5, 2 * images), xlabel="confidence: probability of the predicted class")
    lower.set_ylabel(f"test {things} (log scale)")
    figure.suptitle(f"Reliability: expected calibration error {error:.4f} over {images:,} test {things}")
    return figure


def draw_worst_mistakes(
    images: Images,
    labels: Sequence[int],
    predicted: Sequence[int],
    probability: Sequence[float],
    class_names: Sequence[str],
) -> Figure:
    """Wrongly classified images (height, width, channels) of any value range, in a square grid, in their order.

    Each is titled with its true class, the predicted one and the probability given to the latter.
    """
    names = short_names(class_names)
    separator = " " if max(map(len, names)) <= 4 else "\n"
    titles = [
        f"true {names[true]}{separator}\N{RIGHTWARDS ARROW} {names[wrong]}  {share:.2f}"
        for true, wrong, share in zip(labels, predicted, probability, strict=True)
    ]
    figure = _grid(images, titles, "Worst mistakes: wrong predictions with the highest probability")
    if not len(images):
        figure.text(0.5, 0.4, "no mistakes", ha="center", va="center", size=16)
    return figure


def draw_flipped(
    images: Images,
    labels: Sequence[int],
    answers: Mapping[str, tuple[Sequence[int], Sequence[float]]],
    class_names: Sequence[str],
    title: str,
) -> Figure:
    """Images (height, width, channels) of any value range, in a square grid, in their order, each titled with its true
    class and a line for each of two runs: its name, the class that it answered, and the probability that it gave it.
    """
    names = short_names(class_names)
    titles = [
        "\n".join(
            [f"true {names[true]}"]
            + [f"{run}: {names[given[index]]}  {share[index]:.2f}" for run, (given, share) in answers.items()]
        )
        for index, true in enumerate(labels)
    ]
    return _grid(images, titles, title)


def draw_first_batch(images: Images, labels: Sequence[int], class_names: Sequence[str]) -> Figure:
    """What a network is trained on, images (height, width, channels) of any value range, each titled with its class."""
    names = short_names(class_names)
    return _grid(images, [names[label] for label in labels], "The first images, as the network sees them")


def thumbnail(image: Pixels) -> Pixels:
    """The image, or where a side has more than twice MOST_PIXELS, one of whole blocks' means: as much as can be seen,
    so that a grid of large images does not fill the memory."""
    block = max(image.shape[:2]) // MOST_PIXELS
    if block < 2:
        return image
    height, width = (max(1, side // block) for side in image.shape[:2])
    rows, columns = (min(block, side) for side in image.shape[:2])
    cut = image[: height * rows, : width * columns]
    return np.asarray(cut.reshape(height, rows, width, columns, -1).mean(axis=(1, 3), dtype=np.float32))


def _grid(images: Images, titles: Sequence[str], title: str) -> Figure:
    """The images in a square grid, in their order, black and white being the least and the highest of all values. Three
    channels are red, green and blue; of any other number the mean is shown.

    All in one pair of axes, in inches: axes for each image would take four times as long to draw.
    """
    side = max(1, math.ceil(math.sqrt(len(images))))
    lines = max(1, math.ceil(len(images) / side))
    above = 0.15 + 0.15 * max((title.count("\n") + 1 for title in titles), default=1)  # each image, for its title
    longest = max((len(line) for title in titles for line in title.splitlines()), default=0)
    tallest = max((IMAGE * image.shape[0] / max(image.shape[:2]) for image in images), default=IMAGE)
    width, height = max(6.0, CELL * side, LETTER * longest * side), HEADING + (tallest + above) * lines + 0.1
    figure = Figure(figsize=(width, height))
    figure.suptitle(title, y=1 - HEADING / 2 / height, va="center", parse_math=False)
    axes = figure.add_axes((0, 0, 1, 1))
    least = min((float(image.min()) for image in images), default=0.0)
    most = max((float(image.max()) for image in images), default=1.0)
    for index, image in enumerate(images):
        line, column = divmod(index, side)
        left, top = width * (column + 0.5) / side - IMAGE / 2, HEADING + (tallest + above) * line + above
        wide, high = (IMAGE * one / max(image.shape[:2]) for one in image.shape[1::-1])
        beside = left + (IMAGE - wide) / 2
        where = (beside, beside + wide, top + high, top)
        if image.shape[2] == 3:
            axes.imshow(np.clip((image - least) / ((most - least) or 1), 0, 1), extent=where)
        else:
            grey = image[:, :, 0] if image.shape[2] == 1 else image.mean(axis=2)
            axes.imshow(grey, cmap="gray", vmin=least, vmax=most, extent=where)
        axes.text(left + IMAGE / 2, top - 0.05, titles[index], size=9, ha="center", va="bottom", parse_math=False)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")  # which the last image has changed
    axes.set_axis_off()
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write `figure` as PNG, atomically; the same figure gives the same bytes. Raises OSError."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    figure.set_layout_engine("none")  # keep this layout: done again, it would move things by some pixels
    write_atomically(path, content.getvalue())


def short_names(names: Sequence[str]) -> list[str]:
    """Each name on one line, of LONGEST_NAME letters at most: without its end, or where several begin alike without its
    middle."""
    lines = [" ".join(name.split()) for name in names]
    begins = Counter(line[: LONGEST_NAME - 1] for line in lines)
    return [line if len(line) <= LONGEST_NAME else _shortened(line, begins[line[: LONGEST_NAME - 1]]) for line in lines]


def _shortened(line: str, alike: int) -> str:
    kept = LONGEST_NAME - 1
    first = kept if alike == 1 else kept // 2
    return f"{line[:first]}\N{HORIZONTAL ELLIPSIS}{line[first - kept :] if first < kept else ''}"


def _name_ticks(axes: Axes, labels: Sequence[str]) -> None:
    slanted = max(map(len, labels)) > 8
    axes.set_xticks(range(len(labels)), labels, parse_math=False, rotation_mode="anchor")
    for label in axes.get_xticklabels() if slanted else []:
        label.set(rotation=40, ha="right", va="center")


Numbers = NDArray[np.float64]


def draw_roc(rows: Sequence[Mapping[str, Any]], area: float, positive: str) -> Figure:
    """True against false positive rate, the rows of `binary.roc_curve`, with the area below and the threshold ½."""
    figure, axes = _square()
    false, true = ([row[key] for row in rows] for key in ("false_positive_rate", "true_positive_rate"))
    axes.plot(false, true, color=BLUE, lw=2, label="network", clip_on=False)
    axes.plot([0, 1], [0, 1], "--", color=GREY, label="chance")
    _mark_half(axes, rows, "false_positive_rate", "true_positive_rate")
    axes.set_xlabel("false positive rate: share of the rest that is taken for it")
    axes.set_ylabel(f"true positive rate (recall): share of '{positive}' that is found", parse_math=False)
    axes.set_title(f"ROC curve of '{positive}' against the rest: area {area:.4f}", parse_math=False)
    axes.legend(loc="lower right")
    return figure


def draw_precision_recall(
    rows: Sequence[Mapping[str, Any]], average_precision: float, share: float, positive: str, things: str = "images"
) -> Figure:
    """Precision against recall, the rows of `binary.precision_recall_curve`; `share`: of class 1 in the test split."""
    figure, axes = _square()
    recall, precision = ([row[key] for row in rows] for key in ("recall", "precision"))
    axes.plot(recall, precision, color=BLUE, lw=2, drawstyle="steps-post", label="network", clip_on=False)
    axes.axhline(share, ls="--", color=GREY, label=f"chance: {share:.1%} of the test {things}")
    _mark_half(axes, rows, "recall", "precision")
    axes.set_xlabel(f"recall: share of '{positive}' that is found", parse_math=False)
    axes.set_ylabel("precision: share of what is found that is it")
    title = f"Precision and recall of '{positive}': average precision {average_precision:.4f}"
    axes.set_title(title, parse_math=False)
    axes.legend(loc="lower left")
    return figure


def draw_predicted(predictions: Numbers, true: Numbers, name: str, r2: float) -> Figure:
    """Each test row's prediction against the true value, in the target's units; the dashed line is right."""
    figure, axes = _square()
    both = np.concatenate([predictions, true])
    margin = 0.04 * float(np.ptp(both))
    ends = float(both.min()) - margin, float(both.max()) + margin
    axes.plot(ends, ends, "--", color=GREY, label="right")
    axes.plot(true, predictions, "o", ms=5, mfc=BLUE, mec="white", mew=0.5, label=f"{len(true):,} test rows")
    axes.set(xlim=ends, ylim=ends)
    axes.set_xlabel(f"true {name}", parse_math=False)
    axes.set_ylabel(f"predicted {name}", parse_math=False)
    axes.set_title(f"Predicted against true: R² {format_score(r2)}")
    axes.legend(loc="upper left")
    return figure


def draw_residuals(predictions: Numbers, true: Numbers, name: str) -> Figure:
    """Predicted minus true value: against the prediction, where a pattern is what was not learned, and how often."""
    errors = predictions - true
    figure = Figure(figsize=(9, 5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
    left.axhline(0, ls="--", color=GREY)
    left.plot(predictions, errors, "o", ms=5, mfc=BLUE, mec="white", mew=0.5)
    left.set_xlabel(f"predicted {name}", parse_math=False)
    left.set_ylabel("predicted minus true")
    right.hist(errors, bins="auto", orientation="horizontal", color=BLUE)
    right.axhline(float(errors.mean()), color=VERMILION, label=f"mean {errors.mean():.3g}")
    right.set_xlabel("test rows")
    right.legend(loc="upper right")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    figure.suptitle(f"Residuals: standard deviation {errors.std():.4g} over {len(true):,} test rows")
    return figure


def _square() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.5, 6.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def _mark_half(axes: Axes, rows: Sequence[Mapping[str, Any]], x: str, y: str) -> None:
    """The point of the lowest threshold that is not below a half, which is where the network decides."""
    above = [row for row in rows if row["threshold"] is not None and row["threshold"] > 0.5]
    if above:
        point = min(above, key=lambda row: float(row["threshold"]))
        style: dict[str, Any] = {"ms": 15, "mfc": ORANGE, "mec": "black", "ls": "", "clip_on": False, "zorder": 3}
        axes.plot(point[x], point[y], "*", **style, label="threshold 0.5: where the network decides")

"""What the page of a dataset shows: counts, examples of each class as small pictures, and histograms of columns."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_pipeline.inspection.survey import as_bytes, resized
from keras_pipeline.sources.kinds.kind import Columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from keras_pipeline.sources.raw import ImagesInput, Raw

MOST_CLASSES = 100
"""That are shown; of more the largest and the smallest ones."""
MOST_COLUMNS = 60
MOST_EXAMPLES = 13
"""Of a class."""
PIXELS = 400_000
"""Of all examples together: so the page stays below a megabyte."""
LONGEST_SIDE, OF_MANY, SHORTEST_SHOWN = 64, 32, 56
"""Of an example: in its file, there where more than MANY_CLASSES are shown, and on the page."""
MANY_CLASSES = 24
GAP = 2
"""Between two examples, in pixels of their file."""
BINS = 20
MOST_BARS = 12


@dataclass(frozen=True)
class Bar:
    """A class, a category or a range of numbers, how many there are, and that as a share of the largest one."""

    name: str
    count: int
    share: float


@dataclass(frozen=True)
class Strip:
    """Examples of a class side by side: a picture as a data URI, how many it shows, its size on the page."""

    name: str
    shown: int
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Histogram:
    """The values of a column: in words, and as bars, side by side for `numbers`, else the most frequent ones."""

    name: str
    text: str
    numbers: bool
    bars: Sequence[Bar]


@dataclass(frozen=True)
class Counts:
    """A row for each class that is shown: its name, how many each split has, its share of the largest class's."""

    splits: Sequence[str]
    rows: Sequence[tuple[str, Sequence[int], float]]
    left_out: int


@dataclass(frozen=True)
class Overview:
    """All that the page shows, but for findings. `facts`: of the dataset, each a name and a value."""

    name: str
    title: str
    facts: Sequence[tuple[str, str]]
    counts: Counts | None
    strips: Sequence[Strip]
    columns: Sequence[Histogram]
    columns_left_out: int


def overview_of_raw(raw: "Raw", labels: "Mapping[str, NDArray[Any]] | None" = None) -> Overview:
    """That of data/raw. `labels`: those of each split, where they are not divided as there."""
    found = raw.description
    labels = labels or {split: own for split, own in raw.labels.items()}  # noqa: C416 - whose keys are any texts
    given, names = found["input"], found["class_names"]
    rows = given["kind"] == "table"
    facts = [("licence", found["licence"])]
    facts += [("rows" if rows else "images", _listed({split: len(own) for split, own in labels.items()}))]
    if found["left_out"]:
        facts.append(("left out", f"{found['left_out']:,} that could not be read"))
    facts += _source_facts(raw)
    strips: list[Strip] = []
    columns: list[Histogram] = []
    counts = count_classes(labels, names) if names else None
    if given["kind"] == "images":
        facts.insert(2, ("one image", _described(given)))
        shown = shown_classes(labels, names)
        chosen = choose_examples(raw.labels["train"], shown, given["shape"])
        images = {name: raw.images["train"][index] for name, index in chosen.items()}
        strips = draw_strips({names[name]: own for name, own in images.items()}, given["low"], given["high"])
    else:
        columns = draw_columns(raw.tables["train"], raw.labels["train"], names)
        facts.insert(2, ("one row", f"{len(given['columns'])} columns, and {given['target']} to predict"))
    return Overview(
        found["name"], found["title"], facts, counts, strips, columns[:MOST_COLUMNS],
        max(0, len(columns) - MOST_COLUMNS),
    )  # fmt: skip


def _source_facts(raw: "Raw") -> list[tuple[str, str]]:
    facts = []
    if source := raw.description["source"]:
        size = source["bytes"] / 1e6
        facts.append(("files", f"{source['files']:,}, {size:,.1f} MB, SHA-256 {source['sha256'][:16]}…"))
    if origins := raw.description["origins"]:
        facts.append(("from", ", ".join(origins)))
    return [*facts, *raw.description["facts"].items()]


def _described(given: "ImagesInput") -> str:
    height, width, channels = given["shape"]
    colours = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    return f"{height} × {width}, {colours}, {given['low']:g} … {given['high']:g}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in counts.items())


def shown_classes(labels: "Mapping[str, NDArray[Any]]", names: Sequence[str]) -> list[int]:
    """The classes that the page shows, ascending: all, or the largest and the smallest ones."""
    if len(names) <= MOST_CLASSES:
        return list(range(len(names)))
    sizes = sum(np.bincount(own, minlength=len(names)) for own in labels.values())
    order = np.argsort(-np.asarray(sizes), kind="stable").tolist()
    return sorted({*order[: MOST_CLASSES // 2], *order[-(MOST_CLASSES // 2) :]})


def count_classes(labels: "Mapping[str, NDArray[Any]]", names: Sequence[str]) -> Counts:
    """How many of each class each split has."""
    counted = {split: np.bincount(own, minlength=len(names)).tolist() for split, own in labels.items()}
    totals = [sum(own[index] for own in counted.values()) for index in range(len(names))]
    shown = shown_classes(labels, names)
    rows = [(names[one], [own[one] for own in counted.values()], totals[one] / max(1, *totals)) for one in shown]
    return Counts(list(counted), rows, len(names) - len(shown))


def choose_examples(
    labels: "NDArray[Any]", shown: Sequence[int], shape: Sequence[int]
) -> "dict[int, NDArray[np.int64]]":
    """By class the indices, ascending, of those that are shown: evenly from all of them, as many as the page has room
    for."""
    of_each = {one: own for one in shown if len(own := np.flatnonzero(labels == one))}
    height, width = _small_side(shape, len(of_each))
    most = max(1, min(MOST_EXAMPLES, PIXELS // (height * width * max(1, len(of_each)))))
    return {one: own[np.unique(np.linspace(0, len(own) - 1, most).astype(int))] for one, own in of_each.items()}


def _small_side(shape: Sequence[int], classes: int) -> tuple[int, int]:
    height, width = shape[:2]
    longest = OF_MANY if classes > MANY_CLASSES else LONGEST_SIDE
    factor = min(1.0, longest / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def draw_strips(images: "Mapping[str, NDArray[Any]]", low: float, high: float) -> list[Strip]:
    """Of each class its images (k, height, width, channels) side by side."""
    from PIL import Image

    strips = []
    for name, own in images.items():
        side = _small_side(own.shape[1:3], len(images))
        small = [resized(as_bytes(image, low, high), side) for image in own]
        gap = np.full((side[0], GAP, own.shape[3]), 255, np.uint8)
        row = np.concatenate([part for image in small for part in (image, gap)][:-1], axis=1)
        if row.shape[2] != 3:
            row = np.rint(row.mean(axis=2)).astype(np.uint8)
        content = io.BytesIO()
        if row.ndim == 3:
            Image.fromarray(row).save(content, "JPEG", quality=85, subsampling=0)
        else:
            Image.fromarray(row).save(content, "PNG", optimize=True)
        kind = "jpeg" if row.ndim == 3 else "png"
        factor = max(1, round(SHORTEST_SHOWN / min(side)))
        uri = f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
        strips.append(Strip(name, len(own), uri, row.shape[1] * factor, row.shape[0] * factor))
    return strips


def draw_columns(columns: Columns, labels: "NDArray[Any]", class_names: Sequence[str]) -> list[Histogram]:
    """The target, if it is a number, and each column."""
    drawn = [] if class_names else [_numbers(f"{columns.target} (to predict)", labels)]
    for name, values in columns.values.items():
        drawn.append(_numbers(name, values) if isinstance(values, np.ndarray) else _texts(name, values))
    return drawn


def _numbers(name: str, values: "NDArray[Any]") -> Histogram:
    known = values[np.isfinite(values)]
    if not len(known):
        return Histogram(name, "no value", True, [])
    counts, edges = np.histogram(known, BINS if known.min() < known.max() else 1)
    lacking = _missing(len(values) - len(known), len(values))
    text = f"{known.min():.6g} … {known.max():.6g}, median {np.median(known):.6g}{lacking}"
    names = [f"{low:.6g} … {high:.6g}" for low, high in pairwise(edges)]
    return Histogram(name, text, True, _bars(list(zip(names, counts.tolist(), strict=True))))


def _texts(name: str, values: Sequence[str | None]) -> Histogram:
    counts: dict[str, int] = {}
    for one in values:
        if one is not None:
            counts[one] = counts.get(one, 0) + 1
    most = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_BARS]
    text = f"{len(counts):,} different values{_missing(len(values) - sum(counts.values()), len(values))}"
    return Histogram(name, text, False, _bars(most))


def _missing(count: int, of: int) -> str:
    return f", {count / of:.1%} missing" if count else ""


def _bars(counts: Sequence[tuple[str, int]]) -> list[Bar]:
    largest = max(count for _, count in counts) if counts else 1
    return [Bar(name, count, count / largest) for name, count in counts]

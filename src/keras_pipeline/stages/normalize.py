"""The stage normalize: raw images, or the rows of a table, to training, validation and test arrays, and the scaling."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.config import tasks
from keras_pipeline.config.params import Normalize, Params, refuse_params
from keras_pipeline.core import files, process
from keras_pipeline.core.errors import DataError
from keras_pipeline.data import splits
from keras_pipeline.data.encoding import TableInput, count_unseen, encode, feature_names, fit_encoding
from keras_pipeline.data.scaling import Scaling, fit_columns, fit_features, fit_scaling
from keras_pipeline.data.splits import Indices, Split
from keras_pipeline.data.statistics import ImageInput, Statistics, things, write_statistics
from keras_pipeline.sources.raw import Raw, read_description, read_raw

MOST_BYTES = 4 * 2**30
"""Of the features of a table, which are in memory at a time."""


@dataclass(frozen=True)
class _Data:
    """What the splits of the source become: of each all inputs, images as they are or features that are scaled, and
    what is to be answered; what an input is; the scalings of inputs and numbers."""

    splits: Mapping[str, Split]
    input: ImageInput | TableInput
    scaling: Scaling
    class_names: list[str]
    target: Scaling | None = None


def normalize_dataset(params: Params, raw: Path, normalized: Path, page: Path | None = None) -> None:
    """Write {train,validation,test}_{images,labels}.npy (of a table features, of a number targets) and, last,
    statistics.json.

    Images are as the dataset has them, (n, height, width, channels), and are scaled when batches are made; labels int64
    (n,): 1 for the positive class and 0 for the rest, if there is one. Features are float32 (n, features), targets
    float32 (n,), both scaled. All that is fitted is fitted on the training split only. Raises DataError when a raw file
    is not the one that fetch wrote, or of another dataset than the params say, ParamsError where more is asked for than
    there is. `page`: where the page about the dataset is to be, if anywhere; the same data give the same bytes.
    """
    with files.lock_folder(normalized.parent):
        recorded, settings = read_description(raw), params.normalize
        if recorded["name"] != params.fetch.dataset:
            raise DataError(
                f"{raw}: holds the dataset {recorded['name']}, the params say fetch.dataset: {params.fetch.dataset}. "
                "Run `dvc repro normalize`, which fetches it first, or `keras-pipeline fetch`."
            )
        with process.time_part("data"):
            made = read_raw(raw)
            chosen = _divide(made, settings, raw)
            data = (_rows if made.tables else _images)(made, chosen["train"], settings, raw)
            parts = {name: data.splits[_source(name, made)] for name in chosen}
            targets = {name: part.targets[chosen[name]] for name, part in parts.items()}
            _check_targets(targets, data, raw)
            duplicates = splits.count_overlap(data.splits["train"].inputs, data.splits["test"].inputs)
        digests: dict[str, str] = {}
        for name, part in parts.items():
            with process.time_part("write"):
                blocks = splits.read_blocks(part.inputs, chosen[name])
                digests |= splits.write_split(normalized, name, blocks, targets[name])
        classes = len(data.class_names)
        statistics: Statistics = {
            "dataset": recorded["name"],
            "title": recorded["title"],
            "licence": recorded["licence"],
            "source": recorded["source"],
            "facts": recorded["facts"],
            "normalize": settings.model_dump(),
            "task": tasks.select_task(recorded["class_names"], settings.positive_class).name,
            "input": data.input,
            "shape": list(data.splits["train"].inputs.shape[1:]),
            "class_names": data.class_names,
            "drawing": recorded["drawing"],
            "preparation": recorded["preparation"],
            "scaling": data.scaling.constants(),
            "target": data.target.constants() if data.target else None,
            "images": {name: len(own) for name, own in chosen.items()},
            "class_counts": {
                name: np.bincount(own, minlength=classes).tolist() for name, own in targets.items() if classes
            },
            "test_images_also_in_train": duplicates,
            "sha256": digests,
        }
        write_statistics(normalized, statistics)
        if page:
            with process.time_part("page"):
                given: Mapping[Any, NDArray[Any]] = made.labels
                labels = {name: given[_source(name, made)][own] for name, own in chosen.items()}
                _write_page(page, made, labels)
    sizes = ", ".join(f"{count:,} {name}" for name, count in statistics["images"].items())
    print(f"normalize: {recorded['name']}, {sizes} {things(statistics)}, scaling {data.scaling.name}")
    if division := _told(made):
        print(f"normalize: {division}")
    if statistics["task"] == "binary":
        print(f"normalize: {data.class_names[1]} against {_rest(data.class_names)}: 1 and 0")
    print(f"normalize: {duplicates} of the test {things(statistics)} are also in the training file")
    if data.input["kind"] == "table":
        for column, count in count_unseen(data.input["columns"], made.tables["test"].values).items():
            print(f"normalize: {column}: {count:,} of the test rows have a value that no training row has")


def _write_page(page: Path, made: Raw, labels: Mapping[str, NDArray[Any]]) -> None:
    from keras_pipeline.inspection.overview import overview_of_raw
    from keras_pipeline.inspection.page import write_page

    write_page(page, overview_of_raw(made, labels))


def _rest(class_names: list[str]) -> str:
    return "the rest" if class_names[0] == f"not {class_names[1]}" else class_names[0]


def _source(split: str, made: Raw) -> str:
    """The split of the source that this one is of."""
    return split if split in made.labels else "train"


def _divide(made: Raw, settings: Normalize, raw: Path) -> dict[str, Indices]:
    """Which inputs of their source each split has: that of validation is the source's own, or by times or groups, or
    the same share of every class, also where one of them is against the rest."""
    classes = len(made.description["class_names"])
    labels = made.labels["train"] if classes else np.zeros(len(made.labels["train"]), np.int64)
    train, validation, left = np.arange(len(labels)), np.empty(0, np.int64), None
    if "validation" in made.labels:
        validation, left = np.arange(len(made.labels["validation"])), len(train)
    elif made.times is not None:
        train, validation = splits.latest_split(made.times, settings.validation_share)
        left = len(train)
    elif made.groups is not None:
        train, validation = splits.grouped_split(labels, made.groups, settings.validation_share, settings.split_seed)
        left = len(train)
    refuse_params(settings.size_faults(len(labels), classes or 1, left))
    if left is None:
        train, validation = splits.stratified_split(labels, settings.validation_share, settings.split_seed)
    if not len(train) or not len(validation):
        lacking = "training" if len(validation) else "validation"
        raise DataError(
            f"{raw}: none of {len(labels)} examples is left for {lacking}, by times or groups. Expected: two groups at "
            "least, or more examples. Use another normalize.validation_share, or take `splits` out of the dataset file."
        )
    if settings.training_images != "all":
        train = train[splits.stratified_part(labels[train], settings.training_images, settings.split_seed)]
    return {"train": train, "validation": validation, "test": np.arange(len(made.labels["test"]))}


def _told(made: Raw) -> str:
    """How the validation split came about, where not by normalize.validation_share of every class."""
    if "validation" in made.labels:
        return "the validation split is the dataset's own, so normalize.validation_share and split_seed change nothing"
    if made.times is not None:
        return "the validation split are the latest of the training file, so normalize.split_seed changes nothing there"
    return "no group is in both the training and the validation split" if made.groups is not None else ""


def _check_targets(targets: Mapping[str, NDArray[Any]], data: _Data, raw: Path) -> None:
    """Raise DataError where a training or test split has nothing to tell apart, which would show after the training
    only: of two classes but one, or one number throughout."""
    for name in ("train", "test"):
        own = targets[name]
        if len(data.class_names) > 2 or np.ptp(own) > 0:
            continue
        if data.target:
            raise DataError(
                f"{raw}: all {len(own)} {name} targets are the same. Expected: two different ones at least. Use "
                "another dataset."
            )
        called = "images" if data.input["kind"] == "images" else "rows"
        raise DataError(
            f"{raw}: all {len(own)} {name} {called} are of the class '{data.class_names[own[0]]}'. Expected: "
            "both classes. Use another normalize.positive_class, split_seed or training_images."
        )


def _classes(made: Raw, settings: Normalize) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """The names of the classes that are told apart, and the labels, or numbers, of each split of the source."""
    names, labels = list(made.description["class_names"]), {str(name): own for name, own in made.labels.items()}
    if names and (positive := tasks.find_class(names, settings.positive_class)) is not None:
        names = [f"not {names[positive]}", names[positive]]
        labels = {name: (own == positive).astype(np.int64) for name, own in labels.items()}
    return names, labels


def _images(made: Raw, training: Indices, settings: Normalize, raw: Path) -> _Data:
    given: Any = made.description["input"]
    blocks = splits.read_blocks(made.images["train"], training)
    scaling = fit_scaling(settings.scaling, blocks, float(given["low"]), float(given["high"]))
    names, labels = _classes(made, settings)
    parts = {str(name): Split(images, labels[name]) for name, images in made.images.items()}
    return _Data(parts, given, scaling, names)


def _rows(made: Raw, training: Indices, settings: Normalize, raw: Path) -> _Data:
    """A number to predict is scaled as numbers among the features are, each column by constants of its own."""
    given: Any = made.description["input"]
    try:
        columns = fit_encoding(made.tables["train"].values, training, given["missing"])
    except DataError as fault:
        raise DataError(f"{raw / 'train.csv'}: {fault}") from None
    count = sum(len(own) for own in made.labels.values())
    if 4 * count * len(feature_names(columns)) > MOST_BYTES:
        raise DataError(
            f"{raw}: {count:,} rows of {len(feature_names(columns)):,} features are more than {MOST_BYTES / 2**30:.0f} "
            "GiB. Expected: at most so much. Leave categories with many values out of `columns`, or take fewer rows."
        )
    names, labels = _classes(made, settings)
    target = None
    with np.errstate(all="ignore"):
        scaling = fit_features(settings.scaling, columns, made.tables["train"].values, training)
        if not names:
            target = fit_columns(settings.scaling, made.labels["train"][training])
        parts: dict[str, Split] = {}
        for name, table in made.tables.items():
            path = raw / f"{name}.csv"
            own = labels[name] if target is None else target.apply(labels[name])
            if target:
                infinite = ~np.isfinite(own) | (not np.isfinite(target.divisor))
                _refuse_infinite(path, given["target"], labels[name], infinite, settings)
            features = np.empty((len(own), len(scaling.offset)), np.float32)
            for rows, encoded in _encoded(path, columns, table.values, len(own)):
                features[rows] = scaling.apply(encoded)
                for at, feature in enumerate(feature_names(columns)):
                    infinite = ~np.isfinite(features[rows, at]) | (not np.isfinite(scaling.divisor[at]))
                    _refuse_infinite(path, feature, encoded[:, at], infinite, settings, rows.start)
            parts[name] = Split(features, own)
    described: TableInput = {
        "kind": "table",
        "columns": columns,
        "target": given["target"],
        "missing": given["missing"],
        "missing_values": given["missing_values"],
        "features": feature_names(columns),
    }
    return _Data(parts, described, scaling, names, target)


def _encoded(path: Path, columns: Any, values: Mapping[str, Any], count: int) -> Iterator[tuple[slice, NDArray[Any]]]:
    """The features of some rows after the other, not scaled yet."""
    for start in range(0, count, splits.BLOCK):
        rows = slice(start, start + splits.BLOCK)
        try:
            yield rows, encode(columns, {name: own[rows] for name, own in values.items()}, start)
        except DataError as fault:
            raise DataError(f"{path}: {fault}") from None


def _refuse_infinite(
    path: Path, column: str, numbers: NDArray[Any], infinite: NDArray[np.bool_], settings: Normalize, before: int = 0
) -> None:
    """Raise DataError for the first number that the scaling does not leave finite, after so many rows `before`."""
    for row in np.flatnonzero(infinite)[:1]:
        raise DataError(
            f"{path}: line {before + row + 2}: {column}: got {numbers[row]}, which normalize.scaling: "
            f"{settings.scaling} makes no finite number of 32 bits. Expected: one. Use another scaling, or mend that "
            "number in the dataset."
        )

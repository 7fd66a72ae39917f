"""The stage normalize: raw images, or the rows of a table, to scaled training, validation and test arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.config import tasks
from keras_pipeline.config.params import Normalize, Params, refuse_params
from keras_pipeline.core import files, process
from keras_pipeline.core.errors import DataError
from keras_pipeline.data.scaling import Scaling, fit_columns, fit_scaling, read_blocks
from keras_pipeline.data.splits import count_overlap, stratified_part, stratified_split, write_split
from keras_pipeline.data.statistics import Statistics, write_statistics
from keras_pipeline.sources.raw import Raw, read_description, read_raw


@dataclass(frozen=True)
class _Data:
    """Of train and test all inputs and labels; which of them each split has, and how they are scaled."""

    inputs: Mapping[str, NDArray[Any]]
    labels: Mapping[str, NDArray[Any]]
    chosen: Mapping[str, NDArray[np.int64]]
    scaling: Scaling
    class_names: list[str]
    target: Scaling | None = None


def normalize_dataset(params: Params, raw: Path, normalized: Path) -> None:
    """Write {train,validation,test}_{images,labels}.npy (of a table features and targets) and, last, statistics.json.

    Images are float32 (n, height, width, 1), labels int64 (n,): 1 for the positive class and 0 for the rest, if
    there is one. Features are float32 (n, features), targets float32 (n,). All constants of scalings come from the
    training split only. Raises DataError when a raw file is not the one that fetch wrote, or of another dataset than
    the params say, ParamsError where more is asked for than there is.
    """
    with files.lock_folder(normalized.parent):
        recorded = read_description(raw)
        if recorded["name"] != params.fetch.dataset:
            raise DataError(
                f"{raw}: holds the dataset {recorded['name']}, the params say fetch.dataset: {params.fetch.dataset}. "
                "Run `dvc repro normalize`, which fetches it first, or `keras-pipeline fetch`."
            )
        with process.time_part("data"):
            made = read_raw(raw)
            data = (_rows if made.tables else _images)(made, params.normalize, raw)
            _check_targets(data, raw)
        task = tasks.select_task(recorded["class_names"], params.normalize.positive_class)
        duplicates = count_overlap(data.inputs["train"], data.inputs["test"])
        digests: dict[str, str] = {}
        for name, chosen in data.chosen.items():
            source = "test" if name == "test" else "train"
            with process.time_part("write"):
                pixels, labels = read_blocks(data.inputs[source], chosen), data.labels[source][chosen]
                digests |= write_split(normalized, name, pixels, labels, data.scaling)
        statistics: Statistics = {
            "dataset": recorded["name"],
            "normalize": params.normalize.model_dump(),
            "task": task.name,
            "shape": list(data.inputs["train"].shape[1:]) + ([] if made.tables else [1]),
            "class_names": data.class_names,
            "scaling": data.scaling.constants(),
            "target": data.target.constants() if data.target else None,
            "images": {split: len(chosen) for split, chosen in data.chosen.items()},
            "class_counts": _class_counts(data),
            "test_images_also_in_train": duplicates,
            "sha256": digests,
        }
        write_statistics(normalized, statistics)
    sizes = ", ".join(f"{count:,} {split}" for split, count in statistics["images"].items())
    print(f"normalize: {recorded['name']}, {sizes} {task.things}, scaling {data.scaling.name}")
    if task.name == "binary":
        print(f"normalize: {data.class_names[1]} against the rest: 1 and 0")
    print(f"normalize: {duplicates} of the test {task.things} are also in the training file")


def _check_targets(data: _Data, raw: Path) -> None:
    """Raise DataError where a training or test split has nothing to tell apart, which would show after the training
    only: of two classes but one, or one number throughout."""
    for split in ("train", "test"):
        targets = data.labels[split][data.chosen[split]]
        if len(data.class_names) > 2 or np.ptp(targets) > 0:
            continue
        if data.target:
            raise DataError(
                f"{raw}: all {len(targets)} {split} targets are the same. Expected: two different ones at least. Use "
                "another dataset."
            )
        raise DataError(
            f"{raw}: all {len(targets)} {split} images are of the class '{data.class_names[targets[0]]}'. Expected: "
            "both classes. Use another normalize.positive_class, split_seed or training_images."
        )


def _images(made: Raw, settings: Normalize, raw: Path) -> _Data:
    """Held out is the same share of every class, also where one of them is against the rest: the same images."""
    inputs: dict[str, NDArray[Any]] = {split: array[..., 0] for split, array in made.images.items()}
    labels: dict[str, NDArray[Any]] = {split: array.astype(np.uint8) for split, array in made.labels.items()}
    names = list(made.description["class_names"])
    chosen = _chosen(labels["train"], len(labels["test"]), len(names), settings)
    scaling = fit_scaling(settings.scaling, read_blocks(inputs["train"], chosen["train"]))
    if (positive := tasks.find_class(names, settings.positive_class)) is not None:
        name = names[positive]
        names = [f"not {name}", name]
        labels = {split: (own == positive).astype(np.uint8) for split, own in labels.items()}
    return _Data(inputs, labels, chosen, scaling, names)


def _rows(made: Raw, settings: Normalize, raw: Path) -> _Data:
    """The target is scaled as the features are, each column by constants of its own."""
    rows: dict[str, NDArray[Any]] = {
        split: np.column_stack([np.asarray(column) for column in own.values.values()] + [made.labels[split]])
        for split, own in made.tables.items()
    }
    names = [*made.tables["train"].values, made.tables["train"].target]
    inputs: dict[str, NDArray[Any]] = {split: np.ascontiguousarray(own[:, :-1]) for split, own in rows.items()}
    chosen = _chosen(np.zeros(len(rows["train"]), np.uint8), len(rows["test"]), 1, settings)
    training = rows["train"][chosen["train"]]
    with np.errstate(all="ignore"):
        target, scaling = (fit_columns(settings.scaling, part) for part in (training[:, -1], training[:, :-1]))
        labels: dict[str, NDArray[Any]] = {split: target.apply(own[:, -1]) for split, own in rows.items()}
        for split, own in rows.items():
            scaled = np.column_stack([scaling.apply(inputs[split]), labels[split]])
            scaled[:, ~np.isfinite([*scaling.divisor, target.divisor])] = np.nan  # then all would be 0
            for row, column in np.argwhere(~np.isfinite(scaled))[:1]:
                raise DataError(
                    f"{raw}/{split}.csv: line {row + 2}: {names[column]}: got {own[row, column]}, "
                    f"which normalize.scaling: {settings.scaling} makes {scaled[row, column]}. Expected: a number of "
                    "32 bits. Use another scaling, or mend that number in the dataset."
                )
    return _Data(inputs, labels, chosen, scaling, [], target)


def _chosen(labels: NDArray[np.uint8], tested: int, classes: int, settings: Normalize) -> dict[str, NDArray[np.int64]]:
    """Which inputs of the training file, and then of the test file, each split has."""
    refuse_params(settings.size_faults(len(labels), classes))
    train, validation = stratified_split(labels, settings.validation_share, settings.split_seed)
    if settings.training_images != "all":
        train = train[stratified_part(labels[train], settings.training_images, settings.split_seed)]
    return {"train": train, "validation": validation, "test": np.arange(tested)}


def _class_counts(data: _Data) -> dict[str, list[int]]:
    """Of each split, how many images each class has; of a table nothing."""
    if data.target:
        return {}
    return {
        split: np.bincount(
            data.labels["test" if split == "test" else "train"][chosen], minlength=len(data.class_names)
        ).tolist()
        for split, chosen in data.chosen.items()
    }

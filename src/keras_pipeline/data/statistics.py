"""statistics.json: what a folder of normalized arrays holds, as `normalize` writes it and all later stages read it."""

from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import Field, FiniteFloat, StringConstraints, TypeAdapter
from typing_extensions import TypedDict

from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError
from keras_pipeline.core.json_files import Count, Digest, Line, Name, Scalar, Size, read_json, refuse

NAME = "statistics.json"
FORMAT = 1
"""Of statistics.json. A change that an older reader would misread counts it up."""
SPLITS = ("train", "validation", "test")
Positive = Annotated[FiniteFloat, Field(gt=0)]
TaskName = Annotated[str, StringConstraints(pattern="^(classes|binary|regression)$")]


class ScalingConstants(TypedDict):
    """The fields of `scaling.Scaling`: of images and of one column two numbers, of a table two lists of them."""

    name: Line
    offset: FiniteFloat | list[FiniteFloat]
    divisor: Positive | list[Positive]


class DatasetDescription(TypedDict):
    """What a network learns from, and how it was scaled: a part of statistics.json, kept in the record of each run.

    `shape`: of one input; `class_names`: empty for a table; `scaling`, `target`: the fields of `scaling.Scaling`, None
    where no number is predicted; `images`: how many each split has; `sha256`: of each file of arrays.
    """

    dataset: Name
    task: TaskName
    shape: list[Size]
    class_names: list[Line]
    scaling: ScalingConstants
    target: ScalingConstants | None
    images: dict[str, Size]
    sha256: dict[Name, Digest]


class Statistics(DatasetDescription):
    """All of statistics.json. `normalize`: the params that made it; `class_counts`: images of each class, by split."""

    format: NotRequired[int]  # not written before format 1
    normalize: dict[str, Scalar]
    class_counts: dict[str, list[Count]]
    test_images_also_in_train: Count


DESCRIPTION = tuple(DatasetDescription.__annotations__)
STATISTICS = TypeAdapter(Statistics)


def write_statistics(folder: Path, statistics: Statistics) -> None:
    """Write statistics.json into the folder, atomically."""
    files.write_json(folder / NAME, {"format": FORMAT, **statistics})


def read_statistics(folder: Path, written_by: str = "normalize") -> Statistics:
    """The statistics.json of the folder. Raises DataError where it is missing, damaged, contradicts itself, or is of a
    newer version."""
    path = folder / NAME

    def known(value: Any) -> Any:
        if isinstance(value, dict) and value.get("format", FORMAT) not in range(1, FORMAT + 1):
            raise DataError(
                f"{path}: of format {value['format']!a}, which a newer version wrote. Expected: {FORMAT} at most. Run "
                "`dvc repro` to have it written again."
            )
        return value

    return read_json(path, STATISTICS, written_by, upgrade=known, check=_check_statistics)


def _check_statistics(statistics: Statistics) -> None:
    check_description(statistics)
    counts, images = statistics["class_counts"], statistics["images"]
    splits = sorted(SPLITS if statistics["class_names"] else ())
    if sorted(counts) != splits:
        refuse("class_counts", sorted(counts), f"those of {', '.join(splits) or 'no split, for it is a table'}")
    for split, own in counts.items():
        if len(own) != len(statistics["class_names"]) or sum(own) != images[split]:
            refuse(f"class_counts.{split}", own, f"{images[split]} images of {len(statistics['class_names'])} classes")


def check_description(dataset: DatasetDescription, place: str = "") -> None:
    """Raise ValueError where a description contradicts itself; `place` is what stands before its keys in the file."""
    names, shape, images = dataset["class_names"], dataset["shape"], dataset["images"]
    table = dataset["task"] == "regression"
    fitting = {"regression": not names, "binary": len(names) == 2, "classes": len(names) > 1}[dataset["task"]]
    if not fitting:
        refuse(f"{place}class_names", names, f"those of the task {dataset['task']}")
    if len(shape) != (1 if table else 3):
        refuse(f"{place}shape", shape, "the number of columns" if table else "height, width and channels")
    if (dataset["target"] is None) == table:
        refuse(f"{place}target", dataset["target"], "how the number is scaled" if table else "null")
    for key, columns in (("scaling", shape[0] if table else None), ("target", None)):
        constants: Any = dataset.get(key) or {}
        for name, value in constants.items():
            given = len(value) if isinstance(value, list) else None
            if name != "name" and given != columns:
                refuse(f"{place}{key}.{name}", value, f"{columns} numbers" if columns else "a number")
    if sorted(images) != sorted(SPLITS):
        refuse(f"{place}images", images, f"how many {', '.join(SPLITS)} have")
    kinds = ("features", "targets") if table else ("images", "labels")
    expected = [f"{split}_{kind}.npy" for split in SPLITS for kind in kinds]
    if sorted(dataset["sha256"]) != sorted(expected):
        refuse(f"{place}sha256", sorted(dataset["sha256"]), f"the files {', '.join(expected)}")


def describe_dataset(statistics: DatasetDescription) -> DatasetDescription:
    """The part that is kept in the record of a run."""
    description: Any = {key: statistics[key] for key in DESCRIPTION}  # type: ignore[literal-required]
    return description  # type: ignore[no-any-return]

"""statistics.json: what a folder of normalized arrays holds, as `normalize` writes it and all later stages read it."""

from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError

NAME = "statistics.json"
FORMAT = 1
"""Of statistics.json. A change that an older reader would misread counts it up."""


class DatasetDescription(TypedDict):
    """What a network learns from, and how it was scaled: a part of statistics.json, kept in the record of each run.

    `task`: "classes", "binary" or "regression"; `shape`: of one input; `class_names`: empty for a table; `scaling`,
    `target`: the fields of `scaling.Scaling`, None where no number is predicted; `images`: how many each split has;
    `sha256`: of each file of arrays.
    """

    dataset: str
    task: str
    shape: list[int]
    class_names: list[str]
    scaling: dict[str, Any]
    target: dict[str, Any] | None
    images: dict[str, int]
    sha256: dict[str, str]


class Statistics(DatasetDescription):
    """All of statistics.json. `normalize`: the params that made it; `class_counts`: images of each class, by split."""

    format: NotRequired[int]  # not written before format 1
    normalize: dict[str, Any]
    class_counts: dict[str, list[int]]
    test_images_also_in_train: int


DESCRIPTION = tuple(DatasetDescription.__annotations__)


def write_statistics(folder: Path, statistics: Statistics) -> None:
    """Write statistics.json into the folder, atomically."""
    files.write_json(folder / NAME, {"format": FORMAT, **statistics})


def read_statistics(folder: Path) -> Statistics:
    """The statistics.json of the folder. Raises DataError where it is missing, damaged, or of a newer version."""
    read: Statistics = files.read_json(folder / NAME, written_by="normalize", keys=(*DESCRIPTION, "normalize"))
    if (found := read.get("format", FORMAT)) not in range(1, FORMAT + 1):
        raise DataError(
            f"{folder / NAME}: of format {found}, which a newer version wrote. Expected: {FORMAT} at most. Run "
            "`dvc repro` to have it written again."
        )
    return read


def describe_dataset(statistics: DatasetDescription) -> DatasetDescription:
    """The part that is kept in the record of a run."""
    description: Any = {key: statistics[key] for key in DESCRIPTION}  # type: ignore[literal-required]
    return description  # type: ignore[no-any-return]

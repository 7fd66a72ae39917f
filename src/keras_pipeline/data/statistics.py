"""statistics.json: what a folder of normalized arrays holds, as `normalize` writes it and all later stages read it."""

from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, FiniteFloat, StringConstraints, TypeAdapter
from typing_extensions import TypedDict

from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError
from keras_pipeline.core.json_files import Count, Digest, Line, Name, Scalar, Size, read_json, refuse
from keras_pipeline.data.encoding import TableInput, check_table

NAME = "statistics.json"
FORMAT = 2
"""Of statistics.json. A change that an older reader would misread counts it up: until 1 images were scaled on disk."""
SPLITS = ("train", "validation", "test")
Positive = Annotated[FiniteFloat, Field(gt=0)]
TaskName = Annotated[str, StringConstraints(pattern="^(classes|binary|regression)$")]
PixelType = Literal["|u1", "<u2", "<f4"]
"""As NumPy writes it."""


class ScalingConstants(TypedDict):
    """The fields of `scaling.Scaling`: of images and of one column two numbers, of a table two lists of them."""

    name: Line
    offset: FiniteFloat | list[FiniteFloat]
    divisor: Positive | list[Positive]


class ImageInput(TypedDict):
    """What an image is: its shape (height, width, channels), the type and the ends of the range of a pixel."""

    kind: Literal["images"]
    shape: Annotated[list[Size], Field(min_length=3, max_length=3)]
    dtype: PixelType
    low: FiniteFloat
    high: FiniteFloat


class Drawing(TypedDict):
    """How images were made that a drawing is to look like: see `sources.kinds.kind.Drawing`."""

    box: Size
    centre: Literal["mass", "box"]
    dark_border: bool


class Source(TypedDict):
    """The files of the dataset: how many, their bytes, and the digest of their names and contents."""

    files: Count
    bytes: Count
    sha256: Digest


class DatasetDescription(TypedDict):
    """What a network learns from, and how it was scaled: a part of statistics.json, kept in the record of each run.

    `shape`: of one input of the network; `class_names`: empty where a number is predicted; `scaling`, `target`: the
    fields of `scaling.Scaling`, the second None where no number is predicted; `images`: how many each split has;
    `sha256`: of each file of arrays; `preparation`: how a picture becomes an image of the dataset, None where its
    source holds none; `source`: None of datasets that are computed, and in records of earlier versions; `facts`: what
    made the inputs, such as the version of a decoder.
    """

    dataset: Name
    title: Line
    licence: Line
    source: Source | None
    facts: dict[Line, Line]
    task: TaskName
    input: Annotated[ImageInput | TableInput, Field(discriminator="kind")]
    shape: list[Size]
    class_names: list[Line]
    drawing: Drawing | None
    preparation: dict[str, Any] | None
    scaling: ScalingConstants
    target: ScalingConstants | None
    images: dict[str, Size]
    sha256: dict[Name, Digest]


class Statistics(DatasetDescription):
    """All of statistics.json. `normalize`: the params that made it; `class_counts`: images of each class, by split, of
    a number to predict none."""

    format: NotRequired[int]  # written by write_statistics
    normalize: dict[str, Scalar]
    class_counts: dict[str, list[Count]]
    test_images_also_in_train: Count


DESCRIPTION = tuple(DatasetDescription.__annotations__)
STATISTICS = TypeAdapter(Statistics)


def is_table(dataset: DatasetDescription) -> bool:
    """Whether its inputs are rows of a table, else images."""
    return dataset["input"]["kind"] == "table"


def things(dataset: DatasetDescription) -> Literal["images", "rows"]:
    """What its examples are called."""
    return "rows" if is_table(dataset) else "images"


def array_names(*, table: bool, number: bool) -> tuple[str, str]:
    """What the arrays of a split are called: its inputs, and what is to be answered, a number or a class."""
    return "features" if table else "images", "targets" if number else "labels"


def write_statistics(folder: Path, statistics: Statistics) -> None:
    """Write statistics.json into the folder, atomically."""
    files.write_json(folder / NAME, {"format": FORMAT, **statistics})


def read_statistics(folder: Path, written_by: str = "normalize") -> Statistics:
    """The statistics.json of the folder. Raises DataError where it is missing, damaged, contradicts itself, or is of
    another version."""
    path = folder / NAME

    def known(value: Any) -> Any:
        if isinstance(value, dict) and (found := value.get("format", 1)) != FORMAT:
            which = "an earlier" if found == 1 else "a newer"
            raise DataError(
                f"{path}: of format {found!a}, which {which} version wrote. Expected: {FORMAT}. Run "
                "`dvc repro` to have it written again."
            )
        return value

    return read_json(path, STATISTICS, written_by, upgrade=known, check=_check_statistics)


def _check_statistics(statistics: Statistics) -> None:
    check_description(statistics)
    counts, images, names = statistics["class_counts"], statistics["images"], statistics["class_names"]
    splits = sorted(SPLITS if names else ())
    if sorted(counts) != splits:
        refuse("class_counts", sorted(counts), f"those of {', '.join(splits) or 'no split, for there are no classes'}")
    for split, own in counts.items():
        if len(own) != len(names) or sum(own) != images[split]:
            refuse(f"class_counts.{split}", own, f"{images[split]} {things(statistics)} of {len(names)} classes")


def check_description(dataset: DatasetDescription, place: str = "") -> None:
    """Raise ValueError where a description contradicts itself; `place` is what stands before its keys in the file."""
    names, shape, images, given = dataset["class_names"], dataset["shape"], dataset["images"], dataset["input"]
    table, number = is_table(dataset), dataset["task"] == "regression"
    fitting = {"regression": not names, "binary": len(names) == 2, "classes": len(names) > 1}[dataset["task"]]
    if not fitting:
        refuse(f"{place}class_names", names, f"those of the task {dataset['task']}")
    if given["kind"] == "table":
        check_table(given, f"{place}input")
        if shape != [len(given["features"])]:
            refuse(f"{place}shape", shape, f"[{len(given['features'])}], the number of features")
    elif shape != given["shape"]:
        refuse(f"{place}shape", shape, f"{given['shape']}, height, width and channels")
    elif not given["low"] < given["high"]:
        refuse(f"{place}input.low", given["low"], "less than high")
    if (dataset["target"] is None) == number:
        refuse(f"{place}target", dataset["target"], "how the number is scaled" if number else "null")
    for key, columns in (("scaling", shape[0] if table else None), ("target", None)):
        constants: Any = dataset.get(key) or {}
        for name, value in constants.items():
            count = len(value) if isinstance(value, list) else None
            if name != "name" and count != columns:
                refuse(f"{place}{key}.{name}", value, f"{columns} numbers" if columns else "a number")
    if sorted(images) != sorted(SPLITS):
        refuse(f"{place}images", images, f"how many {', '.join(SPLITS)} have")
    expected = [f"{split}_{kind}.npy" for split in SPLITS for kind in array_names(table=table, number=number)]
    if sorted(dataset["sha256"]) != sorted(expected):
        refuse(f"{place}sha256", sorted(dataset["sha256"]), f"the files {', '.join(expected)}")


def describe_dataset(statistics: DatasetDescription) -> DatasetDescription:
    """The part that is kept in the record of a run."""
    description: Any = {key: statistics[key] for key in DESCRIPTION}  # type: ignore[literal-required]
    return description  # type: ignore[no-any-return]

"""What every dataset file says, whatever its kind, and what every kind gives: the examples of the dataset.

A kind is one module beside this one: a subclass of `Kind` with its own keys, `read`, and `recognize`, by which
`keras-pipeline dataset add` knows it. NumPy, Pillow and pyarrow are imported where they are used: params.yaml is
checked without them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, Self

from pydantic import Field, StringConstraints, model_validator

from keras_pipeline.strict_yaml.faults import Block, KeyedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from keras_pipeline.sources.source_files import SourceFiles

Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,1000}$")]
LabelValue = Annotated[int, Field(ge=-(2**63), lt=2**63)] | Line
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Split = Literal["train", "validation", "test"]
MOST_CLASSES = 10_000
MOST_EXAMPLES = 50_000_000
"""Of a dataset: what is said of each of them is in memory at a time."""
LONGEST_SIDE = 4096
"""Of a prepared image, in pixels."""


class Splits(Block):
    """How a dataset is divided, where its files are not."""

    test: Annotated[float, Field(ge=0.01, le=0.5)] = 0.2
    """share that becomes the test split where the dataset has none: the same examples, however much is added"""
    column: Line | None = None
    """the column that says train, validation or test"""
    group: Line | None = None
    """what is never divided, such as a person: a column; of a folder a regular expression, whose first group it is"""
    time: Line | None = None
    """the column by which the latest examples are the test split, and the latest but those the validation split"""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.group and self.time:
            raise KeyedError(("time",), "by groups and by time at once, one of them would be divided. Use one of both.")
        return self


class Drawing(Block):
    """How the images were made that a drawing is to look like, light on black; of grey images only."""

    box: Annotated[int, Field(ge=1, le=LONGEST_SIDE)]
    """the longer side of what is on them, in pixels"""
    centre: Literal["mass", "box"]
    """what is put in the middle"""
    dark_border: bool
    """whether no image has a light border, for what is on it is a line"""


class Counts(Block):
    """How many examples each split has, where that is known before they are read."""

    train: Annotated[int, Field(ge=1)]
    validation: Annotated[int, Field(ge=1)] | None = None
    test: Annotated[int, Field(ge=1)] | None = None


class RemoteFile(Block):
    """A file of a mirror: what it must be. One digest at least; a file of unknown size has 64 MiB at most."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
    """behind the address of a mirror, and in the folder of downloads"""
    bytes: Annotated[int, Field(ge=1)] | None = None
    sha256: Digest | None = None
    md5: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] | None = None
    """where its authors publish no other"""
    content_bytes: Annotated[int, Field(ge=1, le=2**28)] | None = None
    """of a .gz: of what it holds, which is unpacked in memory"""
    content_sha256: Digest | None = None
    """of a .gz: of what it holds, whatever packed it"""

    @model_validator(mode="after")
    def _can_be_verified(self) -> Self:
        if not (self.sha256 or self.md5 or self.content_sha256):
            raise ValueError("nothing tells whether it is the right file. Add sha256, md5 or content_sha256.")
        if self.content_bytes and not self.name.endswith(".gz"):
            raise KeyedError(("name",), "only of a .gz is there a content. Use bytes and sha256.")
        if self.content_sha256 and not self.content_bytes:
            raise KeyedError(("content_bytes",), "missing. Add it: how much content_sha256 is of.")
        return self


class Download(Block):
    """Files of mirrors. They are asked in this order, after those in KERAS_PIPELINE_MIRRORS."""

    mirrors: tuple[Line, ...] = ()
    """addresses of folders (https://, http://, file://)"""
    files: Annotated[tuple[RemoteFile, ...], Field(min_length=1, max_length=1000)]


class Recorded(Block):
    """What `keras-pipeline dataset add` found. Other files are noticed, in one line, and used."""

    files: Annotated[int, Field(ge=1)]
    bytes: Annotated[int, Field(ge=1)]
    sha256: Digest
    """of the lines `SHA-256  path`, sorted by path"""


class Kind(Block):
    """The keys of every dataset file: datasets/NAME.yaml."""

    has_files: ClassVar[bool] = True
    """of `path` or of `download`, one of which it must have; the others are made"""

    kind: str
    """what the files are"""
    title: Line | None = None
    """the dataset in a few words"""
    licence: Line = "none stated"
    path: Line | None = None
    """a folder, a file, or an archive (.zip, .tar, .tar.gz), from the project's folder"""
    download: Download | None = None
    """files of mirrors, instead of `path`; one file alone may be an archive"""
    classes: Annotated[tuple[Line, ...], Field(max_length=MOST_CLASSES)] = ()
    """names of the classes, in the order of the network's outputs; none where a number is predicted"""
    label_values: Annotated[tuple[LabelValue, ...], Field(max_length=MOST_CLASSES)] = ()
    """what the files have for each class, in the order of `classes`; where it is not given, 0, 1, 2, … where labels are
    numbers, and the names of the classes where they are texts"""
    counts: Counts | None = None
    """how many examples each split has, where that is known: others are refused"""
    splits: Splits = Splits()
    """how it is divided, where its files are not"""
    drawing: Drawing | None = None
    """for the page on which one draws: how the images were made"""
    recorded: Recorded | None = None
    """what was there when the file was written"""

    @model_validator(mode="after")
    def _check_classes(self) -> Self:
        """Raise KeyedError for one class alone, where two are one, or not as many label values are given."""
        if len(self.classes) == 1:
            raise KeyedError(("classes",), "one class alone. Expected: two at least, or none.")
        for key, values in (("classes", self.classes), ("label_values", self.label_values)):
            first: dict[str, int] = {}
            for index, value in enumerate(values):
                if first.setdefault(str(value), index) < index:
                    raise KeyedError((key, index), f"{value!r} is {key}[{first[str(value)]}] already. Give each once.")
        if self.label_values and len(self.label_values) != len(self.classes):
            raise KeyedError(
                ("label_values",),
                f"{len(self.label_values)} values for {len(self.classes)} classes. "
                "Give one for each class, in the order of `classes`.",
            )
        return self

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        given = [key for key in ("path", "download") if getattr(self, key)]
        if len(given) > 1 or (given and not self.has_files):
            away = "one of path and download" if self.has_files else "it is computed, from no files"
            raise KeyedError((given[-1],), f"not here: {away}. Take it out.")
        if self.has_files and not given:
            raise KeyedError(("path",), "missing. Add it: a folder, a file or an archive; or `download`.")
        return self

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one input: (height, width, channels) of an image; (columns,) of a table, which may give more features."""
        raise NotImplementedError

    @property
    def is_table(self) -> bool:
        """Whether an input is a row of a table, and no image."""
        return len(self.input_shape) == 1

    @classmethod
    def recognize(cls, source: "SourceFiles") -> "Recognized | None":
        """What these files are, if they are of this kind: by names and headers, and a few examples at most."""
        raise NotImplementedError

    def read(self, source: "SourceFiles") -> "Examples":
        """All examples; of the inputs nothing is in memory yet. Raises DataError, with file and place."""
        raise NotImplementedError


class Images(Protocol):
    """Images that are read a block at a time, in the order of the examples.

    `dtype`: "|u1", "<u2" or "<f4"; `low`, `high`: the ends of the range of a pixel; `done`: where a run that was
    interrupted stopped, so many examples are not read again.
    """

    dtype: str
    low: float
    high: float

    def blocks(self, done: int = 0) -> "Iterator[tuple[NDArray[Any], list[str | None]]]":
        """(images (k, height, width, channels), for each None or, with `damaged: skip`, why it is left out)."""
        ...


@dataclass(frozen=True)
class Columns:
    """The columns of a table but for its target, in order: numbers float64 (n,), NaN where one is missing, or texts,
    None where one is missing."""

    values: "dict[str, NDArray[np.float64] | list[str | None]]"
    missing: str = "median"
    """the rule for missing values: see `data.missing.Missing`"""
    missing_values: tuple[str, ...] = ()
    """the texts that mean a missing value beside an empty one, of whoever asks the network later: in data/raw it is
    empty"""
    target: str = "target"
    """what the column is called that is predicted"""


@dataclass(frozen=True)
class Examples:
    """All examples of a dataset, in the order of its source.

    `labels`: int64 (n,), index into the classes, or float64 (n,), the numbers to predict. `places`: what each is
    called in messages: a file, "row 17". `splits`, `groups`: of each, where the source or the dataset file says so.
    `times`: float64 (n,). `facts`: what else belongs to the record, such as the version of the decoder.
    `preparation`: how any picture becomes one of these images, all that `sources.pictures` is to be told beside the
    picture, as JSON (size, fit, colour, background, …); None where the source holds no pictures, but numbers. It is the
    key `preparation` of data/raw/dataset.json, statistics.json, run.json's dataset and export.json: `predict` and the
    service prepare pictures by it, without the dataset file.
    """

    inputs: "Images | Columns"
    labels: "NDArray[Any]"
    places: Sequence[str]
    splits: "Sequence[Split] | None" = None
    groups: Sequence[str] | None = None
    times: "NDArray[np.float64] | None" = None
    facts: dict[str, str] = field(default_factory=dict)
    preparation: dict[str, Any] | None = None


@dataclass(frozen=True)
class Recognized:
    """What `dataset add` takes files for: the keys of the dataset file, and why, a sentence each."""

    keys: dict[str, Any]
    reasons: list[str]

"""Picture files: a folder a class, a CSV that says what each is, or Parquet that holds them."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from keras_pipeline.core.errors import DataError
from keras_pipeline.sources import pictures
from keras_pipeline.sources.kinds.kind import LONGEST_SIDE, Examples, Kind, Recognized, Split
from keras_pipeline.sources.picture_files import decoding, folders, recognition, tables
from keras_pipeline.sources.picture_files.tables import PictureTable
from keras_pipeline.sources.tables.divisions import splits_of_column, times_of_column
from keras_pipeline.strict_yaml.faults import KeyedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from keras_pipeline.sources.source_files import SourceFiles

Side = Annotated[int, Field(ge=1, le=LONGEST_SIDE)]


class PictureFiles(Kind):
    """Where there is no `table`, the folders are the classes; above them there may be train, validation and test.

    The examples are in the order of their files' names, whatever folders these are in; of a table in its own order.
    """

    kind: Literal["images"]
    """picture files"""
    size: tuple[Side, Side]
    """height and width that every picture is made to have, in pixels"""
    fit: pictures.Fit = "crop"
    """what happens to a picture of another shape: crop keeps its middle, pad keeps all of it and fills up, stretch
    distorts it"""
    colour: pictures.Colour = "rgb"
    """what every picture is made to have: rgb, or grey"""
    background: pictures.Background = "white"
    """what is seen where a picture is transparent, or filled up"""
    damaged: Literal["refuse", "skip"] = "refuse"
    """what happens where a picture cannot be read: it is an error, or it is left out and counted"""
    table: PictureTable | None = None
    """what says of each picture what it is, instead of folders"""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(height, width, channels)."""
        return self.preparation.shape

    @property
    def preparation(self) -> pictures.Preparation:
        """How a picture becomes an image of this dataset."""
        height, width = self.size
        return pictures.Preparation(height, width, self.fit, self.colour, self.background)

    @model_validator(mode="after")
    def _check_pictures(self) -> Self:
        """Raise KeyedError where keys contradict each other, or one is missing."""
        if self.path is None:
            raise KeyedError(("path",), "missing. Add it: the folder or the archive with the pictures.")
        if len(self.classes) < 2:
            raise KeyedError(("classes",), "two at least are needed. Name them in the order of the network's outputs.")
        for key in ("column", "time"):
            if self.table is None and getattr(self.splits, key) is not None:
                raise KeyedError(("splits", key), "folders have no columns. Remove the line, or name a `table`.")
        if self.table is None and self.splits.group is not None:
            try:
                groups = re.compile(self.splits.group).groups
            except (re.error, RecursionError, OverflowError) as error:
                raise KeyedError(("splits", "group"), f"no regular expression ({error}). Correct it.") from None
            if not groups:
                raise KeyedError(
                    ("splits", "group"), "it has no group. Put what is never divided in parentheses: (person[0-9]+)_."
                )
        return self

    @classmethod
    def recognize(cls, source: "SourceFiles") -> Recognized | None:
        """See `Kind`. Raises DataError where there are pictures, and nothing says what they are of."""
        return recognition.recognize_pictures(source)

    def read(self, source: "SourceFiles") -> Examples:
        """See `Kind`. No picture is opened yet. Raises DataError where one is of no class, or a class has none."""
        examples = self._from_folders(source) if self.table is None else self._from_table(source, self.table)
        there = set(examples.labels.tolist())
        empty = [name for index, name in enumerate(self.classes) if index not in there]
        if empty:
            raise DataError(
                f"{source.name}: no picture is of the class {folders.listed(empty)}. Expected: one at least of each. "
                "Add some, or remove the class from `classes` of the dataset file."
            )
        return examples

    def _from_folders(self, source: "SourceFiles") -> Examples:
        import numpy as np

        index_of = {str(value): index for index, value in enumerate(self.label_values or self.classes)}
        placed = folders.placed_pictures(source, index_of)
        names = [one.name for one in placed]
        labels = np.fromiter((index_of[one.folder] for one in placed), np.int64, len(placed))
        splits = [one.split for one in placed if one.split] or None
        places = [f"{source.name}/{name}" for name in names]
        return self._examples(
            folders.contents_of(source, names),
            labels,
            places,
            splits=splits,
            groups=self._groups_of_names(source, names),
        )

    def _groups_of_names(self, source: "SourceFiles", names: Sequence[str]) -> list[str] | None:
        if self.splits.group is None:
            return None
        pattern = re.compile(self.splits.group)
        groups: list[str] = []
        for name in names:
            match = pattern.search(name)
            if match is None or match[1] is None:
                raise DataError(
                    f"{source.name}/{name}: nothing in it matches {self.splits.group!a}. Expected: a group for "
                    "every picture. Correct `splits.group` of the dataset file, or rename the file."
                )
            groups.append(match[1])
        return groups

    def _from_table(self, source: "SourceFiles", table: PictureTable) -> Examples:
        files = tables.files_of_table(source, table)
        asked = {key: name for key in ("column", "group", "time") if (name := getattr(self.splits, key)) is not None}
        rows = tables.read_rows(source, files, table, list(asked.values()))
        columns = {key: rows.columns[name] for key, name in asked.items()}
        splits: list[Split] | None = rows.splits
        if "column" in columns:
            splits = splits_of_column(columns["column"], rows.place)
        contents, places = rows.pictures()
        return self._examples(
            contents, self._labels(rows), places, splits=splits,
            groups=_require_all(columns["group"], rows.place) if "group" in columns else None,
            times=times_of_column(columns["time"], rows.place) if "time" in columns else None,
        )  # fmt: skip

    def _labels(self, rows: tables.Rows) -> "NDArray[np.int64]":
        import numpy as np

        from keras_pipeline.sources.kinds.labels import ClassOf

        texts = rows.columns[rows.table.label]
        if not rows.numbers:
            return ClassOf(self).texts_to_classes(texts, rows.place)
        numbers: list[int] = []
        for index, text in enumerate(texts):
            if text is None or (text == "-1" and "-1" not in map(str, self.label_values)):
                raise DataError(
                    f"{rows.place(index)}: got {text or 'nothing'} for the label, which means none. Expected: a class. "
                    "Leave out such files by `table.files`: pictures without labels are for `keras-pipeline predict`."
                )
            numbers.append(int(text))
        if rows.class_names and not self.label_values:
            called = dict(enumerate(rows.class_names))
            return ClassOf(self).texts_to_classes([called.get(one, str(one)) for one in numbers], rows.place)
        return ClassOf(self).numbers_to_classes(np.array(numbers, np.int64), rows.place)

    def _examples(
        self,
        contents: Callable[[int], Iterator[bytes]],
        labels: "NDArray[np.int64]",
        places: Sequence[str],
        **divided: Any,
    ) -> Examples:
        decoded = decoding.DecodedPictures(contents, places, self.preparation, skip=self.damaged == "skip")
        facts, preparation = pictures.decoders(), asdict(self.preparation)
        return Examples(decoded, labels, places, facts=facts, preparation=preparation, **divided)


def _require_all(values: Sequence[str | None], place: Callable[[int], str]) -> list[str]:
    for index, value in enumerate(values):
        if value in (None, ""):
            raise DataError(f"{place(index)}: got nothing for the group. Expected: one for every picture.")
    return [value or "" for value in values]

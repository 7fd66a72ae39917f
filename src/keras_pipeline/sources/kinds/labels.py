"""Labels as files have them, to the classes of the dataset: one rule for every kind.

Where labels are texts (a CSV, names, folders), each is the name of a class; where they are numbers, they count the
classes from 0. Anything else is said by `label_values` of the dataset file. It never depends on which labels are there.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from keras_pipeline.core.errors import DataError
from keras_pipeline.sources.kinds.kind import Kind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHOWN = 60


class ClassOf:
    """The classes of labels, a block of labels at a time."""

    def __init__(self, kind: Kind) -> None:
        self.given = kind.label_values
        self.names = kind.label_values or kind.classes
        self.numbers = kind.label_values or range(len(kind.classes))
        self.by_name = {str(value): index for index, value in enumerate(self.names)}
        self.by_number = {str(value): index for index, value in enumerate(self.numbers)}

    def texts_to_classes(self, labels: Sequence[str | None], place: Callable[[int], str]) -> "NDArray[np.int64]":
        """int64 (n,). Raises DataError, beginning with `place` of its index, for the first that is no class's."""
        import numpy as np

        get = self.by_name.get
        found = np.fromiter((-1 if one is None else get(one, -1) for one in labels), np.int64, len(labels))
        if (wrong := np.flatnonzero(found < 0)).size:
            label = labels[wrong[0]]
            asks = _whole(label) and self.names is not self.given
            said = "no label" if label in (None, "") else f"the label {_shown(label)}"
            hint = " Are the labels numbers of classes? Then write them as `label_values`." if asks else ""
            raise _refused(place(int(wrong[0])), said, len(wrong), _listed(self.names), hint)
        return found

    def numbers_to_classes(self, labels: "NDArray[Any]", place: Callable[[int], str]) -> "NDArray[np.int64]":
        """As `texts_to_classes`, of whole numbers of any type of NumPy, also of those that floats are."""
        import numpy as np

        distinct, where = np.unique(
            labels.astype(np.uint8) if labels.dtype.kind == "b" else labels, return_inverse=True
        )
        values = distinct.tolist()
        if labels.dtype.kind == "f":  # also NaN and infinity, which are no whole numbers
            values = [int(value) if value.is_integer() else value for value in values]
        classes = [self.by_number.get(str(value), -1) for value in values]
        found = np.array(classes, np.int64)[where.reshape(-1)]
        if (wrong := np.flatnonzero(found < 0)).size:
            hint = ""
            if (values[0], values[-1]) == (1, len(self.numbers)):
                hint = f" They seem to count from 1: write `label_values: [1, 2, …, {values[-1]}]`."
            label = values[int(where.reshape(-1)[wrong[0]])]
            raise _refused(place(int(wrong[0])), f"the label {label}", len(wrong), _listed(self.numbers), hint)
        return found


def class_keys(distinct: Iterable[int | str]) -> dict[str, Any]:
    """`classes` and, where they need them, `label_values` of a dataset file, for all labels that there are: whole
    numbers, or texts."""
    values = set(distinct)
    numbers = {int(one): one for one in values if isinstance(one, int) or _whole(one)}
    ordered = [numbers[one] for one in sorted(numbers)] if len(numbers) == len(values) else sorted(values, key=str)
    keys: dict[str, Any] = {"classes": [str(value) for value in ordered]}
    if any(isinstance(value, int) for value in ordered) and ordered != list(range(len(ordered))):
        keys["label_values"] = ordered
    return keys


def _refused(place: str, label: str, count: int, expected: str, hint: str) -> DataError:
    more = f" (and {count - 1} more that are no class's)" if count > 1 else ""
    return DataError(
        f"{place}: got {label}{more}. Expected: {expected}. Correct the data, or `classes` and `label_values` of the "
        f"dataset file.{hint}"
    )


def _listed(values: Sequence[object]) -> str:
    texts = [_shown(value) if isinstance(value, str) else str(value) for value in values]
    if len(texts) <= 12:
        return f"one of {', '.join(texts)}"
    return f"one of {', '.join(texts[:5])}, … {texts[-1]} ({len(texts)} in all)"


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _whole(label: object) -> bool:
    return isinstance(label, str) and label.isascii() and label.isdecimal()

"""What the outputs of a network say, as CSV: a row for each input, with its place, and its label and probabilities or
its number."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.core.csv_files import safe_cell
from keras_pipeline.data.statistics import DatasetDescription
from keras_pipeline.data.task_spec import predicted_classes, task_spec_from


class Answers:
    """The table of answers to inputs of a dataset; `place`: the name of the column that says which input it is."""

    def __init__(self, dataset: DatasetDescription, place: str) -> None:
        self.names: Sequence[str] = dataset["class_names"]
        self.target = task_spec_from(dataset).target
        given = dataset["input"]
        number = given["target"] if given["kind"] == "table" else "number"
        of_classes = ["label", *(f"probability of {name}" for name in self.names)]
        self.columns = [place, *(of_classes if self.names else [f"predicted {number}"])]

    def header(self) -> str:
        """The names of the columns."""
        return _csv([self.columns])

    def rows(self, places: Iterable[str], outputs: NDArray[np.float32]) -> str:
        """A line for each: numbers with as many digits as tell them apart; a number that is predicted in its own
        units."""
        if self.target:
            numbers = self.target.undo(outputs)[:, 0].tolist()
            return _csv(zip(places, numbers, strict=True))
        labels = predicted_classes(outputs).tolist()
        shares = np.concatenate([1 - outputs, outputs], axis=1) if outputs.shape[1] == 1 else outputs
        return _csv(
            [place, self.names[label], *of_each] for place, label, of_each in zip(places, labels, shares, strict=True)
        )


def _csv(lines: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([map(safe_cell, line) for line in lines])
    return text.getvalue()

"""Who is in the test split, and stays there."""

from pathlib import Path

import numpy as np

from keras_pipeline.sources.assignment import assign
from keras_pipeline.sources.kinds.kind import Columns
from keras_pipeline.sources.kinds.table import Table
from keras_pipeline.sources.source_files import open_source


def in_test(folder: Path, rows: dict[str, str], classes: tuple[str, ...]) -> set[str]:
    """The rows of the test split, of a table whose rows are named and have a class each."""
    path = folder / "rows.csv"
    path.write_text("x,kind\n" + "".join(f"{x},{kind}\n" for x, kind in rows.items()))
    dataset = Table(kind="table", path=str(path), columns={"x": "category"}, target="kind", classes=classes)
    examples = dataset.read(open_source(path, str(path), folder))
    assert isinstance(examples.inputs, Columns)
    assigned = assign(dataset, examples, examples.inputs)
    return {list(rows)[index] for index in np.flatnonzero(assigned == 2).tolist()}


def test_no_row_of_a_table_moves_when_rows_and_classes_are_added(tmp_path: Path) -> None:
    """Not even where the new class stands before the others, which then have other numbers."""
    few = {f"row{number}": ("cat", "dog")[number % 2] for number in range(200)}
    more = {**{f"new{number}": "ant" for number in range(100)}, **few}
    before = in_test(tmp_path, few, ("cat", "dog"))
    after = in_test(tmp_path, more, ("ant", "cat", "dog"))
    assert 20 < len(before) < 60
    assert after & few.keys() == before
    assert after - few.keys()

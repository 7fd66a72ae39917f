"""How `evaluate` writes its tables."""

import csv
from pathlib import Path

from keras_pipeline.stages import evaluate


def test_no_name_in_a_table_is_a_formula_and_numbers_stay_numbers(tmp_path: Path) -> None:
    hostile = ["=1+1", "+1", "-1", "@SUM(A1)"]
    rows = [{"class": name, name: -1.5, "plain": "a-b"} for name in hostile[:1]]
    rows += [{"class": name, hostile[0]: -2, "plain": None} for name in hostile[1:]]
    evaluate.write_table(tmp_path / "table.csv", rows)
    with (tmp_path / "table.csv").open(newline="") as file:
        head, *lines = csv.reader(file)
    assert head == ["class", "'=1+1", "plain"]
    assert [line[0] for line in lines] == [f"'{name}" for name in hostile]
    assert [line[1:] for line in lines] == [["-1.5", "a-b"], *[["-2", ""]] * 3]

"""Words for splits, and times, as columns and file names have them."""

import pytest

from keras_pipeline.core.errors import DataError
from keras_pipeline.sources.tables import divisions


def place(index: int) -> str:
    return f"t.csv, line {index + 2}"


def test_words_of_columns_mean_splits() -> None:
    assert divisions.splits_of_column(["train", "Val", " test ", "dev", "TRAINING"], place) == [
        "train", "validation", "test", "validation", "train",
    ]  # fmt: skip


@pytest.mark.parametrize(("value", "shown"), [("holdout", "'holdout'"), ("", "nothing"), (None, "nothing")])
def test_another_word_is_refused_with_its_place(value: str | None, shown: str) -> None:
    with pytest.raises(DataError, match=rf"^t.csv, line 3: got {shown} for a split. Expected: train, validation or"):
        divisions.splits_of_column(["train", value], place)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("plain_text/test/0000.parquet", "test"),
        ("val.csv", "validation"),
        ("data/part-0.parquet", None),
        ("train/test-0.parquet", None),
        ("trains.csv", None),
    ],
)
def test_names_of_files_mean_splits(name: str, split: str | None) -> None:
    assert divisions.split_of_file(name) == split


def test_numbers_and_dates_are_times() -> None:
    assert divisions.times_of_column(["3", "-1.5e1"], place).tolist() == [3, -15]
    assert divisions.times_of_column(["1970-01-02", "1970-01-01 00:00:01"], place).tolist() == [86400, 1]
    assert divisions.times_of_column(["1970-01-01T01:00:00+01:00"], place).tolist() == [0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1", "soon"], "line 3: got 'soon' for a time"),
        (["1", None], "line 3: got nothing for a time"),
        (["nan"], "line 2: got 'nan' for a time"),
        (["1", "2026-03-01"], "line 3: got '2026-03-01', a time without a zone; t.csv, line 2 has a number"),
        (
            ["2026-03-01", "2026-03-01", "2026-03-01T00:00:00Z"],
            "line 4: .*, a time with a zone; t.csv, line 2 has a ",
        ),
    ],
)
def test_what_is_no_time_or_another_form_is_refused(values: list[str | None], message: str) -> None:
    with pytest.raises(DataError, match=message):
        divisions.times_of_column(values, place)

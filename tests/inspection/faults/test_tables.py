"""Columns that teach nothing, or too much."""

from typing import Any

import numpy as np
import pytest

from keras_pipeline.inspection.faults.tables import encoded_columns, find_column_faults, row_digests

N = 200
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 2, N)
CLEAN: dict[str, Any] = {
    "height": RANDOM.normal(LABELS, 1),
    "weight": RANDOM.normal(size=N),
    "colour": [["red", "green", None][one] for one in RANDOM.integers(0, 3, N)],
}


def faults(columns: dict[str, Any], labels: Any = LABELS) -> dict[str, list[list[str]]]:
    return {one.check: [list(group) for group in one.examples] for one in find_column_faults(columns, labels, "answer")}


def test_a_clean_table_has_none() -> None:
    assert faults(CLEAN) == {}
    assert faults(CLEAN, RANDOM.normal(size=N)) == {}


@pytest.mark.parametrize(
    ("column", "check"),
    [
        (np.full(N, 3.0), "constant_columns"),
        (["x"] * N, "constant_columns"),
        (np.full(N, np.nan), "constant_columns"),
        ([None] * N, "constant_columns"),
        (np.where(np.arange(N) % 3, np.nan, CLEAN["weight"]), "missing_values"),
        ([f"id-{index}" for index in range(N)], "identifiers"),
        (RANDOM.permutation(N) + 17.0, "identifiers"),
        (LABELS * 2.0, "gives_target_away"),
        (["no" if one else "yes" for one in LABELS], "gives_target_away"),
        (LABELS + RANDOM.uniform(0, 0.9, N), "gives_target_away"),
    ],
)
def test_a_planted_fault_is_found(column: Any, check: str) -> None:
    found = faults({**CLEAN, "planted": column})
    assert list(found) == [check]
    assert found[check][0][0].startswith("planted")


def test_a_column_that_gives_a_number_away() -> None:
    target = RANDOM.normal(size=N)
    assert list(faults({**CLEAN, "planted": 3 * target + 1}, target)) == ["gives_target_away"]


def test_a_column_alone_is_what_there_is_to_learn_from() -> None:
    target = RANDOM.normal(size=N)
    assert faults({"x": 2 * target}, target) == {}


def test_a_rare_class_is_not_given_away_by_any_column() -> None:
    rare = np.zeros(N, np.int64)
    rare[:2] = 1
    assert faults(CLEAN, rare) == {}


def test_rows_are_equal_where_all_their_values_are() -> None:
    columns = {"a": np.array([1.0, 1.0, np.nan, np.nan, 1.0]), "b": ["x", "x", None, None, ""]}
    digests = row_digests(columns, 5)
    same = [[bool((one == other).all()) for other in digests] for one in digests]
    assert same == [[i == j or {i, j} in ({0, 1}, {2, 3}) for j in range(5)] for i in range(5)]


def test_features_for_the_quick_network_are_numbers() -> None:
    features = encoded_columns({**CLEAN, "empty": np.full(N, np.nan), "constant": ["x"] * N}, np.arange(0, N, 2))
    assert features.dtype == np.float32
    assert features.shape == (N // 2, 2 + 3 + 1 + 1)
    assert np.isfinite(features).all()

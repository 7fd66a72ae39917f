"""Tables to features: scikit-learn's encoder, imputer and scaler are the oracles."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from keras_pipeline.core.errors import DataError
from keras_pipeline.core.json_files import check_type
from keras_pipeline.data import encoding
from keras_pipeline.data.encoding import (
    TableInput,
    check_table,
    count_unseen,
    decode,
    encode,
    feature_names,
    fit_encoding,
)
from keras_pipeline.data.scaling import fit_columns, fit_features

NUMBERS = st.one_of(st.none(), st.integers(-(10**6), 10**6).map(lambda whole: whole / 1000))
TEXTS = st.one_of(st.none(), st.sampled_from(["red", "Grün", "a=b", "0", "00", " ", "=1+1", "(other)"]))
ROWS = st.lists(st.tuples(NUMBERS, TEXTS, NUMBERS), min_size=2, max_size=30)
ALL = np.arange(3)


def columns_of(rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    first, texts, second = (list(column) for column in zip(*rows, strict=True))
    return {"x": np.array(first, np.float64), "colour": texts, "y": np.array(second, np.float64)}


def table(**columns: Any) -> dict[str, Any]:
    return {name: np.array(one, np.float64) if isinstance(one, tuple) else one for name, one in columns.items()}


@settings(max_examples=50, deadline=None)
@given(ROWS, ROWS, st.sampled_from(["median", "mean", "zero"]), st.sampled_from(["none", "unit", "standard"]))
def test_features_are_those_of_scikit_learn(training: list[Any], others: list[Any], rule: Any, scaling: str) -> None:
    whole = columns_of(training + others)
    rows = np.arange(len(training))
    if any(np.isnan(whole[name][rows]).all() for name in "xy"):
        with pytest.raises(DataError, match="no training row has a value"):
            fit_encoding(whole, rows, rule)
        return
    columns = fit_encoding(whole, rows, rule)
    found = encode(columns, whole)
    numbers = np.column_stack([whole["x"], whole["y"]])
    strategy = {"zero": "constant"}.get(rule, rule)
    imputer = SimpleImputer(strategy=strategy, fill_value=0.0, keep_empty_features=True).fit(numbers[rows])
    filled = imputer.transform(numbers)
    np.testing.assert_allclose(found[:, [0, -1]], filled, rtol=1e-12)
    texts = np.array(whole["colour"], object)[:, None]
    known = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(texts[rows])
    expected = known.transform(texts)
    assert known.categories_[0].tolist() == columns[1]["categories"] + [None] * (columns[1]["missing"] == "value")
    np.testing.assert_array_equal(found[:, 1:-2], expected)
    np.testing.assert_array_equal(found[:, -2], expected.sum(axis=1) == 0)  # what scikit-learn has no column for
    assert count_unseen(columns, whole).get("colour", 0) == found[:, -2].sum()
    scaled = fit_features(scaling, columns, whole, rows).apply(found)
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled[:, 1:-1], found[:, 1:-1])
    if scaling != "none":
        theirs = StandardScaler() if scaling == "standard" else MinMaxScaler()
        if all(np.ptp(filled[rows, column]) > 1e-3 for column in (0, 1)):
            wanted = theirs.fit(filled[rows]).transform(filled)
            np.testing.assert_allclose(scaled[:, [0, -1]], wanted, rtol=1e-4, atol=1e-4)


@given(ROWS, st.sampled_from(["median", "mean", "zero"]))
def test_what_is_kept_as_json_encodes_the_same(rows: list[Any], rule: Any) -> None:
    values = columns_of(rows)
    if any(np.isnan(values[name]).all() for name in "xy"):
        return
    columns = fit_encoding(values, np.arange(len(rows)), rule)
    described: TableInput = {
        "kind": "table", "columns": columns, "target": "t", "missing": rule, "missing_values": [""],
        "features": feature_names(columns),
    }  # fmt: skip
    read = json.loads(json.dumps(described))
    check_type(read, TypeAdapter(TableInput))
    check_table(read, "input")
    np.testing.assert_array_equal(encode(read["columns"], values), encode(columns, values))
    assert encode(columns, values).shape == (len(rows), len(described["features"]))


def test_only_the_training_rows_are_fitted() -> None:
    values = table(x=(1.0, 3.0, 1e9), colour=["red", "blue", "green"])
    columns = fit_encoding(values, np.array([0, 1]), "mean")
    assert feature_names(columns) == ["x", "colour=blue", "colour=red", "colour (other)"]
    assert encode(columns, table(x=(math.nan,), colour=["green"])).tolist() == [[2.0, 0, 0, 1]]
    assert encode(columns, table(x=(5.0,), colour=[None])).tolist() == [[5.0, 0, 0, 1]]
    assert fit_features("unit", columns, values, np.array([0, 1])).offset == [1.0, 0.0, 0.0, 0.0]


def test_features_say_what_they_were_made_of() -> None:
    columns = fit_encoding(table(x=(1.0, 3.0, 2.0), colour=["red", None, "blue"], y=(0.0, 0.0, 1.0)), ALL, "mean")
    features = encode(columns, table(x=(5.0, math.nan), colour=[None, "green"], y=(1.0, 2.0)))
    assert decode(columns, features) == {"x": [5.0, 2.0], "colour": ["(missing)", "(other)"], "y": [1.0, 2.0]}
    assert decode(columns, encode(columns, table(x=(1.0,), colour=["red"], y=(1.0,))))["colour"] == ["red"]


def test_a_missing_category_of_the_training_rows_is_a_value_of_its_own() -> None:
    columns = fit_encoding(table(colour=["red", None, "red"]), ALL, "median")
    assert feature_names(columns) == ["colour=red", "colour (missing)", "colour (other)"]
    assert encode(columns, table(colour=["red", None, "blue"])).tolist() == np.eye(3).tolist()


def test_numbers_alone_are_as_they_were_bit_for_bit() -> None:
    """As one array of all columns, of which the training rows are taken: the scaling of earlier versions."""
    random = np.random.default_rng(0)
    whole = random.normal(1e3, 7, (353, 11))
    rows = np.sort(random.permutation(353)[:301])
    for width in (1, 10):
        values = {f"c{index}": np.ascontiguousarray(whole[:, index]) for index in range(width)}
        columns = fit_encoding(values, rows, "median")
        for name in ("none", "unit", "symmetric", "standard"):
            before = fit_columns(name, whole[rows][:, :width])
            assert fit_features(name, columns, values, rows) == before
            np.testing.assert_array_equal(
                before.apply(np.ascontiguousarray(whole[:, :width])), before.apply(encode(columns, values))
            )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (table(x=(1.0, math.nan, 2.0)), "row 2: 'x': the value is missing"),
        (table(colour=["red", None, "red"]), "row 2: 'colour': the value is missing"),
        (table(x=(1.0, math.inf, 2.0)), "row 2: 'x': got inf. Expected: a finite number"),
        (table(other=(1.0, 2.0, 3.0)), r"the column 'x' \(and 1 more\) is missing. Expected: the columns x, colour"),
    ],
)
def test_what_is_not_accepted_is_named_with_its_row_and_column(values: Any, message: str) -> None:
    full = table(x=(1.0, 2.0, 3.0), colour=["red", "red", "blue"])
    columns = fit_encoding(full, ALL, "refuse")
    with pytest.raises(DataError, match=message):
        encode(columns, values if "other" in values else {**full, **values})


def test_too_many_categories_or_two_features_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"'a=b'. Expected: different names"):
        fit_encoding({"a": ["b", "b", "c"], "a=b": np.zeros(3)}, ALL, "median")
    monkeypatch.setattr(encoding, "MOST_CATEGORIES", 2)
    with pytest.raises(DataError, match=r"'a': 3 different values. Expected: 2 at most"):
        fit_encoding({"a": ["b", "d", "c"]}, ALL, "median")
    monkeypatch.setattr(encoding, "MOST_FEATURES", 2)
    with pytest.raises(DataError, match=r"give 3 features. Expected: 2 at most"):
        fit_encoding({"a": ["b", "c", "c"]}, ALL, "median")
    with pytest.raises(DataError, match="the mean of its numbers is inf"):
        fit_encoding(table(x=(1e308, 1e308, 1e308)), ALL, "mean")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": ["x"]}, "input.features"),
        ({"target": "x"}, "input.columns"),
        ({"missing": "refuse"}, r"input.columns\[0\].fill"),
        ({"columns": [], "features": []}, "input.columns"),
        ({"columns": [{"name": "c", "kind": "category", "categories": ["b", "a"], "missing": "other"}]}, "categories"),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(change: dict[str, Any], message: str) -> None:
    columns = fit_encoding(table(x=(1.0, 2.0, 3.0), colour=["red", "red", "blue"]), ALL, "median")
    described: Any = {
        "kind": "table", "columns": columns, "target": "t", "missing": "median", "missing_values": [],
        "features": feature_names(columns),
    }  # fmt: skip
    check_table(described, "input")
    with pytest.raises(ValueError, match=message):
        check_table({**described, **change}, "input")

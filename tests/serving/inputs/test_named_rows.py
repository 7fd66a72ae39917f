"""Rows whose columns go by their names: what is taken, and which value a refusal names."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_pipeline.data import encoding
from keras_pipeline.serving.http import openapi
from keras_pipeline.serving.http.answers import Refused
from keras_pipeline.serving.inputs import numbers
from keras_pipeline.serving.network import Network, load_network
from served_network import TABLE, write_network

COLUMNS: list[Any] = [
    {"name": "age", "kind": "number", "fill": 30.5},
    {"name": "city", "kind": "category", "categories": ["1", "Oslo", "Rome"], "missing": "value"},
]
MIXED: dict[str, Any] = {
    "kind": "table", "columns": COLUMNS, "target": "y", "missing": "median", "missing_values": [],
    "features": encoding.feature_names(COLUMNS),
}  # fmt: skip
SCALING = {"name": "unit", "offset": [0.0] * 6, "divisor": [10.0] * 6}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return load_network(write_network(tmp_path_factory.mktemp("mixed"), TABLE, input=MIXED, scaling=SCALING))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return load_network(write_network(tmp_path_factory.mktemp("plain"), TABLE))


def packed(network: Network, inputs: Any) -> list[list[float]]:
    raw = numbers.json_inputs(network, json.dumps({"inputs": inputs}).encode())
    rows: list[list[float]] = np.frombuffer(raw, "<f4").reshape(-1, *network.shape).tolist()
    return rows


def test_columns_go_by_name_gaps_are_filled_and_what_was_never_seen_is_other(mixed: Network) -> None:
    assert packed(mixed, {"city": "Rome", "age": 4, "id": 9}) == [[4, 0, 0, 1, 0, 0]]
    given = [{"age": None, "city": None}, {"age": 1e3, "city": "Paris"}, {"age": 0, "city": " Oslo "}]
    given += [{"age": 1, "city": 1}, {"age": 1, "city": ""}]
    assert packed(mixed, given) == [
        [30.5, 0, 0, 0, 1, 0], [1000, 0, 0, 0, 0, 1], [0, 0, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 1, 0],
    ]  # fmt: skip


def test_the_features_themselves_are_still_taken(mixed: Network, plain: Network) -> None:
    assert packed(mixed, [[4, 0, 0, 1, 0, 0]]) == packed(mixed, {"city": "Rome", "age": 4})
    assert packed(plain, {"a": 1, "c": 3, "b": 2}) == packed(plain, [1, 2, 3]) == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("inputs", "status", "said"),
    [
        ({"Age": 1, "city": "Oslo"}, 422, "inputs: the column 'age' is missing. Expected: it, or null. Is it"),
        ([{"age": 1, "city": "a"}, {"age": 1}], 422, "inputs[1]: the column 'city' is missing."),
        ([{"age": "7", "city": "a"}], 422, "inputs[0]['age']: got text. Expected: a number of 32 bits, or null."),
        ([{"age": 1e39, "city": "a"}], 422, "inputs[0]['age']: got 1e+39."),
        ([{"age": True, "city": "a"}], 422, "inputs[0]['age']: got true."),
        ({"age": 1, "city": 2}, 422, "inputs['city']: got 2. Expected: text, or null."),
        ({"age": 1, "city": ["a"]}, 422, "inputs['city']: got a list of 1."),
        ([{"age": 1, "city": "a"}, [1]], 422, "inputs[1]: got a list of 1. Expected: an object, as the others are."),
        ([{"age": 1, "city": "a"}] * 1025, 413, "Got 1025 inputs."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_row_and_column(mixed: Network, inputs: Any, status: int, said: str) -> None:
    with pytest.raises(Refused) as refused:
        packed(mixed, inputs)
    assert (refused.value.status, refused.value.message[: len(said)]) == (status, said)


def test_a_gap_is_refused_where_the_training_had_none(plain: Network) -> None:
    with pytest.raises(Refused) as refused:
        packed(plain, {"a": 1, "b": None, "c": 3})
    assert refused.value.message == "inputs['b']: got null. Expected: a number of 32 bits."


def test_the_description_has_the_columns_and_the_classes(mixed: Network, tmp_path: Path) -> None:
    classes = {"task": "classes", "class_names": ["x", "y", "z"], "outputs": 3, "output_activation": "softmax"}
    network = load_network(write_network(tmp_path, TABLE, input=MIXED, scaling=SCALING, **classes))
    for one in (mixed, network):
        operation = openapi.description(one, {"/predict": ("POST",)}, "1", False)["paths"]["/predict"]["post"]
        [_, row, *_] = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]["inputs"][
            "anyOf"
        ]
        assert row["properties"]["age"] == {"type": ["number", "null"]}
        assert row["properties"]["city"]["description"].startswith("known: 1, Oslo, Rome")
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]["properties"]["predictions"]
    assert answer["items"]["properties"]["label"]["enum"] == ["x", "y", "z"]

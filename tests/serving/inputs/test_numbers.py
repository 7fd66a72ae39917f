"""Bodies as raw inputs: what is taken, and which value a refusal names."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies

from exported import image_input
from keras_pipeline.serving.http.answers import Refused
from keras_pipeline.serving.inputs import numbers
from keras_pipeline.serving.network import Network, load_network
from served_network import CLASSES, TABLE, write_network

SMALL: dict[str, Any] = {**CLASSES, "input": image_input(2, 3)}


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return load_network(write_network(tmp_path_factory.mktemp("pixels"), SMALL))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return load_network(write_network(tmp_path_factory.mktemp("table"), TABLE))


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Network:
    shape = image_input(2, 3, 3)
    return load_network(write_network(tmp_path_factory.mktemp("colours"), SMALL, input=shape))


def refusal(network: Network, body: str | bytes) -> tuple[int, str]:
    with pytest.raises(Refused) as refused:
        numbers.json_inputs(network, body if isinstance(body, bytes) else body.encode())
    return refused.value.status, refused.value.message


def of_pixels(value: str) -> str:
    """One input whose fifth pixel is this."""
    return f'{{"inputs": [[1, 2, 3], [4, {value}, 6]]}}'


def test_one_input_and_many_are_taken(pixels: Network, colours: Network, table: Network) -> None:
    one = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert numbers.json_inputs(pixels, json.dumps({"inputs": one.tolist()}).encode()) == one.tobytes()
    many = np.stack([one, one + 200])
    assert numbers.json_inputs(pixels, json.dumps({"inputs": many.tolist()}).encode()) == many.tobytes()
    coloured = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    assert numbers.json_inputs(colours, json.dumps({"inputs": coloured.tolist()}).encode()) == coloured.tobytes()
    rows = np.array([[1, -2.5, 3e5], [0, 0, -0.0]], "<f4")
    assert numbers.json_inputs(table, json.dumps({"inputs": rows.tolist()}).encode()) == rows.tobytes()
    assert numbers.json_inputs(table, b'{"inputs": [1, 2, 3]}') == np.array([1, 2, 3], "<f4").tobytes()


DEEP: dict[str, tuple[str, float, list[Any], list[tuple[str, str]]]] = {
    "uint16": ("<u2", 4095.0, [0, 1, 2, 3, 256, 4095], [
        ("4096", "got 4096. Expected: a whole number from 0 to 4095"), ("0.5", "got 0.5"), ("-1", "got -1"),
        ("true", "got true"), ("70000", "got 70000"),
    ]),
    "float32": ("<f4", 1.0, [0, 0.25, 1.0, 0.5, 0.125, 0.75], [
        ("1.5", "got 1.5. Expected: a number from 0 to 1"), ("NaN", "got a number that is not finite"),
        ("-0.5", "got -0.5"), ("null", "got null"),
    ]),
    "17 levels": ("|u1", 16.0, [0, 1, 2, 3, 15, 16], [("17", "got 17. Expected: a whole number from 0 to 16")]),
}  # fmt: skip


@pytest.mark.parametrize("name", DEEP)
def test_pixels_of_any_type_are_taken_within_their_range(tmp_path: Path, name: str) -> None:
    dtype, high, values, wrong = DEEP[name]
    network = load_network(write_network(tmp_path, SMALL, input=image_input(2, 3, dtype=dtype, high=high)))
    taken = np.array(values, dtype).reshape(2, 3)
    assert numbers.json_inputs(network, json.dumps({"inputs": taken.tolist()}).encode()) == taken.tobytes()
    assert numbers.raw_inputs(network, taken.tobytes()) == 1
    for value, said in wrong:
        status, message = refusal(network, f'{{"inputs": [[0, 0, 0], [0, {value}, 0]]}}')
        assert (status, message[: len(said) + 14]) == (422, f"inputs[1][1]: {said}")
    above = taken.copy()
    above[1, 2] = high + 1
    with pytest.raises(Refused, match=r"input\[0\]\[1\]\[2\]: got "):
        numbers.raw_inputs(network, above.tobytes())


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("NaN", "a number that is not finite"), ("Infinity", "a number that is not finite"),
        ("-Infinity", "a number that is not finite"), ("1e400", "a number that is not finite"), ("-0", "-0.0"),
        ("true", "true"), ("false", "false"), ("null", "null"), ('"7"', "text"), ('"true"', "text"),
        ("[5]", "a list of 1"),
        ("{}", "an object"), ("5.0", "5.0"), ("0.5", "0.5"), ("256", "256"), ("-1", "-1"), ("1e2", "100.0"),
        ("9" * 300, "9" * 40 + "…"),
    ],
)  # fmt: skip
def test_a_value_that_is_no_pixel_is_named_with_its_index(pixels: Network, value: str, said: str) -> None:
    message = f"inputs[1][1]: got {said}. Expected: a whole number from 0 to 255."
    assert refusal(pixels, of_pixels(value)) == (422, message)
    several = f'{{"inputs": [[[1, 2, 3], [4, 5, 6]], [[1, 2, 3], [4, {value}, 6]]]}}'
    assert refusal(pixels, several) == (422, message.replace("inputs[1][1]", "inputs[1][1][1]"))


@pytest.mark.parametrize("value", ["NaN", "1e400", "1e39", "-1e39", "true", "null", '"7"', "[5]", "9" * 400])
def test_a_value_that_is_no_number_of_a_table_is_named_with_its_index(table: Network, value: str) -> None:
    status, message = refusal(table, f'{{"inputs": [[1, 2, 3], [1, {value}, 3]]}}')
    assert (status, message.split(":")[0]) == (422, "inputs[1][1]")
    assert message.endswith("Expected: a number of 32 bits.")


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ('{"inputs": [[1, 2], [4, 5]]}', "inputs[0]"), ('{"inputs": [[1, 2, 3]]}', "inputs"),
        ('{"inputs": [1, 2, 3, 4, 5, 6]}', "inputs[0]"), ('{"inputs": []}', "inputs"),
        ('{"inputs": [[]]}', "inputs[0]"),
        ('{"inputs": [[[1], [2], [3]], [[4], [5], [6]]]}', "inputs[0]"), ('{"inputs": null}', "inputs"),
        ('{"inputs": "text"}', "inputs"), ('{"inputs": {"a": 1}}', "inputs"), ('{"inputs": 7}', "inputs"),
        ('{"inputs": [[1, 2, 3], [4, 5]]}', "inputs[1]"), ('{"inputs": [[1, 2, 3], 7]}', "inputs[1]"),
        ('{"inputs": [[1, 2, 3], {}]}', "inputs[1]"), ('{"inputs": [[1, 2, 3], "abc"]}', "inputs[1]"),
        ('{"inputs": ["aaa", "bbb"]}', "inputs[0]"),
    ],
)  # fmt: skip
def test_another_shape_is_named_with_its_place(pixels: Network, body: str, place: str) -> None:
    status, message = refusal(pixels, body)
    assert (status, message.split(":")[0]) == (422, place)
    assert "Expected: a list of" in message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "No JSON, line 1 column 1: Expecting value."), (b"no", "line 1 column 1"),
        (b'{"inputs": [[1, 2', "line 1"),
        (b'\xef\xbb\xbf{"inputs": 1}', "BOM"), ('{"inputs": 1}'.encode("utf-16"), "Byte 0 is not UTF-8"),
        ('{"inputs": 1}'.encode("utf-16-le"), "No JSON"),
        (b'{"inputs": 1, "inputs": 2}', "'inputs' stands there twice"),
        (b'{"inputs": 1} 2', "Extra data"), (b'{"inputs": 01}', "No JSON"), (b"{'inputs': 1}", "No JSON"),
        (b'{"inputs": "\xff"}', "Byte 12 is not UTF-8"), (b'{"inputs": secret}', "line 1 column 12"),
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused_with_its_place_alone(pixels: Network, body: bytes, said: str) -> None:
    status, message = refusal(pixels, body)
    assert status == 400
    assert said in message
    assert "secret" not in message


@pytest.mark.parametrize("body", ["[1]", "7", '"a"', "null", "{}", '{"input": 1}', '{"inputs": 1, "other": 2}'])
def test_another_object_is_refused(pixels: Network, body: str) -> None:
    assert refusal(pixels, body)[0] == 422


@pytest.mark.parametrize("body", ["[" * 400_000, '{"inputs": ' + "[" * 10_000 + "]" * 10_000 + "}", '{"a":' * 100_000])
def test_json_that_is_deep_costs_little(pixels: Network, body: str) -> None:
    tracemalloc.start()
    status, message = refusal(pixels, body)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert (status, message[:30]) == (422, "The JSON is nested too deeply.")


def test_a_number_of_many_digits_costs_little(pixels: Network) -> None:
    assert refusal(pixels, of_pixels("9" * 500_000)) == (422, "A number has too many digits.")


@pytest.mark.parametrize(("count", "status"), [(1024, 0), (1025, 413), (10_000, 413)])
def test_a_request_has_so_many_inputs_at_most(pixels: Network, count: int, status: int) -> None:
    many = np.zeros((count, 2, 3), np.uint8)
    for read in (
        lambda: numbers.raw_inputs(pixels, many.tobytes()),
        lambda: numbers.json_inputs(pixels, json.dumps({"inputs": many.tolist()}).encode()),
    ):
        if not status:
            read()
            continue
        with pytest.raises(Refused) as refused:
            read()
        assert refused.value.status == status
        assert f"Got {count} inputs. Expected: 1024 at most" in refused.value.message


@pytest.mark.parametrize("size", [0, 1, 5, 7, 11])
def test_raw_bytes_are_whole_inputs(pixels: Network, size: int) -> None:
    with pytest.raises(Refused, match=f"Got {size} bytes. Expected: 6 for each input, 2 rows of 3 pixels."):
        numbers.raw_inputs(pixels, bytes(size))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_raw_numbers_of_a_table_are_finite(table: Network, wrong: float) -> None:
    rows = np.array([[1, 2, 3], [4, 5, wrong]], "<f4")
    with pytest.raises(Refused, match=r"input\[1\]\[2\]: got a number that is not finite."):
        numbers.raw_inputs(table, rows.tobytes())
    assert numbers.raw_inputs(table, rows[:1].tobytes()) == 1


def test_pixels_that_were_scaled_are_noticed(pixels: Network, table: Network) -> None:
    assert numbers.is_dark(pixels, bytes([0, 1, 0, 0, 1, 0]))
    assert not numbers.is_dark(pixels, bytes(6))
    assert not numbers.is_dark(pixels, bytes([0, 2, 0, 0, 1, 0]))
    assert not numbers.is_dark(table, bytes(12))


def test_a_body_has_room_for_one_input(tmp_path: Path, pixels: Network) -> None:
    assert numbers.most_bytes(pixels) == 2**20
    large = image_input(400, 400)
    assert numbers.most_bytes(load_network(write_network(tmp_path, SMALL, input=large))) == 1_280_000


VALUES = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.floats()
    | strategies.text(max_size=3),
    lambda inner: (
        strategies.lists(inner, max_size=4) | strategies.dictionaries(strategies.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=12,
)
ROWS = strategies.lists(strategies.lists(strategies.integers(-1, 256) | VALUES, min_size=2, max_size=4), max_size=3)


@given(
    value=VALUES | ROWS | strategies.lists(ROWS, max_size=3),
    cut=strategies.integers(0, 40),
    table_=strategies.booleans(),
)
@settings(max_examples=120, deadline=None, derandomize=True, database=None, suppress_health_check=[*HealthCheck])
def test_any_json_is_inputs_or_refused(pixels: Network, table: Network, value: Any, cut: int, table_: bool) -> None:
    network = table if table_ else pixels
    body = json.dumps({"inputs": value}).encode()
    for content in (body, body[: len(body) - cut]):
        given_ = tried(network, content)
        if isinstance(given_, Refused):
            assert given_.status in (400, 422)
        else:
            assert given_
            assert len(given_) % network.size == 0


def tried(network: Network, content: bytes) -> bytes | Refused:
    try:
        return numbers.json_inputs(network, content)
    except Refused as refused:
        return refused

"""The Open Inference Protocol: requests as its clients write them, in JSON and with binary tensors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exported import image_input
from keras_pipeline.serving.http.answers import Refused
from keras_pipeline.serving.http.inference_protocol import HEADER, InferenceRequest, model_metadata
from keras_pipeline.serving.network import Network, load_network
from served_network import CLASSES, TABLE, write_network

SMALL: dict[str, Any] = {**CLASSES, "input": image_input(2, 3)}
PIXELS = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
OUTPUTS = np.array([[0.25] * 10, [0.5] * 10], np.float32)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return load_network(write_network(tmp_path_factory.mktemp("pixels"), SMALL))


def tensor(**changes: Any) -> dict[str, Any]:
    made = {"name": "pixels", "shape": [2, 2, 3], "datatype": "UINT8", "data": PIXELS.ravel().tolist(), **changes}
    return {key: value for key, value in made.items() if value is not ...}


def body(*tensors: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": list(tensors or [tensor()]), **more}).encode()


def test_a_request_in_json(network: Network) -> None:
    for data in (PIXELS.ravel().tolist(), PIXELS.tolist()):
        asked = InferenceRequest(network, body(tensor(data=data), id="seven", parameters={"priority": 1}), {})
        assert asked.raw == PIXELS.tobytes()
    assert json.loads(asked.answer(OUTPUTS).body) == {
        "model_name": "mnist-mlp", "model_version": "a" * 12, "id": "seven",
        "outputs": [{"name": "outputs", "datatype": "FP32", "shape": [2, 10], "data": OUTPUTS.ravel().tolist()}],
    }  # fmt: skip


@pytest.mark.parametrize(
    "wish",
    [
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "outputs", "parameters": {"binary_data": True}}]},
    ],
)
def test_a_request_with_binary_tensors(network: Network, wish: dict[str, Any]) -> None:
    head = body(tensor(data=..., parameters={"binary_data_size": 12}), **wish)
    asked = InferenceRequest(network, head + PIXELS.tobytes(), {HEADER: str(len(head)).encode()})
    assert asked.raw == PIXELS.tobytes()
    answer = asked.answer(OUTPUTS)
    size = int(dict(answer.headers)[HEADER])
    [output] = json.loads(answer.body[:size])["outputs"]
    assert output == {"name": "outputs", "datatype": "FP32", "shape": [2, 10], "parameters": {"binary_data_size": 80}}
    assert np.array_equal(np.frombuffer(answer.body[size:], "<f4").reshape(2, 10), OUTPUTS)


def test_outputs_in_json_where_they_are_wanted_so(network: Network) -> None:
    outputs = [{"name": "outputs", "parameters": {"binary_data": False}}]
    asked = InferenceRequest(network, body(outputs=outputs, parameters={"binary_data_output": True}), {})
    assert "data" in json.loads(asked.answer(OUTPUTS).body)["outputs"][0]


def test_a_table(tmp_path: Path) -> None:
    network = load_network(write_network(tmp_path, TABLE))
    rows = {"name": "features", "shape": [1, 3], "datatype": "FP32", "data": [1, -2.5, 3e5]}
    assert InferenceRequest(network, body(rows), {}).raw == np.array([1, -2.5, 3e5], "<f4").tobytes()
    assert model_metadata(network)["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 3]}]


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b"no", 400, "No JSON"), (b"[]", 422, "Expected: an object"), (b"{}", 422, "inputs: Expected: one"),
        (body(tensor(), tensor()), 422, "inputs: Expected: one"), (body(tensor(name="x")), 422, "inputs[0].name"),
        (body(tensor(datatype="FP32")), 422, "inputs[0].datatype"), (body(tensor(shape=[2, 3, 2])), 422, "[n, 2, 3]"),
        (body(tensor(shape=[0, 2, 3])), 422, "inputs[0].shape"), (body(tensor(shape=[True, 2, 3])), 422, "shape"),
        (body(tensor(shape=[3, 2, 3])), 422, "Expected: 18 values"), (body(tensor(shape="x")), 422, "shape"),
        (body(tensor(shape=[10**9, 2, 3])), 413, "1024 at most"), (body(tensor(data=...)), 422, "inputs[0].data"),
        (body(tensor(data=[1.5] * 12)), 422, "inputs[0].data[0]: got 1.5"),
        (body(tensor(data=[True] * 12)), 422, "got true"),
        (body(tensor(data=[[1, 2, 3]] * 4)), 422, "inputs[0].data[0]"), (body(tensor(data="text")), 422, "data"),
        (body(tensor(other=1)), 422, "the key 'other'"), (body(other=1), 422, "the key 'other'"),
        (body(id=7), 422, "id is something else"), (body(parameters=[]), 422, "parameters is something else"),
        (body(outputs=[{"name": "x"}]), 422, "outputs[0]: another output"), (body(outputs=7), 422, "outputs is"),
        (body(tensor(parameters={"binary_data_size": 12})), 422, "no data"), (body() + b"x", 400, "No JSON"),
        (body(tensor(data=..., parameters={"binary_data_size": 12})), 422, "got 0 bytes behind the JSON"),
    ],
)  # fmt: skip
def test_another_request_is_refused(network: Network, content: bytes, code: int, said: str) -> None:
    with pytest.raises(Refused) as refused:
        InferenceRequest(network, content, {})
    assert (refused.value.status, said in refused.value.message) == (code, True), refused.value.message


@pytest.mark.parametrize("length", [b"-1", b"x", b"", b"99999", b"1e3", b"9" * 4000])
def test_a_length_that_does_not_fit_is_refused(network: Network, length: bytes) -> None:
    with pytest.raises(Refused) as refused:
        InferenceRequest(network, body(), {HEADER: length})
    assert refused.value.status == 400


def test_bytes_behind_the_json_are_wanted_or_refused(network: Network) -> None:
    head = body()
    with pytest.raises(Refused, match="Got 3 bytes behind the JSON"):
        InferenceRequest(network, head + b"xyz", {HEADER: str(len(head)).encode()})

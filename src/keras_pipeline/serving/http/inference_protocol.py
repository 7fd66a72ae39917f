"""The Open Inference Protocol, version 2: what clients of KServe, Triton or MLServer ask, also with binary tensors.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_pipeline.serving.http.answers import Answer, Refused, json_answer
from keras_pipeline.serving.inputs import numbers
from keras_pipeline.serving.network import Network

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER = b"inference-header-content-length"
"""How many bytes of a body are its JSON; behind it are the tensors."""
DATATYPES = {"u1": "UINT8", "u2": "UINT16", "f4": "FP32"}
REQUEST_KEYS = {"id", "parameters", "inputs", "outputs"}
TENSOR_KEYS = {"name", "shape", "datatype", "parameters", "data"}


def server_metadata(version: str) -> dict[str, Any]:
    """What is told at /v2."""
    return {"name": "keras-pipeline", "version": version, "extensions": ["binary_tensor_data"]}


def model_metadata(network: Network) -> dict[str, Any]:
    """What is told at /v2/models/NAME."""
    return {
        "name": network.name,
        "versions": [network.version],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": network.input_name, "datatype": datatype(network), "shape": [-1, *network.shape]}],
        "outputs": [{"name": "outputs", "datatype": "FP32", "shape": [-1, network.manifest["outputs"]]}],
    }


class InferenceRequest:
    """A request for /v2/models/NAME/infer, read. `raw`: its inputs; `answer`: its answer from the network's outputs."""

    def __init__(self, network: Network, body: bytes, headers: Mapping[bytes, bytes]) -> None:
        text, binary = _parts(body, headers.get(HEADER))
        request = numbers.read_object(text)
        _require_keys(request, REQUEST_KEYS, "the request")
        self._network = network
        self._id = _typed(request, "id", str, "")
        parameters = _typed(request, "parameters", dict, {})
        self._binary = parameters.get("binary_data_output") is True
        self._wanted = _typed(request, "outputs", list, None) is None or request["outputs"] != []
        for index, output in enumerate(request.get("outputs") or []):
            place = f"outputs[{index}]"
            if type(output) is not dict or output.get("name") != "outputs":
                raise Refused(422, f'{place}: another output. Expected: one with the name "outputs".')
            wish = _typed(output, "parameters", dict, {}, place).get("binary_data")
            self._binary = wish is True if wish is not None else self._binary
        tensors = _typed(request, "inputs", list, None)
        if not tensors or len(tensors) != 1 or type(tensors[0]) is not dict:
            raise Refused(422, f'inputs: Expected: one, with the name "{network.input_name}".')
        self.raw = self._tensor(tensors[0], text, binary)

    def _tensor(self, tensor: dict[str, Any], text: bytes, binary: bytes) -> bytes:
        network = self._network
        _require_keys(tensor, TENSOR_KEYS, "inputs[0]")
        if tensor.get("name") != network.input_name:
            raise Refused(422, f'inputs[0].name: another input. Expected: "{network.input_name}".')
        if tensor.get("datatype") != datatype(network):
            raise Refused(422, f'inputs[0].datatype: another type. Expected: "{datatype(network)}".')
        shape = tensor.get("shape")
        plain = type(shape) is list and all(type(one) is int for one in shape)
        if not plain or shape[1:] != [*network.shape] or shape[0] < 1:  # type: ignore[index]
            expected = ", ".join(map(str, ("n", *network.shape)))
            raise Refused(422, f"inputs[0].shape: another shape. Expected: [{expected}].")
        count: int = shape[0]  # type: ignore[index]
        size = _typed(tensor, "parameters", dict, {}, "inputs[0]").get("binary_data_size")
        if size is None:
            if type(tensor.get("data")) is not list:
                raise Refused(422, "inputs[0].data: none. Expected: a list of numbers.")
            if binary:
                raise Refused(422, f"Got {len(binary)} bytes behind the JSON. Expected: none without binary_data_size.")
            return numbers.tensor_values(network, tensor["data"], count, "inputs[0].data", numbers.is_doubtful(text))
        if "data" in tensor or type(size) is not int or size != len(binary) or size != count * network.size:
            raise Refused(
                422,
                f"inputs[0]: got {len(binary)} bytes behind the JSON. Expected: {count * network.size} for this shape, "
                "the same as binary_data_size, and no data.",
            )
        numbers.raw_inputs(network, binary)
        return binary

    def answer(self, outputs: "NDArray[np.float32]") -> Answer:
        """The answer, as JSON or with its tensor in binary as the request wants it."""
        answer: dict[str, Any] = {"model_name": self._network.name, "model_version": self._network.version}
        answer |= {"id": self._id} if self._id else {}
        tensor: dict[str, Any] = {"name": "outputs", "datatype": "FP32", "shape": [*outputs.shape]}
        if not self._wanted:
            return json_answer(answer | {"outputs": []})
        if not self._binary:
            return json_answer(answer | {"outputs": [tensor | {"data": outputs.ravel().tolist()}]})
        content = outputs.astype("<f4").tobytes()
        head = json.dumps(answer | {"outputs": [tensor | {"parameters": {"binary_data_size": len(content)}}]}).encode()
        return Answer(head + content, "application/octet-stream", 200, ((HEADER, b"%d" % len(head)),))


def datatype(network: Network) -> str:
    """Of the values of its input, as the protocol calls it."""
    return DATATYPES[network.kind.str[1:]]


def _parts(body: bytes, length: bytes | None) -> tuple[bytes, bytes]:
    """The JSON of a body and the bytes behind it."""
    if length is None:
        return body, b""
    if not length.isdigit() or len(length) > 9 or int(length) > len(body):
        raise Refused(400, f"Inference-Header-Content-Length does not fit. Expected: 0 to {len(body)}.")
    return body[: int(length)], body[int(length) :]


def _require_keys(value: dict[str, Any], known: set[str], place: str) -> None:
    if others := [key for key in value if key not in known]:
        raise Refused(422, f"{place}: the key {ascii(others[0])[:40]}. Expected: {', '.join(sorted(known))}.")


def _typed(value: dict[str, Any], key: str, kind: type, default: Any, place: str = "the request") -> Any:
    found = value.get(key, default)
    if found is not default and type(found) is not kind:
        names: dict[type, str] = {dict: "an object", list: "a list", str: "text"}
        raise Refused(422, f"{place}: {key} is something else. Expected: {names[kind]}.")
    return found

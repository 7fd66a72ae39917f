"""The bytes of a body as raw inputs of a network, or a refusal that says which value is wrong and what is expected.

A raw input is what the network takes: pixels, row by row, in the type of the dataset, or the values of a table's row as
float32.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_pipeline.serving.http.answers import Refused
from keras_pipeline.serving.inputs.named_rows import is_named, pack_rows
from keras_pipeline.serving.inputs.values import SHOWN, is_float32, named, refuse, require_few
from keras_pipeline.serving.network import Network

SMALLEST_LIMIT = 2**20
"""No body that is shorter is too long."""
DARK = "No pixel is above 1. Expected: pixels as the dataset has them, not scaled: the network does that itself."


def most_bytes(network: Network) -> int:
    """The limit of a body of raw bytes or JSON: there is always room for one input."""
    return max(SMALLEST_LIMIT, network.size * 8)


def raw_inputs(network: Network, body: bytes) -> int:
    """How many raw inputs these bytes are. Raises Refused where they are none, too many, or hold no number."""
    count, rest = divmod(len(body), network.size)
    if rest or not count:
        raise Refused(422, f"Got {len(body)} bytes. Expected: {network.size} for each input, {_described(network)}.")
    require_few(count)
    _require_range(network, body, count)
    return count


def json_inputs(network: Network, body: bytes) -> bytes:
    """The raw inputs in {"inputs": …}, one or a list of them, or rows with their columns by name. Raises Refused: 400
    for what is no JSON, 422 for other values, with their index."""
    value = read_object(body)
    if set(value) != {"inputs"}:
        others = ", ".join(ascii(key)[:SHOWN] for key in value) or "none"
        raise Refused(422, f'Got the keys {others}. Expected: "inputs" alone.')
    inputs = value["inputs"]
    if not network.of_images and is_named(inputs):
        return pack_rows(network, inputs, "inputs")
    one = _depth(inputs) == len(network.shape)
    return pack(network, [inputs] if one else inputs, "inputs", is_doubtful(body), one=one)


def pack(network: Network, inputs: Any, place: str, doubtful: bool, *, one: bool = False) -> bytes:
    """A list of inputs, each nested as the network's shape says, as raw ones. `place` is where it stands; `doubtful`:
    whether there may be anything but plain whole numbers. Raises Refused with the index of the first wrong value."""
    if isinstance(inputs, list):
        require_few(len(inputs))
        try:
            if inputs and not doubtful and _is_any_byte(network):
                return b"".join([_packed(each, network.shape) for each in inputs])
        except (TypeError, ValueError):
            pass
    return _pack_slowly(network, inputs, place, one=one)


def _packed(value: list[Any], shape: tuple[int, ...]) -> bytes:
    """Whole numbers 0 … 255, nested like this; TypeError or ValueError for all else but what `is_doubtful` finds."""
    if type(value) is not list or len(value) != shape[0]:
        raise ValueError
    if len(shape) == 1:
        return bytes(value)
    return b"".join([_packed(one, shape[1:]) for one in value])


def is_doubtful(body: bytes) -> bool:
    """Whether a body may hold what Python takes for whole numbers, and JSON does not: true, false, -0."""
    return b"-" in body or b"true" in body or b"false" in body


def _pack_slowly(network: Network, inputs: Any, place: str, *, one: bool) -> bytes:
    """`pack` for what may be wrong, and for tables: each value looked at."""
    flat: list[float] = []
    shape = (len(inputs), *network.shape) if isinstance(inputs, list) and inputs else (-1, *network.shape)

    def walk(value: Any, left: tuple[int, ...], where: str) -> None:
        if not left:
            _require_value(network, value, where)
            flat.append(value)
            return
        if type(value) is not list or (len(value) != left[0]):
            length = "one or more inputs" if left[0] < 0 else f"{left[0]} values"
            refuse(where, value, f"a list of {length}: {_described(network)}, or a list of such")
        for index, each in enumerate(value):
            walk(each, left[1:], f"{where}[{index}]")

    if one:
        walk(inputs[0], network.shape, place)
    else:
        walk(inputs, shape, place)
    return _raw(network, flat)


def _require_value(network: Network, value: Any, where: str) -> None:
    types = (int,) if network.kind.kind == "u" else (int, float)
    # Of float32 the range is that of its numbers: 3.40282356e38 is rounded to the last of them.
    if type(value) not in types or not (network.low <= value <= network.high or _is_last(network, value)):
        refuse(where, value, _expected(network))


def _expected(network: Network) -> str:
    """A value, in words."""
    if not network.of_images:
        return "a number of 32 bits"
    whole = "whole " if network.kind.kind == "u" else ""
    return f"a {whole}number from {network.low:g} to {network.high:g}"


def _raw(network: Network, values: Sequence[Any]) -> bytes:
    return np.array(values, network.kind).tobytes()


def _is_any_byte(network: Network) -> bool:
    """Whether every byte is a value."""
    return network.kind == np.uint8 and (network.low, network.high) == (0, 255)


def _is_last(network: Network, value: float) -> bool:
    """Whether a number of a table is rounded to a finite one of 32 bits."""
    return not network.of_images and is_float32(value)


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body; in it a number that JSON does not know is a float that is none, and -0 is one too.
    Raises Refused (400) for what is no JSON, a key that comes twice, or another value than an object."""
    try:
        text = body.decode()
    except UnicodeDecodeError as fault:
        raise Refused(400, f"Byte {fault.start} is not UTF-8. Expected: JSON in UTF-8.") from None
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_int=_whole if "-0" in text else None)
    except json.JSONDecodeError as fault:
        place = f"line {fault.lineno} column {fault.colno}: {fault.msg}" if fault.pos >= 0 else fault.msg
        raise Refused(400, f"No JSON, {place}.") from None
    except RecursionError:
        raise Refused(422, "The JSON is nested too deeply. Expected: one input, or a list of them.") from None
    except ValueError:  # a whole number with more digits than Python reads
        raise Refused(422, "A number has too many digits.") from None
    if type(value) is not dict:
        raise Refused(422, f"Got {named(value)}. Expected: an object.")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Refused(400, f"The key {ascii(twice)[:SHOWN]} stands there twice. Expected: each once.")
    return made


def _whole(text: str) -> float:
    return -0.0 if text == "-0" else int(text)


def _depth(value: Any) -> int:
    """How many lists are inside each other, at the beginning of each."""
    depth = 0
    while type(value) is list and value:
        depth, value = depth + 1, value[0]
    return depth


def _require_range(network: Network, body: bytes, count: int) -> None:
    if _is_any_byte(network):
        return
    values = np.frombuffer(body, network.kind).reshape(count, *network.shape)
    wrong = np.argwhere(~((network.low <= values) & (values <= network.high)))
    if len(wrong):
        index = "".join(f"[{one}]" for one in wrong[0])
        refuse(f"input{index}", values[tuple(wrong[0])].item(), _expected(network))


def _described(network: Network) -> str:
    """One input, in words."""
    given = network.manifest["input"]
    if given["kind"] == "images":
        colours = "" if given["channels"] == 1 else f" of {given['channels']} colours"
        type_ = {"|u1": "", "<u2": ", uint16", "<f4": ", float32"}[given["dtype"]]
        return f"{given['height']} rows of {given['width']} pixels{colours}{type_}"
    return f"{len(given['features'])} numbers, the features"


def is_dark(network: Network, raw: bytes) -> bool:
    """Whether these are pixels of which some are 1 and none is more: they were scaled, most likely."""
    return network.of_images and network.high > 1 and int(np.frombuffer(raw, network.kind).max()) == 1


def tensor_values(network: Network, data: Sequence[Any], count: int, place: str, doubtful: bool) -> bytes:
    """`count` inputs of the Open Inference Protocol: all values in one list, or nested as `pack` takes them."""
    require_few(count)
    if _depth(data) != 1:
        return pack(network, data, place, doubtful)
    size = math.prod(network.shape)
    if len(data) != count * size:
        refuse(place, data, f"{count * size} values, as the shape says")
    if _is_any_byte(network) and not doubtful:
        try:
            return bytes(data)
        except (TypeError, ValueError):
            pass
    for index, value in enumerate(data):
        _require_value(network, value, f"{place}[{index}]")
    return _raw(network, data)

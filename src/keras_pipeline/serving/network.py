"""One network as the service uses it: an export whose bytes were checked, in ONNX Runtime on one thread."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_pipeline.core.errors import ModelFileError
from keras_pipeline.data.splits import FINITE
from keras_pipeline.export.manifest import NAME, PATHS, Manifest, read_format, read_manifest

if TYPE_CHECKING:
    from numpy.typing import NDArray

TENSORS = {"|u1": "tensor(uint8)", "<u2": "tensor(uint16)", "<f4": "tensor(float)"}
"""How ONNX Runtime calls what NumPy calls so."""
LARGEST_INPUT = 2**22
"""So many bytes one input may have: the service holds many of them."""


@dataclass(frozen=True)
class Network:
    """What is asked. `name`, `version`: of MLflow's registry, or the dataset with the architecture and the first digits
    of the network's digest; `shape`, `kind`: of one raw input; `low`, `high`: the ends of the range of its values;
    `size`: its bytes."""

    manifest: Manifest
    name: str
    version: str
    shape: tuple[int, ...]
    kind: "np.dtype[Any]"
    low: float
    high: float
    size: int
    session: Any

    @property
    def of_images(self) -> bool:
        """Whether it takes images; else the rows of a table."""
        return self.manifest["input"]["kind"] == "images"

    @property
    def input_name(self) -> str:
        """Of the network's input: pixels, or features."""
        return "pixels" if self.of_images else "features"

    def outputs(self, raw: bytes) -> "NDArray[np.float32]":
        """What the network gives, float32 (n, outputs), for n raw inputs one behind the other."""
        inputs = np.frombuffer(raw, self.kind).reshape(-1, *self.shape)
        given: NDArray[np.float32] = self.session.run(["outputs"], {self.input_name: inputs})[0]
        return given

    def told(self) -> dict[str, str]:
        """Which network answered, for its answer."""
        return {"name": self.name, "version": self.version, "run": self.manifest["run"]}


@dataclass
class Models:
    """The networks that answer now; replaced as a whole when the registry names others. `problem`: why the champion is
    not the one that the registry names, None where it is."""

    champion: Network
    candidate: Network | None = None
    problem: str | None = None


def find_export(model: Path) -> Path:
    """The folder of exports that a user named: itself, or by the .onnx in it."""
    if model.suffix == ".onnx":
        if model.name != PATHS["onnx"]:
            raise ModelFileError(f"{model}: got another name. Expected: {PATHS['onnx']}, beside its {NAME}.")
        return model.parent
    return model


def load_network(folder: Path, name: str | None = None, version: str | None = None) -> Network:
    """The network exported as ONNX in `folder`. Raises ModelFileError where its files are missing, damaged or others
    than export.json says, or hold another network than it describes."""
    manifest = read_manifest(folder)
    contents = read_format(folder, manifest, "onnx")
    path = folder / PATHS["onnx"]
    if list(contents) != [PATHS["onnx"]]:
        raise ModelFileError(f"{folder / NAME}: formats.onnx: got {len(contents)} files. Expected: {PATHS['onnx']}.")
    given = manifest["input"]
    if given["kind"] == "images":
        shape: tuple[int, ...] = (given["height"], given["width"])
        shape += () if given["channels"] == 1 else (given["channels"],)
        kind: np.dtype[Any] = np.dtype(given["dtype"])
        low, high = given["low"], given["high"]
    else:
        shape, kind, low, high = (len(given["features"]),), np.dtype("<f4"), *FINITE
    size = math.prod(shape) * kind.itemsize
    if size > LARGEST_INPUT:
        raise ModelFileError(f"{folder / NAME}: an input of {size} bytes. Expected: {LARGEST_INPUT} at most.")
    network = Network(
        manifest, name or f"{manifest['dataset']}-{manifest['architecture']}",
        version or manifest["model_sha256"][:12], shape, kind, low, high, size, _session(path, contents[PATHS["onnx"]]),
    )  # fmt: skip
    _require_described(path, network)
    return network


def _session(path: Path, content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # A model may name other files for its weights: there are none in a folder that is not there.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", "/nonexistent")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as fault:  # of many kinds, all of ONNX Runtime
        said = str(fault).splitlines()[0][:200]
        raise ModelFileError(f"{path}: ONNX Runtime cannot load it: {said}. Run `dvc repro --force export`.") from None


def _require_described(path: Path, network: Network) -> None:
    """Raise ModelFileError where the file's network takes or gives something else than export.json says."""
    manifest = network.manifest
    expected = [
        (network.input_name, TENSORS[network.kind.str], [*network.shape]),
        ("outputs", "tensor(float)", [manifest["outputs"]]),
    ]
    found = [
        (one.name, one.type, [*one.shape][1:])
        for one in (*network.session.get_inputs(), *network.session.get_outputs())
    ]
    if found != expected:
        raise ModelFileError(f"{path}: takes and gives {found}. Expected: {expected}, as {NAME} says.")
    try:
        for count in (1, 3):
            given = network.outputs(bytes(network.size * count))
            if given.shape != (count, manifest["outputs"]) or not np.isfinite(given).all():
                raise ModelFileError(f"{path}: gives no {manifest['outputs']} numbers for inputs of zeros.")
    except ModelFileError:
        raise
    except Exception as fault:
        said = str(fault).splitlines()[0][:200]
        raise ModelFileError(f"{path}: ONNX Runtime cannot run it: {said}.") from None


def predictions(network: Network, outputs: "NDArray[np.float32]") -> list[Mapping[str, Any]]:
    """What the numbers of a network say, of each input: {"label", "probabilities"} (of each class, in the order of
    class_names), or {"value"} of a number."""
    if network.manifest["task"] == "regression":
        return [{"value": value} for value in outputs[:, 0].tolist()]
    names = network.manifest["class_names"]
    if outputs.shape[1] == 1:
        second = outputs[:, 0]
        labels, both = (second > 0.5).astype(int).tolist(), np.stack([1 - second, second], axis=1).tolist()
    else:
        labels, both = outputs.argmax(axis=1).tolist(), outputs.tolist()
    return [{"label": names[label], "probabilities": one} for label, one in zip(labels, both, strict=True)]

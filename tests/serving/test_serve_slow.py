"""`keras-pipeline serve` as a user has it: what it needs to start, what it answers, how it ends."""

import json
import os
import re
import signal
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from exported import image_input
from places import ROOT
from served import JSON, Served, ended, refused, serving
from served_network import write_network

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(write_network(tmp_path_factory.mktemp("network")), "--docs") as served:
        yield served


def test_raw_json_and_many_give_the_same_answer(service: Served) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    raw = service.predict(pixels.tobytes()).content
    assert service.predict(json.dumps({"inputs": pixels.tolist()}).encode(), JSON).content == raw
    assert len(raw["predictions"]) == 3
    one = service.predict(pixels[0].tobytes()).content["predictions"][0]
    assert one["label"] == raw["predictions"][0]["label"]
    assert np.allclose(one["probabilities"], raw["predictions"][0]["probabilities"], rtol=0, atol=1e-6)
    assert one["label"] == str(int(np.argmax(one["probabilities"])))
    assert raw["model"] == {"name": "mnist-mlp", "version": "a" * 12, "run": "b" * 32}
    assert "warning" not in raw
    assert (
        "Expected: pixels as the dataset has them"
        in service.predict((pixels > 127).astype(np.uint8).tobytes()).content["warning"]
    )


def test_it_tells_its_model_without_a_path(service: Served, tmp_path: Path) -> None:
    told = service.ask("/model").content
    assert told["model"]["manifest"]["input"] == image_input(28, 28)
    assert "formats" not in told["model"]["manifest"]
    assert (told["candidate"], told["problem"], told["neighbours"], told["drawn"]) == (None, None, False, False)


def test_it_ends_well(tmp_path: Path) -> None:
    for request in (signal.SIGTERM, signal.SIGINT):
        with serving(write_network(tmp_path)) as served:
            code, seconds = ended(served, request)
        assert code == 0
        assert seconds < 2


def test_the_packages_of_its_own_lock_are_enough(tmp_path: Path) -> None:
    """All others are hidden from it; and what it imports takes it a second and a half of the processor at most."""
    lock = (ROOT / "requirements-serve.lock").read_text()
    enough = {one.replace("_", "-") for one in re.findall(r"(?m)^([a-z0-9_-]+)==", lock)} | {
        "keras-pipeline",
        "setuptools",
    }
    modules = {
        module
        for module, names in metadata.packages_distributions().items()
        if not {name.lower().replace("_", "-") for name in names} & enough
    }
    assert {"tensorflow", "keras", "mlflow", "dvc", "pandas", "psutil", "filelock", "ruamel"} <= modules
    with serving(write_network(tmp_path), HIDDEN_PACKAGES=" ".join(modules)) as served:
        fields = Path(f"/proc/{served.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        assert (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") < 1.5
        assert served.predict(bytes(784)).status == 200
        assert served.predict(b"x", "image/png").status == 422
        assert served.ask("/metrics").status == 200


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    network = write_network(tmp_path)
    with serving(network) as served:
        code, said = refused(network, port=str(served.port))
    assert code == 6
    assert f"--host 127.0.0.1 --port {served.port}: " in said
    assert "Choose another one" in said


def test_another_host_needs_a_token(tmp_path: Path) -> None:
    network = write_network(tmp_path)
    code, said = refused(network, "--host", "0.0.0.0")
    assert code == 2
    assert "Expected: a token that they send, of 16 or more characters" in said
    code, said = refused(network, "--host", "0.0.0.0", KERAS_PIPELINE_SERVE_TOKEN="short")
    assert code == 2
    assert "KERAS_PIPELINE_SERVE_TOKEN: got 5 characters" in said

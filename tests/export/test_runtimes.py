"""Formats in processes of their own: all answers in order, whatever the process makes of them."""

from pathlib import Path

import numpy as np
import pytest

import made_networks
from keras_pipeline.core import limits
from keras_pipeline.core.errors import MachineError
from keras_pipeline.export import javascript, onnx_file, operations, runtimes
from made_networks import IMAGES

PIXELS = np.random.default_rng(2).integers(0, 256, (530, 28, 28), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports")
    chosen = made_networks.params(IMAGES)
    weights = made_networks.draw_weights(made_networks.all_layers(chosen, IMAGES), (28, 28, 1))
    steps = operations.list_operations(chosen.model, IMAGES, weights)
    onnx_file.write_onnx(folder / "model.onnx", steps, (28, 28))
    javascript.write_javascript(folder, steps, {})
    return folder


def test_answers_are_in_order_and_measured_however_many_processes_there_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = runtimes.ask_format("onnx", folder, PIXELS, 10, 1)
    assert one.outputs.shape == (530, 10)
    monkeypatch.setattr(limits, "available_cores", lambda: 3)
    several = runtimes.ask_format("javascript", folder, PIXELS, 10, int(1e9))
    np.testing.assert_allclose(several.outputs, one.outputs, atol=1e-6)
    for found in (one, several):
        assert 0 < found.latency_median <= found.latency_p99 < 1
        assert found.seconds > 0
        assert 20e6 < found.memory < 1e9


def test_one_input_is_enough(folder: Path) -> None:
    assert runtimes.ask_format("javascript", folder, PIXELS[:1], 10, int(1e9)).outputs.shape == (1, 10)


def test_a_process_that_is_killed_is_told(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(runtimes.process, "python", lambda *words: ["sh", "-c", "kill -9 $$"])
    with pytest.raises(MachineError, match=r"onnx: the process that runs it was ended by signal 9"):
        runtimes.ask_format("onnx", folder, PIXELS, 10, 1)


def test_what_a_runtime_refuses_is_a_bug(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no network")
    with pytest.raises(RuntimeError, match="the runtime of onnx failed"):
        runtimes.ask_format("onnx", tmp_path, PIXELS, 10, 1)

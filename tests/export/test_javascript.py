"""The two scripts: they work in any page, and refuse what is no input."""

from pathlib import Path

import numpy as np
import pytest
from py_mini_racer import JSEvalException, MiniRacer

import made_networks
from keras_pipeline.export import javascript, manifest, operations, runtimes
from made_networks import IMAGES

NAMES = ["</script><script>alert(1)</script>", "\u2028", "é"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports")
    chosen = made_networks.params(IMAGES)
    weights = made_networks.draw_weights(made_networks.all_layers(chosen, IMAGES), (28, 28, 1))
    javascript.write_javascript(
        folder, operations.list_operations(chosen.model, IMAGES, weights), {"class_names": NAMES}
    )
    return folder


def test_no_name_ends_the_script_that_holds_it(folder: Path) -> None:
    text = (folder / manifest.JAVASCRIPT_NETWORK).read_text(encoding="utf-8")
    assert "<" not in text
    assert text.isascii()
    with MiniRacer() as engine:
        engine.eval(text)
        assert engine.execute("KERAS_PIPELINE_NETWORK.class_names") == NAMES


def test_the_program_is_short_and_its_own() -> None:
    program = javascript.program().decode()
    assert 30 <= len(program.splitlines()) <= 100
    assert max(map(len, program.splitlines())) <= 120
    for word in ("import", "require", "fetch", "XMLHttpRequest", "eval", "Function(", "document", "window."):
        assert word not in program, word


def test_an_input_of_another_length_is_refused_and_none_is_changed(folder: Path) -> None:
    with MiniRacer() as engine:
        for script in (runtimes.BROWSER, *map(str.strip, (
            (folder / manifest.JAVASCRIPT_NETWORK).read_text(), (folder / manifest.JAVASCRIPT_PROGRAM).read_text()
        ))):  # fmt: skip
            engine.eval(script)
        engine.eval("globalThis.network = loadNetwork(KERAS_PIPELINE_NETWORK); 0")
        with pytest.raises(JSEvalException, match="RangeError: got 783 values; expected 784"):
            engine.eval("network.predict(new Uint8Array(783))")
        answer = "Array.from(network.predict(input))"
        engine.eval("globalThis.input = new Uint8Array(784).fill(200); 0")
        first = engine.execute(answer)
        assert engine.execute(answer) == first
        assert engine.execute("Array.from(input)") == [200] * 784
        assert np.sum(first) == pytest.approx(1)

"""A LiteRT file answers raw inputs, whatever its own numbers are."""

import numpy as np
import pytest

import made_litert
from keras_pipeline.export import tensorflow_runtimes


@pytest.mark.parametrize("count", [1, 3, 2001])
def test_raw_pixels_are_given_and_outputs_understood_by_scale_and_zero_point(
    count: int, capfd: pytest.CaptureFixture[str]
) -> None:
    raw = np.random.default_rng(0).integers(0, 10, (count, 2, 2), np.uint8)
    answer = tensorflow_runtimes.open_litert(made_litert.content())
    outputs = np.concatenate([answer(raw[:1]), answer(raw[1:])]) if count > 1 else answer(raw)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, made_litert.outputs(raw), atol=made_litert.OUTPUT[0] / 2)
    assert capfd.readouterr() == ("", "")


def test_what_is_too_large_for_int8_is_the_largest_one() -> None:
    taken = {"dtype": np.int8, "quantization": (0.5, -128)}
    raw = np.array([[0, 1, 127, 128, 255]], np.uint8)
    assert tensorflow_runtimes.quantized(raw, taken).tolist() == [[-128, -126, 126, 127, 127]]

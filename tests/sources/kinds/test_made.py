"""The dataset that is computed."""

import hashlib

import numpy as np
import pytest
from pydantic import ValidationError

from keras_pipeline.sources.dataset_file import load_dataset
from keras_pipeline.sources.kinds.made import Made
from keras_pipeline.sources.raw_writer import rows_of


def test_the_line_is_the_same_bytes_everywhere_and_is_y_2x() -> None:
    examples = load_dataset("line").read(None)
    every = [",".join(row) + "\n" for row in rows_of(examples.inputs, examples.labels.tolist(), np.arange(1000))]
    text = "x,y\n" + "".join(every[:800]) + "x,y\n" + "".join(every[800:])
    assert hashlib.sha256(text.encode()).hexdigest() == (
        "bc5d394dfe61ef9c365c804eb19cfcbefa1a5aad5d2edb4825fb957bbaf93c9a"
    )
    x, y = examples.inputs.values["x"], examples.labels
    slope, intercept = np.polyfit(x, y, 1)
    assert (slope, intercept) == pytest.approx((2, 0), abs=0.01)
    assert np.std(y - 2 * x) == pytest.approx(0.05, rel=0.1)
    assert examples.splits == ["train"] * 800 + ["test"] * 200


@pytest.mark.parametrize("target", ["", "a\nb", "x", "y" * 1001])
def test_a_target_that_no_column_can_be_called_is_refused(target: str) -> None:
    with pytest.raises(ValidationError, match="target"):
        Made(kind="made", maker="line", target=target)

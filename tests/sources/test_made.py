"""The dataset that is computed."""

import hashlib

import numpy as np
import pytest

from keras_pipeline.sources import formats, made


def test_the_line_is_the_same_bytes_everywhere_and_is_y_2x() -> None:
    arrays = made.line()
    digest = hashlib.sha256(b"".join(formats.write_csv(("x", "y"), rows) for rows in arrays.values())).hexdigest()
    assert digest == "bc5d394dfe61ef9c365c804eb19cfcbefa1a5aad5d2edb4825fb957bbaf93c9a"
    rows = np.concatenate(list(arrays.values()))
    slope, intercept = np.polyfit(rows[:, 0], rows[:, 1], 1)
    assert (slope, intercept) == pytest.approx((2, 0), abs=0.01)
    assert np.std(rows[:, 1] - 2 * rows[:, 0]) == pytest.approx(0.05, rel=0.1)

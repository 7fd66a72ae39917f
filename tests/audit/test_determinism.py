"""The table of the determinism check."""

from keras_pipeline.audit import determinism
from keras_pipeline.audit.conformance import Placement


def test_the_matrix_gives_the_same_bytes_the_same_letter() -> None:
    one, two = Placement("none", "tensorflow"), Placement("ddp", "torch", workers=2)
    cells: determinism.Cells = {
        (one, "on", 1): ["x", "x"],
        (one, "on", 2): ["x", "y"],
        (one, "off", 1): ["z", "z"],
        (one, "off", 2): ["y", "y"],
        (two, "-", 1): ["x", "x"],
        (two, "-", 2): [],
    }
    assert list(determinism._table(cells))[2:] == [
        "| none, tensorflow | on | 2 runs: A | 2 runs: A, B |",
        "| none, tensorflow | off | 2 runs: C | 2 runs: B |",
        "| ddp, 2 workers | - | 2 runs: A | not installed |",
    ]

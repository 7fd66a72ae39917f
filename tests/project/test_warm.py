"""Which programs are forked from a warm server."""

import sys

import pytest

from hidden import warm
from places import SUPPORT


@pytest.mark.parametrize(
    ("words", "changes", "expected"),
    [
        (["-m", "keras_pipeline.cli.main", "train"], {}, True),
        (["/anywhere/keras-pipeline", "train"], {}, True),
        ([str(SUPPORT / "resume_everywhere.py")], {}, True),
        (["-c", "import keras_pipeline"], {}, True),
        (["-c", "import multiprocessing"], {}, False),
        (["-W", "ignore", "-c", "import keras_pipeline"], {}, False),
        (["-m", "keras_pipeline.cli.main"], {"HIDDEN_PACKAGES": "jax jaxlib"}, False),
        (["/usr/bin/dvc", "repro"], {}, False),
        ([], {}, False),
    ],
)
def test_what_may_be_warm(words: list[str], changes: dict[str, str], expected: bool) -> None:
    assert warm.may_be_warm(words, {"HIDDEN_PACKAGES": "jax jaxlib torch", **changes}) is expected


def test_a_python_that_knows_no_modules_in_the_current_folder_may_be_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-P", "-m", "keras_pipeline.cli.main"])
    assert warm.words() == ["-m", "keras_pipeline.cli.main"]
    monkeypatch.setattr(sys, "orig_argv", ["python"])
    assert not warm.may_be_warm(warm.words(), {"HIDDEN_PACKAGES": "jax jaxlib torch"})

"""How many runs go on at once."""

import os

from keras_pipeline.runs import pool


def test_jobs_by_default_leave_no_core_idle() -> None:
    assert 1 <= pool.default_jobs() <= 2 + (os.cpu_count() or 1) // 4

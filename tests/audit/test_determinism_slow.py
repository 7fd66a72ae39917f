"""A training repeated in one process."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

import small
from keras_pipeline.audit import conformance
from keras_pipeline.audit.conformance import FEATURES, Placement
from places import PROGRAM

pytestmark = pytest.mark.slow


def test_a_training_repeated_in_one_process_gives_the_same_bytes(tmp_path: Path) -> None:
    values = json.loads(small.params_text({}))
    for key, value in {**conformance.PLAIN, **conformance.SMALL, "model.dropout": 0.3, "train.epochs": 2}.items():
        conformance.set_value(values, key, value)
    place = Placement("none", "tensorflow")
    job = conformance.make_job(values, place, FEATURES["synchronized"], 1, conformance.SMALL_IMAGES)
    data = conformance.write_small_images(tmp_path)
    task = {"data": str(data), "job": vars(job), "runs": 3}
    (tmp_path / "task.json").write_text(json.dumps(task))
    subprocess.run(
        [PROGRAM, "determinism", "--work", tmp_path], check=True, capture_output=True, timeout=300, env=os.environ
    )
    digests = json.loads((tmp_path / "digests.json").read_text())
    assert len(digests) == 3
    assert len(set(digests)) == 1
    assert re.fullmatch("[0-9a-f]{64}", digests[0])

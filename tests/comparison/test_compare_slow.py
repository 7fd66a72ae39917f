"""`keras-pipeline compare` on real runs, wherever they are."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from compared_runs import told
from keras_pipeline.comparison.find_run import PREDICTIONS, RECORD
from real_workspace import ONE_THREAD, Workspace, origin

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Two runs on the digits: the last commit's, and a DVC experiment's, which is also what the files are of."""
    made = origin(tmp_path_factory.mktemp("compare") / "checkout")
    made.set(
        fetch__dataset="digits",
        model__hidden_units=[16],
        train__epochs=2,
        train__batch_size=32,
        train__schedule__warmup_epochs=0,
        train__device_type="cpu",
    )
    made.commit()
    made.good("dvc repro", **ONE_THREAD)
    made.commit()
    made.good("dvc exp run -S model.hidden_units=[64] -n wider", **ONE_THREAD)
    yield made
    made.close()


def test_a_folder_a_revision_an_experiment_and_a_run_of_mlflow_are_compared(workspace: Workspace) -> None:
    key = workspace.json(RECORD)["key"]
    first, second = workspace.runs()
    seen = {}
    for asked in ("HEAD .", f"HEAD {key[:8]}", "HEAD wider"):
        output = workspace.good(f"keras-pipeline compare {asked}", **ONE_THREAD)
        assert told(output, "differs") == "params: model.hidden_units [16] → [64]"
        accuracies = [run.metrics["test/accuracy"] for run in (first, second)]
        for units, accuracy in zip((16, 64), accuracies, strict=True):
            assert f"result:   hidden_units=[{units}]: test/accuracy {accuracy:.4f} [" in output
        folder = told(output, "page").removesuffix("/comparison.html")
        assert told(output, "MLflow") == f"an artifact of the second run, {folder}/comparison.html"
        wanted = {"comparison.html", "comparison.md", "curves.png", "classes.png"}
        wanted |= {"only-A-right.png", "only-B-right.png"}
        for place in (workspace.folder, second.artifacts):
            assert {path.name for path in (place / folder).iterdir()} == wanted
        seen[told(output, "verdict"), told(output, "flipped")] = output
    assert len(seen) == 1  # the same two runs, however they are called
    with np.load(workspace.folder / PREDICTIONS) as saved:
        right = int((saved["outputs"].argmax(axis=1) == saved["labels"]).sum())
    [(_, flipped)] = seen
    only_a, only_b = map(int, re.findall(r"(?:has|\]) (\d+)", flipped))
    assert only_b - only_a == right - round(360 * accuracies[0])
    assert (workspace.folder / "compare/HEAD-vs-here").is_dir()
    assert "compare" not in workspace.good("git status --short")


def test_a_store_that_is_down_is_said_in_a_line_and_images_that_are_not_at_hand_in_the_page(
    workspace: Workspace, tmp_path: Path
) -> None:
    done = workspace.run(
        f"keras-pipeline compare HEAD . --normalized {tmp_path} --output {tmp_path / 'page'}",
        MLFLOW_TRACKING_URI="http://127.0.0.1:9",
        **ONE_THREAD,
    )
    assert done.code == 0
    assert len(re.findall("MLflow at http://127.0.0.1:9 is not available", done.output)) == 1
    assert "Traceback" not in done.output
    # The folder `.` has its own data/normalized: nothing is left out.
    assert (tmp_path / "page/only-B-right.png").exists()
    done = workspace.run(f"keras-pipeline compare HEAD wider --normalized {tmp_path} --output {tmp_path / 'page'}")
    assert done.code == 0
    assert "Their pictures are left out" in (tmp_path / "page/comparison.md").read_text()
    left = {"comparison.md", "comparison.html", "curves.png", "classes.png"}
    assert {path.name for path in (tmp_path / "page").iterdir()} == left


@pytest.mark.parametrize(
    ("asked", "code", "text"),
    [
        ("nothing .", 2, "'nothing': no folder with models/ and reports/ in it"),
        (". HEAD~1", 3, "git revision HEAD~1, commit "),
        (".", 2, "the following arguments are required: B"),
    ],
)
def test_what_cannot_be_compared_is_told(asked: str, code: int, text: str, workspace: Workspace) -> None:
    done = workspace.run(f"keras-pipeline compare {asked}")
    assert done.code == code
    assert text in done.output
    assert "Traceback" not in done.output


def test_a_trained_network_is_registered_with_the_weights_that_were_evaluated(workspace: Workspace) -> None:
    """Those of MLflow's network, which has the scaling inside, are those of the file."""
    record = workspace.json(RECORD)
    output = workspace.good("keras-pipeline model register", **ONE_THREAD)
    assert told(output, "model") == "digits version 1 is registered, the candidate: models:/digits/1"
    assert told(output, "network") == f"SHA-256 {record['sha256']['model']}"
    assert told(output, "next") == "keras-pipeline model promote"

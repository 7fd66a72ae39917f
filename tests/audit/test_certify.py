"""What certify says of a run that was trained again: the verdict, and how it ends."""

import io
import json
import math
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from keras_pipeline.audit import certify
from keras_pipeline.audit.differences import Difference
from keras_pipeline.core import files
from keras_pipeline.core.errors import MachineError
from recorded_run import rows


def network(path: Path, **arrays: list[float]) -> str:
    """A .keras file with these weights; its digest."""
    content = io.BytesIO()
    with h5py.File(content, "w") as weights:
        for name, values in arrays.items():
            weights[f"layers/{name}/vars/0"] = np.array(values, np.float32)
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("config.json", "metadata.json"):
            archive.writestr(zipfile.ZipInfo(name), "{}")
        archive.writestr(zipfile.ZipInfo("model.weights.h5"), content.getvalue())
    return files.file_sha256(path)


@pytest.fixture
def pair(run: dict[str, Any], tmp_path: Path) -> Callable[..., certify.Verdict]:
    """What comes out for the recorded and a new network, and what the new record says otherwise."""

    def compare(there: dict[str, Any], here: dict[str, Any], keep: bool = True, **otherwise: Any) -> certify.Verdict:
        old, new = tmp_path / "model.keras", tmp_path / "new" / "model.keras"
        again: dict[str, Any] = {**json.loads(json.dumps(run)), **otherwise}
        run["sha256"]["model"] = network(old, **there)
        again["sha256"]["model"] = network(new, **here)
        if not keep:
            old.write_bytes(b"of another run")
        return certify.compare_trainings(run, again, old, new)

    return compare


A = {"dense": [1.0, 2.0], "output": [3.0]}


def test_identical_bytes(pair: Callable[..., certify.Verdict], run: dict[str, Any]) -> None:
    later = [{**row, "time": 0.0} for row in run["history"]]
    found = pair(A, A, history=later)
    digest = run["sha256"]["model"][:12]
    assert found.verdict == "identical bytes"
    assert found.figures == (f"model.keras (SHA-256 {digest}…) and the history of 2 epochs",)
    assert pair(A, A, keep=False).verdict == "identical bytes"


def test_equal_within_tolerance_says_how_far_apart(pair: Callable[..., certify.Verdict]) -> None:
    found = pair(A, {"dense": [1.0, 2.000004], "output": [3.000001]}, history=rows(1.5, 0.750002))
    assert found.verdict == "equal within tolerance"
    assert found.figures == ("largest difference of a loss 2e-06", "of a weight 4.1e-06")


def test_other_losses_may_bring_another_accuracy(pair: Callable[..., certify.Verdict], run: dict[str, Any]) -> None:
    near = rows(1.5, 0.750002)
    near[1]["val/accuracy"] = 0.5625
    assert pair(A, {**A, "output": [3.000001]}, history=near).verdict == "equal within tolerance"
    same = rows(1.5, 0.75)
    same[1]["val/accuracy"] = 0.5625
    found = pair(A, A, history=same)
    assert (found.verdict, found.figures[0]) == ("differs", "epoch 2 val/accuracy 0.5 there, 0.5625 here")


@pytest.mark.parametrize(
    ("here", "otherwise", "figure"),
    [
        ({**A, "output": [3.5]}, {}, "of a weight 0.5"),
        ({**A, "output": [3.00003]}, {}, "of a weight 3e-05"),
        ({**A, "output": [math.nan]}, {}, "of a weight nan"),
        ({**A, "output": [3.0, 3.0]}, {}, "another network"),
        ({**A, "more": [3.0]}, {}, "another network"),
        (A, {"history": rows(1.5, 0.7501)}, "largest difference of a loss 0.0001"),
        ({**A, "output": [3.000001]}, {"history": rows(1.5, 0.7501)}, "largest difference of a loss 0.0001"),
        (A, {"history": rows(1.5)}, "2 epochs there, 1 here"),
        (A, {"best_epoch": 1}, "best_epoch 2 there, 1 here"),
        (A, {"weights": 8}, "weights 7 there, 8 here"),
    ],
)
def test_what_differs_is_said(
    here: dict[str, Any], otherwise: dict[str, Any], figure: str, pair: Callable[..., certify.Verdict]
) -> None:
    found = pair(A, here, **otherwise)
    assert found.verdict == "differs"
    assert figure in found.figures


def test_without_the_recorded_network_only_losses_are_compared(pair: Callable[..., certify.Verdict]) -> None:
    other = {**A, "output": [3.5]}
    found = pair(A, other, keep=False)
    assert found.verdict == "equal within tolerance"
    assert re.fullmatch(
        r"another model\.keras, and the recorded one is not in .* to compare its weights", found.figures[1]
    )
    assert pair(A, other, keep=False, history=rows(1.5, 0.76)).verdict == "differs"


OUTCOMES = {
    name: certify.Verdict(name, ("figures",)) for name in ("identical bytes", "equal within tolerance", "differs")
}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("verdict", "kinds", "code", "lines"),
    [
        ("identical bytes", "", 0, ["certify: identical bytes: figures"]),
        ("identical bytes", "cause aside", 0, ["certify: identical bytes: figures"]),
        (
            "identical bytes",
            "fault cause",
            1,
            [
                "certify: identical bytes: figures",
                "certify: the record and its files do not belong together:",
                "  a fault",
            ],
        ),
        (
            "equal within tolerance",
            "cause aside",
            0,
            [
                "certify: equal within tolerance: figures",
                "certify: what can explain another result:",
                "  a cause",
            ],
        ),
        (
            "differs",
            "cause",
            1,
            ["certify: differs: figures", "certify: what can explain another result:", "  a cause"],
        ),
        ("differs", "aside", 1, ["certify: differs: figures", "certify: nothing that is recorded explains it: "]),
        ("differs", "fault", 1, ["certify: differs: figures", "certify: the record and its files do not", "  a fault"]),
    ],
)
def test_the_verdict_names_what_can_explain_it(
    verdict: str, kinds: str, code: int, lines: list[str], run: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    known = [Difference(kind, f"a {kind}") for kind in kinds.split()]  # type: ignore[arg-type]
    assert certify._verdict(OUTCOMES[verdict], known, run) == code
    found = capsys.readouterr().out.splitlines()
    assert len(found) == len(lines)
    assert all(line.startswith(expected) for line, expected in zip(found, lines, strict=True))


def test_on_a_gpu_the_level_of_reproducibility_can_explain_it(
    run: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run["strategy"]["devices"] = ["/gpu:0"]
    certify._verdict(OUTCOMES["differs"], [], run)
    assert "  reproducibility: 'seeded' promises no same bits on a GPU" in capsys.readouterr().out
    run["reproducibility"] = "deterministic"
    certify._verdict(OUTCOMES["differs"], [], run)
    assert "nothing that is recorded explains it" in capsys.readouterr().out


@pytest.mark.parametrize(("code", "expected"), [(2, 1), (3, 1), (4, 4), (5, 1), (6, 6), (70, 1), (75, 75)])
def test_how_a_stage_that_fails_ends_the_command(code: int, expected: int) -> None:
    assert certify._failed("train", code) == expected


@pytest.mark.parametrize("code", [-9, 137])
def test_a_stage_that_was_killed_is_the_machine_s(code: int) -> None:
    with pytest.raises(MachineError, match=r"train was ended by signal 9, perhaps for lack of memory"):
        certify._failed("train", code)


def test_a_run_without_a_commit_is_compared_and_not_trained(
    run: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run["git"] = {"commit": None, "dirty": None, "reason": "no repository"}
    run["machine"]["cores"] = "640"
    assert certify.certify_run(run, [], Path("model.keras"), Path("downloads"), quick=False) == 1
    first, cores, last = capsys.readouterr().out.splitlines()
    assert first.endswith("2 epochs, commit none")
    assert cores.startswith("  cores: 640 there")
    assert last.startswith(
        "certify: cannot be trained again, because it was recorded without a git commit (no repository). "
    )

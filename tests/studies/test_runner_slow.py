"""`keras-pipeline study`: real runs of a small study, what they leave in files and MLflow, and after being killed."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import killed_studies
import small
from keras_pipeline import Project
from keras_pipeline.runs.folders import Folders
from keras_pipeline.studies.study import Study
from study_workplace import ASKED, CHANGES, Workplace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, Study, str]:
    place = Workplace(tmp_path_factory.mktemp("undisturbed"), CHANGES)
    study = place.ask("asked", **ASKED)
    code, printed = place.run("study", "run", "asked", "--jobs", "2")
    assert code == 0, printed
    return place, study, printed


def test_every_run_is_told_with_the_time_left(undisturbed: tuple[Workplace, Study, str]) -> None:
    _, study, printed = undisturbed
    assert "study asked: 4 runs, 0 known; 4 to do, 2 at a time\n" in printed
    told = re.findall(
        r"^study asked: (\d) of 4: (.+): test/accuracy 0\.\d{4}, \d+ s; \d+ (?:s|min) left$", printed, re.MULTILINE
    )
    assert [int(number) for number, _ in told] == [1, 2, 3, 4]
    assert {name for _, name in told} == {run.name for run in study.runs}
    assert "Traceback" not in printed


def test_from_python_it_is_a_row_a_run(undisturbed: tuple[Workplace, Study, str]) -> None:
    place, study, _ = undisturbed
    frame = Project(place.folder).study("asked")
    assert [f"{row.variant} seed {row.seed}" for row in frame.itertuples()] == [run.name for run in study.runs]
    assert frame["test/accuracy"].between(0.1, 1).all()
    assert frame["diverged"].sum() == 0
    varying = [key for key in frame if "." in key]
    assert "seed" not in varying
    assert varying
    assert all(frame[key].nunique() > 1 for key in varying)


def test_the_workspace_stays_as_it_is(undisturbed: tuple[Workplace, Study, str]) -> None:
    place, _, _ = undisturbed
    assert (place.folder / "params.yaml").read_bytes() == small.params_text(CHANGES)
    assert {path.name for path in place.folder.iterdir()} <= {
        "params.yaml", "dvc.yaml", "studies", "mlruns", "printed.txt", "data"
    }  # fmt: skip
    assert [path.name for path in (place.folder / "data").glob("*")] in ([], ["downloads"])


def test_a_run_is_what_the_stage_trains(undisturbed: tuple[Workplace, Study, str], tmp_path: Path) -> None:
    """A run is forked from a process that has imported TensorFlow; the stage, begun anew, leaves the same bytes."""
    place, study, _ = undisturbed
    run = study.runs[-1]
    paths = {
        "--params": place.own(run) / "params.yaml",
        "--normalized": Folders(place.folder / "studies").normalized(run.params),
        "--models": tmp_path / "models",
        "--checkpoints": tmp_path / "checkpoints",
    }
    code, printed = place.run("train", *(str(word) for pair in paths.items() for word in pair))
    assert code == 0, printed
    for name in ("model.keras", "history.csv"):
        assert (tmp_path / "models" / name).read_bytes() == (place.own(run) / "models" / name).read_bytes()


def test_runs_are_children_of_the_studys_run(undisturbed: tuple[Workplace, Study, str]) -> None:
    place, study, _ = undisturbed
    tracked = place.tracked("asked")
    assert set(tracked) == {"study asked", *(run.name for run in study.runs)}
    for run in study.runs:
        own = tracked[run.name]
        scores = json.loads((place.own(run) / "reports" / "metrics.json").read_text())
        assert own[:3] == ("FINISHED", scores["test/accuracy"], "study asked")
        expected = {"study": "asked", "variant": run.variant, "seed": str(run.seed)}
        assert {key: own.tags[key] for key in expected} == expected
    parent = tracked["study asked"]
    assert parent.status == "FINISHED"
    assert "Does the activation matter?" in parent.tags["mlflow.note.content"]


def test_the_report_says_what_the_files_say(undisturbed: tuple[Workplace, Study, str]) -> None:
    place, study, _ = undisturbed
    folder = place.folder / "studies" / "reports" / "asked"
    said = json.loads((folder / "asked.json").read_text())
    results = {
        (run.variant, run.seed): json.loads((place.own(run) / "reports" / "metrics.json").read_text())["test/accuracy"]
        for run in study.runs
    }
    assert {
        (one["variant"], int(seed)): value for one in said["variants"] for seed, value in one["test/accuracy"].items()
    } == results
    versus = said["variants"][1]["versus"]
    means = {name: np.mean([results[name, 1], results[name, 2]]) for name in ("relu", "linear")}
    assert versus["difference"] == pytest.approx(means["linear"] - means["relu"])
    text = (folder / "asked.md").read_text()
    assert text.startswith(
        "# Does the activation matter?\n\nStudy `asked`, by `keras-pipeline study run asked`: 4 runs, "
    )
    assert f"{100 * means['relu']:.2f} ± " in text
    page = re.sub(r"(?s)<script>.*?</script>", "", (folder / "asked.html").read_text())  # Vega's program
    assert page.count("<img ") == text.count("](asked-") == page.count('src="data:image/png;base64,')
    assert not re.search(r'(src|href)="(?!data:|#part-)', page)  # nothing is asked of any other file or server
    for picture in re.findall(r"\]\((asked-[\w-]+\.png)\)", text):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")


def test_what_is_known_is_not_done_again(undisturbed: tuple[Workplace, Study, str]) -> None:
    place, study, _ = undisturbed
    before = {path: path.stat().st_mtime_ns for path in place.folder.glob("studies/runs/*/*/*") if path.name != ".lock"}
    code, printed = place.run("study", "run", "asked")
    assert code == 0, printed
    assert "study asked: 4 runs, 4 known; 0 to do" in printed
    assert {path: path.stat().st_mtime_ns for path in before} == before
    # Another study with a run of the same params, and one of its own.
    other = place.ask("other", seeds=[2], baseline="none", variants={"none": {}, "l2": {"model.l2": 0.001}})
    code, printed = place.run("study", "run", "other")
    assert code == 0, printed
    (shared, own) = other.runs
    assert shared.key in {run.key for run in study.runs}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert set(place.tracked("other")) == {"study other", shared.name, own.name}
    code, printed = place.run("study", "status", "other")
    assert re.search(r"^l2 +1 of +1 +0 +0\.\d{4}$", printed, re.MULTILINE)
    code, printed = place.run("study", "list")
    assert re.search(r"^asked +4 of +4 runs  Does the activation matter\?$", printed, re.MULTILINE)


@pytest.mark.own_processes
def test_killed_it_goes_on_to_the_same_runs_and_numbers(
    undisturbed: tuple[Workplace, Study, str], tmp_path: Path
) -> None:
    """Of more kills see tests/proofs."""
    place = Workplace(tmp_path, CHANGES)
    study = place.ask("asked", **{**ASKED, "seeds": [1]})
    killed_studies.kill(place, "asked", [7.0])
    code, printed = place.run("study", "run", "asked", "--jobs", "2")
    assert code == 0, printed
    assert killed_studies.numbers(place, study) == killed_studies.numbers(undisturbed[0], study)


@pytest.mark.own_processes
def test_interrupted_its_runs_keep_a_checkpoint_and_changed_params_do_not_disturb_it(tmp_path: Path) -> None:
    """Ctrl-C as a terminal sends it, to the whole process group, while params.yaml is another already."""
    place = Workplace(tmp_path, {**CHANGES, "train.epochs": 400})
    study = place.ask("asked", **{**ASKED, "seeds": [1], "variants": {"relu": {}}})
    log, own = tmp_path / "output.txt", place.own(study.runs[0])
    process = place.start("study", "run", "asked", "--jobs", "1", log=log)
    try:
        _wait_until(lambda: "Epoch 3/" in _text(own / "log.txt"), process, log)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130, log.read_text()
    finally:
        process.kill()
    assert "stopped" in _text(own / "log.txt"), _text(own / "log.txt")
    (tmp_path / "params.yaml").write_bytes(small.params_text({**CHANGES, "train.epochs": 2}))
    runs = place.asked("asked").runs
    process = place.start("study", "run", "asked", "--jobs", "1", log=log)
    try:
        _wait_until(lambda: (place.own(runs[0]) / "log.txt").is_file(), process, log)
        (tmp_path / "params.yaml").write_bytes(small.params_text({**CHANGES, "train.epochs": 5}))
        assert process.wait(120) == 0, log.read_text()
    finally:
        process.kill()
    assert all((place.own(run) / "reports" / "metrics.json").is_file() for run in runs)


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def _wait_until(done: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while not done():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def test_a_run_that_fails_is_told_with_its_log_and_the_rest_is_kept(
    undisturbed: tuple[Workplace, Study, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / ("long" * 20)  # too long for the path of a socket in it
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    place = undisturbed[0]
    study = place.ask(
        "failing", **{**ASKED, "seeds": [1], "variants": {"relu": {}, "tanh": {"model.activation": "tanh"}}}
    )
    bad = place.own(study.runs[-1])
    bad.mkdir(parents=True)
    (bad / "models").write_text("in the way")
    code, printed = place.run("study", "run", "failing", "--jobs", "1")
    assert code == 6, printed
    assert f"tanh seed 1 ended with exit code 6. Its last lines, of studies/runs/{bad.name}/log.txt:" in printed
    assert "mend the cause and run the same command again" in printed
    assert list(temporary.iterdir()) == []
    monkeypatch.delenv("TMPDIR")
    (bad / "models").unlink()
    code, printed = place.run("study", "run", "failing", "--jobs", "1")
    assert code == 0, printed
    assert "2 runs, 1 known; 1 to do" in printed


def test_a_run_that_diverges_is_a_result(tmp_path: Path) -> None:
    place = Workplace(tmp_path, {**CHANGES, "model.batch_normalization": False, "model.activation": "exponential"})
    grid = {"train.optimizer": [{"name": "sgd", "learning_rate": rate} for rate in (0.001, 1000.0)]}
    good, bad = place.ask("asked", seeds=[1], baseline="optimizer=name:sgd,learning_rate:0.001", grid=grid).runs
    code, printed = place.run("study", "run", "asked")
    assert code == 0, printed
    assert f"study asked: {bad.variant}: diverged with 1 of 1 seeds\n" in printed
    record = json.loads((place.own(bad) / "models" / "run.json").read_text())
    assert place.tracked("asked")[bad.name].status == "FAILED"
    assert place.tracked("asked")[bad.name].tags["diverged"] == record["diverged"]
    assert place.tracked("asked")[good.name].status == "FINISHED"
    assert "diverged with 1 of 1 seeds" in (place.folder / "studies/reports/asked/asked.md").read_text()
    code, printed = place.run("study", "run", "asked")
    assert "2 runs, 2 known; 0 to do" in printed

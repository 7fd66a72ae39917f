"""The page and the lines of a comparison, and the test images that it shows."""

import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import small
from compared_runs import IMAGES, Images, made, normalized_arrays, nowhere, outputs, record, with_data, write, written
from keras_pipeline.comparison import find_run, report, two_runs
from keras_pipeline.comparison.find_run import PREDICTIONS, RECORD, SCORES, FoundRun
from keras_pipeline.core import files
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.evaluation import regression

# Other tasks.


def predicted(seed: int, folder: str, noise: float, offset: float = 100.0) -> FoundRun:
    """A run that predicts a number, found in its folder; `offset`: of the target's scaling."""
    target = Scaling("standard", offset, 20.0)
    true = np.random.default_rng(9).normal(100, 20, IMAGES)
    answers = target.apply(true + np.random.default_rng(seed).normal(0, noise, IMAGES))[:, None]
    run = record(f"{seed:032x}")
    digests = {
        f"{split}_{kind}.npy": (f"{offset:.0f}" if split == "test" else "").ljust(64, "0")
        for split in ("train", "validation", "test")
        for kind in ("features", "targets")
    }
    target_scaling = {"name": "standard", "offset": offset, "divisor": 20.0}
    scaling = {"name": "standard", "offset": [offset], "divisor": [1.0]}
    run["dataset"] |= {
        "task": "regression",
        "dataset": "diabetes",
        "class_names": [],
        **small.table("x"),
        "sha256": digests,
    }
    run["dataset"] |= {"target": target_scaling, "scaling": scaling}
    files.write_json(Path(folder, RECORD), run)
    Path(folder, "reports").mkdir()
    np.savez(Path(folder, PREDICTIONS), outputs=answers, targets=target.apply(true), loss=0.0)
    scores = regression.regression_scores(target.undo(answers[:, 0]), target.undo(target.apply(true)))
    files.write_json(Path(folder, SCORES), {"test/loss": 1.0, **scores})
    return find_run.find_run(folder, nowhere)


def test_predicted_numbers_are_compared_by_their_errors() -> None:
    a, b, c = predicted(1, "a", 10.0), predicted(2, "b", 5.0, offset=90.0), predicted(3, "c", 10.0)
    close, far = two_runs.compare_answers(a, c), two_runs.compare_answers(a, b)
    assert close
    assert far
    assert far.flips is None
    [(metric, found)] = far.compared.items()
    assert metric == "test/mean_absolute_error"
    assert found.difference == pytest.approx(b.scores[metric] - a.scores[metric])
    errors = np.abs(b.outputs[:, 0] - b.labels) - np.abs(a.outputs[:, 0] - a.labels)
    half = 1.96 * errors.std() / np.sqrt(IMAGES)
    assert [found.low, found.high] == pytest.approx([errors.mean() - half, errors.mean() + half], abs=0.15 * half)
    number = r"[+-][\d.]+"
    interval = rf"\[{number}, {number}\] in test/mean_absolute_error"
    assert re.fullmatch(rf"B is better: -{number[4:]} {interval}: larger than chance among test rows", far.verdict())
    assert re.fullmatch(rf"no difference larger than chance among test rows: {number} {interval}", close.verdict())
    text, _, names = written(a, b, None)
    assert names == ["comparison.html", "comparison.md", "curves.png"]
    assert "paired bootstrap over the 400 test rows" in text
    for word in ("McNemar", "flipped", "images"):
        assert word not in text.replace("train images", "").replace("test images", "")
    told = [row[0] for row in two_runs.find_differences(a.record, b.record)["data"]]
    assert told == ["scaling", "target's scaling", "test_features.npy", "test_targets.npy"]
    lines = list(report.summary_lines(a, b, {}, far))
    assert any(re.fullmatch(r"result:   b: test/r2 0\.\d+, .* on 400 test rows", line) for line in lines)


# The test images, and the page.


def test_the_test_images_are_those_of_a_folder_with_the_digest() -> None:
    run = record()
    images = normalized_arrays(Path("studies/data/digits/0123"), run)
    a, b = made(run=run), made(2)
    Path("studies/data/digits/raw").mkdir()
    Path("studies/data/digits/.lock").touch()
    folders = list(report.image_folders(a, b, Path("data/normalized")))
    found = two_runs.find_test_images((a, b), folders)
    assert found is not None
    np.testing.assert_array_equal(found.inputs, images.inputs)
    assert two_runs.find_test_images((made(2), made(3)), folders) is None
    Path("studies/data/digits/0123/test_images.npy").write_bytes(b"altered")
    assert two_runs.find_test_images((a, b), folders) is None


def test_the_test_images_of_a_run_in_a_folder_are_looked_for_beside_it() -> None:
    write(Path("far/studies/runs/one"), record(), outputs(1))
    Path("far/studies/data/digits/0123").mkdir(parents=True)
    Path("far/studies/data/digits/0123/statistics.json").touch()
    run = find_run.find_run("far/studies/runs/one", nowhere)
    folders = [folder.resolve() for folder in report.image_folders(run, made(2), Path("given"))]
    assert folders[0] == Path("given").resolve()
    assert Path("far/studies/data/digits/0123").resolve() in folders
    assert Path("far/studies/runs/one/data/normalized").resolve() in folders
    top = replace(run, folder=Path("/"))
    assert Path("/data/normalized") in report.image_folders(top, made(2), Path("given"))


@pytest.mark.parametrize(
    ("a", "b", "name"),
    [
        ("HEAD", ".", "HEAD-vs-here"),
        ("studies/runs/a1", "HEAD~3", "studies-runs-a1-vs-HEAD-3"),
        ("../../etc", "mnist mlp 11-21 17:37:55", "etc-vs-mnist-mlp-11-21-17-37-55"),
        ("x" * 300, "a=0.5", f"{'x' * 80}-vs-a=0.5"),
    ],
)
def test_the_name_of_a_comparison_is_a_file_name(a: str, b: str, name: str) -> None:
    assert report.report_name(made(asked=a), made(asked=b)) == name


def test_the_page_says_all_without_the_test_images() -> None:
    a, b = made(1, 0.75, record(host="<b>|"), "HEAD"), made(2, 0.95, asked=".")
    found = two_runs.compare_answers(a, b)
    assert found
    assert found.flips
    text, html, names = written(a, b, None)
    assert names == ["comparison.html", "comparison.md", "curves.png", "classes.png"]
    days = time.strftime("%Y-%m-%d", time.localtime(a.record["started"]))
    assert text.startswith("# `HEAD` against `.`\n\nBy `keras-pipeline compare HEAD .`: two runs, trained on ")
    assert f"trained on {days}, commit cccccccccccc.\n\n**. is better: +" in text
    assert report.ONE_SEED in text
    assert "| `host` | `<b>\\|` | `laptop` |" in text
    for metric, value in a.scores.items():
        other = b.scores[metric]
        assert f"| `{metric}` | {value:.4f} | {other:.4f} | {other - value:+.4f} |" in text
    assert f"[{found.compared['test/log_loss'].low:+.4f}, {found.compared['test/log_loss'].high:+.4f}]" in text
    only_a, only_b = len(found.flips.only_a), len(found.flips.only_b)
    assert f"| `HEAD` **right** | {found.flips.both} | {only_a} |\n| `HEAD` **wrong** | {only_b} |" in text
    assert "Their pictures are left out: the test images are in no folder" in text
    assert "<code>&lt;b&gt;|</code>" in html
    sources = Images(html).sources
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "{" not in text


def test_the_page_calls_the_runs_by_what_differs_and_compares_each_class() -> None:
    a, b = made(1, 0.7), made(2, 0.95)
    b.record["params"] |= {"model.dropout": 0.5}
    found = two_runs.compare_answers(a, b)
    assert found
    text, html, _ = written(a, b, None)
    assert text.startswith("# `dropout=0.3` against `dropout=0.5`\n")
    assert "**dropout=0.5 is better: +" in text
    assert "<title>dropout=0.3 against dropout=0.5</title>" in html
    assert re.search(r" (A|B) (is|right|wrong)\b", text) is None
    rows = re.findall(r"(?m)^\| (\d) \| (\d+) \| \S+ \[\S+, \S+\] \| (\d+) \| (\d+) \| (?:< )?[\d.e-]+ \|$", text)
    assert [row[0] for row in rows] == list("0123456789")
    flips = found.flips
    assert flips
    counts = [sum(int(row[column]) for row in rows) for column in (1, 2, 3)]
    assert counts == [IMAGES, len(flips.only_a), len(flips.only_b)]


def test_of_many_classes_those_that_differ_most_are_compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(report, "MOST_CLASSES", 3)
    a, b = made(1, 0.7), made(2, 0.9)
    answers = two_runs.compare_answers(a, b)
    assert answers is not None
    shown = report._most_different(answers)
    assert len(shown) == 3
    others = [one.p_adjusted for label, one in answers.recalls.items() if label not in shown]
    assert max(one.p_adjusted for one in shown.values()) <= min(others)


def test_runs_with_other_test_images_are_not_paired() -> None:
    a, b = made(1), made(2, run=with_data("labels"))
    text, _, _ = written(a, b, None)
    assert "**The two runs were tested on different images, or asked different things of them: their metrics" in text
    assert "| `test_labels.npy` | `26c000000000` | `eeeeeeeeeeee` |" in text
    assert f"| `test/accuracy` | {a.scores['test/accuracy']:.4f} | {b.scores['test/accuracy']:.4f} |" in text
    for word in ("McNemar", "flipped", "95 %", report.ONE_SEED):
        assert word not in text
    lines = list(report.summary_lines(a, b, two_runs.find_differences(a.record, b.record), None))
    assert lines[-1] == f"verdict:  {report.OTHER_IMAGES}"
    assert not any(line.startswith("flipped") for line in lines)


def test_a_run_compared_with_itself_is_told_so() -> None:
    a, b = made(1, asked="HEAD"), made(1, asked=".")
    text, _, _ = written(a, b, None)
    assert "**The two are one and the same run.**" in text
    assert "Nothing that is recorded" in text
    assert "No image flipped: both have the same ones right." in text
    lines = list(report.summary_lines(a, b, {}, two_runs.compare_answers(a, b)))
    assert "differs:  nothing that is recorded" in lines
    assert lines[-1] == "verdict:  the two are one and the same run"


def test_the_lines_say_what_differed_the_accuracies_and_the_verdict() -> None:
    a, b = made(1, 0.85, asked="HEAD"), made(2, 0.92, asked=".")
    b.record["params"] |= {"model.dropout": 0.5}
    b.record["environment"] = [f"package-{number}==1" for number in range(10)]
    found = two_runs.compare_answers(a, b)
    assert found
    assert found.flips
    lines = "\n".join(report.summary_lines(a, b, two_runs.find_differences(a.record, b.record), found)).splitlines()
    assert lines[0] == "run:      dropout=0.3: digits mlp, key 000000000000, folder HEAD"
    assert lines[2] == "differs:  params: model.dropout 0.3 → 0.5"
    assert "          versions: and 3 more, on the page" in lines
    first, second = a.scores["test/accuracy"], b.scores["test/accuracy"]
    for name, reached in (("dropout=0.3", first), ("dropout=0.5", second)):
        [line] = [line for line in lines if line.startswith(f"result:   {name}: ")]
        assert line.startswith(f"result:   {name}: test/accuracy {reached:.4f} [")
        assert line.endswith("] on 400 test images")
    only_a, only_b = len(found.flips.only_a), len(found.flips.only_b)
    assert f"flipped:  only dropout=0.3 has {only_a} test images right, only dropout=0.5 {only_b}" in lines
    assert lines[-2:] == [f"verdict:  {found.verdict('dropout=0.5')}", f"          {report.ONE_SEED}"]


def test_a_network_of_no_use_is_said() -> None:
    a, b = made(1, 0.9, asked="a"), made(2, 0.0, asked="b")
    answers = two_runs.compare_answers(a, b)
    lines = [line for line in report.summary_lines(a, b, {}, answers) if line.startswith("result:")]
    assert [line.count("no better than a constant answer on 400 test images") for line in lines] == [0, 1]
    text, _, _ = written(a, b, None)
    [row] = [line for line in text.splitlines() if line.startswith("| result |")]
    assert row.endswith(", no better than a constant answer` |")
    assert row.count("no better") == 1

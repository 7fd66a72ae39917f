"""The model card: its head as model hubs read it, and that what it says is what the run recorded."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt
from ruamel.yaml import YAML

import registered_runs
import small
from compared_runs import IMAGES, LABELS, made, record
from keras_pipeline.checks.partial_params import lay_over
from keras_pipeline.comparison.find_run import FoundRun
from keras_pipeline.core.errors import DataError, ModelFileError
from keras_pipeline.evaluation import multiclass
from keras_pipeline.evaluation.binary import binary_scores, class_shares
from keras_pipeline.registry import card
from places import SHIPPED


def parts(text: str) -> tuple[dict[str, Any], str]:
    """The head, and the Markdown behind it."""
    _, head, body = re.split(r"(?m)^---\n", text, maxsplit=2)
    return YAML(typ="safe", pure=True).load(head), body


def test_the_head_is_what_model_hubs_read() -> None:
    """Each key that their specification requires, by the names that it gives."""
    run = made(3)
    head, _ = parts(card.write_card(run, None, "mnist"))
    assert set(head) == {
        "license", "library_name", "pipeline_tag", "tags", "datasets", "metrics", "model-index"
    }  # fmt: skip
    assert (head["license"], head["library_name"]) == ("apache-2.0", "keras")
    assert head["pipeline_tag"] == "image-classification"
    assert head["datasets"] == ["digits"]
    assert head["metrics"] == ["accuracy", "f1"]
    [index] = head["model-index"]
    [result] = index["results"]
    assert index["name"] == "mnist"
    assert result["task"]["type"] == "image-classification"
    assert (result["dataset"]["type"], result["dataset"]["split"]) == ("digits", "test")
    assert result["dataset"]["name"].startswith("The title")
    accuracy = result["metrics"][0]
    low, high = multiclass.wilson_interval(round(run.scores["test/accuracy"] * IMAGES), IMAGES)
    assert accuracy == {
        "type": "accuracy",
        "value": pytest.approx(run.scores["test/accuracy"], abs=1e-6),
        "name": f"Accuracy, 95 % interval {low:.4f} to {high:.4f}",
    }
    assert all(isinstance(one["value"], float) for one in result["metrics"])


def test_the_card_says_what_the_run_recorded() -> None:
    run = made(3)
    _, body = parts(card.write_card(run, None, "mnist"))
    for metric, value in run.scores.items():
        if not metric.endswith(("_low", "_high")):
            assert f"| `{metric}` | {value:.4f} |" in body
    rows = multiclass.per_class_rows(LABELS, run.outputs.argmax(axis=1), run.record["dataset"]["class_names"])
    for row in rows:
        assert f"| {row['class']} | {row['support']} | {row['precision']:.4f} [" in body
    worst = min(rows, key=lambda row: row["recall"])
    assert f"the worst is {worst['class']}, of which it has {100 * worst['recall']:.1f} % right" in body
    bins = [int(count) for count in re.findall(r"(?m)^\| \d\.\d to \d\.\d \| (\d+) \|", body)]
    assert sum(bins) == IMAGES
    matrix = multiclass.confusion_matrix(LABELS, run.outputs.argmax(axis=1), 10)
    np.fill_diagonal(matrix, 0)
    assert f"({matrix.max()})" in re.findall(r"The most common mistakes: (.*)", body)[0]
    for said in (run.record["key"], run.record["sha256"]["model"], f"git checkout {'c' * 40}", "538,122 weights"):
        assert said in body
    assert "it cannot be served" in body
    assert "Not known where this card was written." in card.write_card(run, None, "mnist", looked_up=False)
    assert "no better than a constant" not in body
    html = MarkdownIt("commonmark").enable("table").render(body)
    assert html.count("<table>") == 6
    assert "|--" not in html
    assert card.write_card(run, None, "mnist") == card.write_card(made(3), None, "mnist")


def test_its_values_are_a_partial_params_file(tmp_path: Path) -> None:
    run = made(3)
    run.record["params"] |= {"train.optimizer.learning_rate": 0.0625, "model.hidden_units": "[7, 5]"}
    [values] = re.findall(r"```yaml\n(.*?)```", card.write_card(run, None, "mnist"), re.DOTALL)
    (tmp_path / "run.yaml").write_text(values)
    _, text = lay_over(tmp_path / "run.yaml", SHIPPED)
    assert re.search(r"(?m)^ +learning_rate: 0\.0625\b", text)
    assert YAML(typ="safe", pure=True).load(text)["model"]["hidden_units"] == [7, 5]


def test_what_was_not_committed_and_what_is_useless_is_said() -> None:
    about = record("d" * 32, git={"commit": None, "dirty": True})
    run = made(1, run=about)
    run.scores["test/p_no_better_than_constant"] = 0.5
    _, body = parts(card.write_card(run, None, "mnist"))
    assert "There were changes that were not committed" in body
    assert "git checkout COMMIT" in body
    assert "**It is no better than a constant answer: do not use it.**" in body


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", "a|b", "![x](http://evil.example/a.png)", "{{ 7 * 7 }}"]
)
def test_a_name_of_a_class_is_text(hostile: str) -> None:
    about = record("d" * 32)
    about["dataset"]["class_names"] = [hostile, *"123456789"]
    _, body = parts(card.write_card(made(1, run=about), None, "mnist"))
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(body)
    assert "<script" not in html
    assert "<img" not in html
    assert "49" not in re.findall(r"(?m)^\| output \|.*$", body)[0]
    assert html.count("<table>") == 6


def test_of_many_classes_the_extremes_have_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "MOST_CLASSES", 4)
    run = made(3)
    _, body = parts(card.write_card(run, None, "mnist"))
    rows = multiclass.per_class_rows(LABELS, run.outputs.argmax(axis=1), run.record["dataset"]["class_names"])
    ranked = [row["class"] for row in sorted(rows, key=lambda row: float(row["f1"]))]
    assert re.findall(r"(?m)^\| (\d) \| \d+ \| [\d.]+ \[", body) == [*ranked[:2], *ranked[-2:]]
    assert "Of 10 classes the 2 of the lowest F1, and then as many of the highest." in body


def test_two_classes_and_numbers_have_cards_of_their_own() -> None:
    about = record("d" * 32)
    about["dataset"] |= {"task": "binary", "class_names": ["other", "7"]}
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, IMAGES)
    outputs = np.clip(labels + random.normal(0, 0.3, IMAGES), 0, 1).astype(np.float32)[:, None]
    scores = binary_scores(outputs, labels, 0.1, 15)
    run = FoundRun("it", "it", about, scores, class_shares(outputs), labels)
    head, body = parts(card.write_card(run, None, "sevens"))
    assert head["metrics"] == ["accuracy", "f1", "roc_auc"]
    assert "| output | the probability of 7, against other |" in body

    about = record("d" * 32)
    scaling = {"name": "none", "offset": 0.0, "divisor": 1.0}
    about["dataset"] |= {
        "dataset": "line",
        "task": "regression",
        "class_names": [],
        **small.table("x"),
        "target": scaling,
    }
    true = random.normal(size=200)
    scores = {"test/loss": 0.1, "test/r2": 0.9, "test/mean_absolute_error": 0.1}
    head, body = parts(card.write_card(FoundRun("it", "it", about, scores, true[:, None] + 0.1, true), None, "line"))
    assert (head["pipeline_tag"], head["metrics"]) == ("tabular-regression", ["r_squared", "mae"])
    assert "raw values, float32 (n, 1): x" in body
    assert "Each class" not in body


def test_exports_are_told_with_their_agreement(tmp_path: Path) -> None:
    run = registered_runs.write_run(tmp_path, 1)
    model = run.record["sha256"]["model"]
    assert card.read_exports(tmp_path, model) is None
    registered_runs.write_exports(tmp_path, ("onnx",))
    assert card.read_exports(tmp_path, "0" * 64) is None  # they are of another network
    text = card.write_card(run, card.read_exports(tmp_path, model), "digits")
    assert "| `onnx` | 2,048 | largest difference 1.0e-06 |" in text
    (tmp_path / "reports/export.json").unlink()
    assert "| `onnx` | 2,048 | not recorded |" in card.write_card(run, card.read_exports(tmp_path, model), "digits")
    (tmp_path / "reports/export.json").write_text('{"onnx": "1"}')
    with pytest.raises(DataError, match=r"reports/export\.json: onnx: got \"1\"\."):
        card.read_exports(tmp_path, model)
    (tmp_path / "models/export/export.json").write_text("{")
    with pytest.raises(ModelFileError, match=r"models/export/export\.json: line 1"):
        card.read_exports(tmp_path, model)


def test_a_card_is_not_written_into_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a folder\. Expected: the name of a file, such as .*/README\.md"):
        card.keep_card(tmp_path, "text")
    card.keep_card(tmp_path / "new/README.md", "text")
    assert (tmp_path / "new/README.md").read_text() == "text"

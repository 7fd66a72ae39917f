"""A study's file: which runs it makes, and what is said of one that cannot be."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

import small
from keras_pipeline.checks.params import load_params
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.studies import study
from keras_pipeline.studies.study import Study, load_study

STUDY = """\
question: Does it matter?
seeds: [1, 2]
baseline: relu hidden_units=[64]
fixed:
  train.epochs: 2
variants:
  relu: {model.activation: relu}
  tanh: {model.activation: tanh}
grid:
  model.hidden_units: [[64], [32, 16]]
"""


@pytest.fixture
def load(tmp_path: Path) -> Any:
    (tmp_path / "params.yaml").write_text(small.SHIPPED.read_text())

    def load(text: str) -> Study:
        (tmp_path / "asked.yaml").write_text(text)
        return study.load_study(tmp_path / "asked.yaml", tmp_path / "params.yaml")

    return load


def faults(load: Any, text: str) -> list[str]:
    with pytest.raises(ParamsError) as fault:
        load(text)
    *lines, last = str(fault.value).splitlines()
    assert last == "Nothing was changed."
    return [line.rpartition("/")[2] for line in lines]


def test_every_variant_is_run_with_every_combination_and_every_seed(load: Any) -> None:
    study = load(STUDY)
    names = [f"{name} hidden_units={units}" for name in ("relu", "tanh") for units in ("[64]", "[32,16]")]
    assert [(run.variant, run.seed) for run in study.runs] == [(name, seed) for seed in (1, 2) for name in names]
    last = study.runs[-1].params
    assert (last.model.activation, last.model.hidden_units, last.train.epochs, last.seed) == ("tanh", (32, 16), 2, 2)
    assert study.varied == ("model.hidden_units", "model.activation")
    assert study.runs[0].name == "relu hidden_units=[64] seed 1"


def test_a_run_is_params_yaml_with_its_values(load: Any, tmp_path: Path) -> None:
    run = load(STUDY).runs[-1]
    (tmp_path / "own.yaml").write_text(run.text)
    assert load_params(tmp_path / "own.yaml") == run.params
    assert "# true: many steps as one" in run.text  # comments stay
    asked = re.sub(r"\n  - .*", "", small.SHIPPED.read_text()).splitlines()  # lists stand below their keys
    made = re.sub(r"\n  - .*", "", run.text).splitlines()
    assert len(asked) == len(made)
    changed = [
        one.split(":")[0].strip() for one, other in zip(asked, made, strict=True) if one.split() != other.split()
    ]
    assert changed == ["seed", "activation", "epochs"]
    assert "  hidden_units:\n  - 32\n  - 16\n" in run.text


def test_a_key_is_of_what_decides_the_result_alone(load: Any, tmp_path: Path) -> None:
    first = load(STUDY).runs
    other = load(
        "question: Another\nseeds: [2]\nbaseline: a\nfixed: {train.epochs: 2}\nvariants:\n"
        "  a: {model.activation: tanh, model.hidden_units: [32, 16]}\n  b: {model.dropout: 0.2}\n"
    ).runs
    assert len({run.key for run in first}) == len(first)
    assert other[0].key == first[-1].key
    (tmp_path / "params.yaml").write_text(
        small.SHIPPED.read_text().replace("experiment: keras-pipeline", "experiment: x")
    )
    assert [run.key for run in load(STUDY).runs] == [run.key for run in first]


def test_optional_keys_and_whole_blocks_can_vary(load: Any) -> None:
    study = load(
        "question: Which optimizer?\nseeds: [1]\nbaseline: sgd\nvariants:\n"
        "  sgd: {train.optimizer: {name: sgd, learning_rate: 0.1}}\n"
        "  momentum: {train.optimizer.name: sgd, train.optimizer.momentum: 0.9}\n"
    )
    first, second = (run.params.train.optimizer for run in study.runs)
    assert (first.name, first.learning_rate) == ("sgd", 0.1)
    assert second.model_dump(exclude_unset=True) == {"name": "sgd", "learning_rate": 0.003, "momentum": 0.9}


def test_tuned_values_are_runs_of_the_same_variant(load: Any) -> None:
    study = load(
        "question: Which?\nseeds: [1]\nbaseline: relu\nvariants:\n  relu: {model.activation: relu}\n"
        "  tanh: {model.activation: tanh}\ntuned: {train.optimizer.learning_rate: [0.001, 0.01]}\n"
    )
    assert [(run.variant, run.tuned) for run in study.runs] == [
        ("relu", "learning_rate=0.001"), ("relu", "learning_rate=0.01"),
        ("tanh", "learning_rate=0.001"), ("tanh", "learning_rate=0.01"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("question: Does it matter?\n", "", "asked.yaml:1:1: question: missing. Add it: a string"),
        ("seeds: [1, 2]", "seeds: [1, 2, 1]", "asked.yaml:2:8: seeds: a seed stands twice."),
        ("seeds: [1, 2]", "seeds: [1, -2]", "asked.yaml:2:12: seeds[1]: -2 is out of range."),
        ("seeds: [1, 2]", "seeds: 5", "asked.yaml:2:8: seeds: 5 is a whole number. A list is expected: write [5]."),
        ("baseline: relu hidden_units=[64]", "baseline: rleu", "asked.yaml:3:11: baseline: 'rleu' is no variant. "
         "Expected: one of relu hidden_units=[64], relu hidden_units=[32,16], tanh hidden_units=[64], "),
        ("baseline:", "basline:", "asked.yaml:3:1: basline: this key is not known here."),
        ("epochs: 2", "epochs: many", "asked.yaml:5:17: train.epochs: 'many' is a string. A whole number is expected"),
        ("epochs: 2", "epochs: 0", "asked.yaml:5:17: train.epochs: 0 is out of range. Expected: 1 <= value <= 10000."),
        ("train.epochs: 2", "train.epoch: 2", "asked.yaml:5:3: train.epoch: this key is not known here."),
        ("train.epochs: 2", "trian.epochs: 2", "asked.yaml:5:3: trian: this key is not known here."),
        ("train.epochs: 2", "seed: 2", "asked.yaml:5:9: fixed.seed: does not belong here. Use the study's own key"),
        ("train.epochs: 2", "export.accuracy_loss: 1", "asked.yaml:5:25: fixed.'export.accuracy_loss': does not"),
        ("train.epochs: 2", "tracking.experiment: a", "asked.yaml:5:24: fixed.'tracking.experiment': does not belong"),
        ("activation: tanh", "activation: tahn", "asked.yaml:8:28: model.activation: 'tahn' is not known. Allowed: "),
        ("activation: tanh", "output_activation: sigmoid", "asked.yaml:8:35: model.output_activation: 'sigmoid' gives"),
        ("activation: tanh", "hidden_units: [8]", "asked.yaml:8:30: variants.tanh.'model.hidden_units': stands in"),
        ("[[64], [32, 16]]", "[[64], [64]]", "asked.yaml:10:23: grid.'model.hidden_units': a value stands twice."),
        ("[[64], [32, 16]]", "[]", "asked.yaml:10:23: grid.'model.hidden_units': 0 is not the right number of items."),
        ("[[64], [32, 16]]", "[[64], [x]]", "asked.yaml:10:31: model.hidden_units[0]: 'x' is a string."),
        ("  relu:", "  '|relu':", "asked.yaml:7:3: variants.'|relu'"),
        ("variants:\n", "variants: &a\n", "asked.yaml:6:11: variants: an anchor ('&'). Anchors are refused"),
        ("train.epochs: 2", "train.schedule.warmup_epochs: 20", "asked.yaml:5:33: train.schedule.warmup_epochs: 20"),
    ],
)  # fmt: skip
def test_a_fault_is_told_at_its_line(load: Any, old: str, new: str, expected: str) -> None:
    assert STUDY.count(old) == 1
    lines = faults(
        load,
        STUDY.replace(old, new),
    )
    assert any(line.startswith(expected) for line in lines), lines


def test_a_value_of_params_yaml_that_does_not_go_with_a_variant_is_told_there(load: Any, tmp_path: Path) -> None:
    text = "question: a\nseeds: [1]\nbaseline: b\nfixed: {train.epochs: 1}\nvariants: {b: {}}\n"
    (line,) = faults(load, text)
    number = 1 + small.SHIPPED.read_text().splitlines().index(
        next(line for line in small.SHIPPED.read_text().splitlines() if "warmup_epochs" in line)
    )
    assert line.startswith(f"params.yaml:{number}:20: train.schedule.warmup_epochs: 1 leaves nothing of 1 epochs")
    assert line.endswith("(b)")


def test_variants_that_are_the_same_and_studies_of_nothing_are_refused(load: Any) -> None:
    same = "question: a\nseeds: [1]\nbaseline: b\nvariants: {b: {model.dropout: 0.1}, c: {model.dropout: 0.1}}\n"
    assert faults(load, same) == [
        "asked.yaml:4:1: the variants 'b' and 'c' have the same params. Expected: different ones."
    ]
    (line,) = faults(load, "question: a\nseeds: [1]\nbaseline: b\n")
    assert line.startswith("asked.yaml:1:1: variants: nothing varies. Expected: named variants, a grid, or both.")


def test_too_many_runs_are_refused_before_anything_is_made(load: Any) -> None:
    values = json.dumps([round(0.001 * step, 3) for step in range(1, 51)])
    text = f"question: a\nseeds: {list(range(50))}\nbaseline: dropout=0.001\ngrid:\n  model.dropout: {values}\n"
    assert faults(load, text) == ["asked.yaml:4:1: grid: 2500 runs come of it. Expected: 2000 at most."]


def test_a_grid_of_more_runs_than_memory_holds_is_refused_at_once(load: Any) -> None:
    keys = ("model.dropout", "model.l2", "train.epochs", "train.batch_size", "train.optimizer.learning_rate")
    grid = "".join(f"  {key}: {list(range(1, 61))}\n" for key in keys)
    for block in ("grid", "tuned"):
        began = time.thread_time()
        (line,) = faults(load, f"question: a\nseeds: [1]\nbaseline: b\nvariants: {{b: {{}}}}\n{block}:\n{grid}")
        assert line == f"asked.yaml:5:1: {block}: more than a million runs come of it. Expected: 2000 at most."
        assert time.thread_time() - began < 1


@pytest.mark.parametrize("path", sorted((small.SHIPPED.parent / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_study_is_good_and_measured_with_five_seeds_and_discussed(path: Path) -> None:
    study = load_study(path, small.SHIPPED)
    assert len(study.settings.seeds) >= 5
    reports = small.SHIPPED.parent / "docs" / "studies"
    found = json.loads((reports / f"{path.stem}.json").read_text())
    assert [one["variant"] for one in found["variants"]] == list(dict.fromkeys(run.variant for run in study.runs))
    for one in found["variants"]:
        assert len(one["test/accuracy"]) + len(one["diverged"]) == len(study.settings.seeds)
    text = (reports / f"{path.stem}.md").read_text()
    assert len(study.settings.discussion.split()) > 50
    assert study.settings.discussion.strip() in text
    pictures = re.findall(r"\]\((.+\.png)\)", text)
    assert pictures
    assert all((reports / one).is_file() for one in pictures)
    assert f"[{path.stem}]({path.stem}.md)" in (reports / "README.md").read_text()

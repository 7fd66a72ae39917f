"""A search's file: what is good, and what is said of one that is not."""

import re
from pathlib import Path

import pytest

import small
from asked_search import GOOD, load
from keras_pipeline.cli import main
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.searches import search


def test_a_good_file_knows_which_keys_are_whole(tmp_path: Path) -> None:
    text = f"{GOOD}  train.epochs: {{low: 2, high: 9}}\n  model.dropout: {{low: 0, high: 0.5}}\n"
    assert load(tmp_path, text).integer_keys == {"train.batch_size", "train.epochs"}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("maximize: val/accuracy", "maximize: val/loss", "s.yaml:2:11: maximize: "),
        ("maximize: val/accuracy\n", "", "s.yaml:1:1: maximize: it is not said what is sought."),
        ("trials: 4", "minimize: val/loss\ntrials: 4", "s.yaml:2:11: maximize: both maximize and minimize stand here."),
        ("trials: 4", "trials: 0", "s.yaml:3:9: trials: 0 is out of range."),
        ("seeds: [2, 3]", "seeds: [2, 1]", "s.yaml:5:8: seeds: 1 is the trials' own seed."),
        ("seeds: [2, 3]", "seeds: [2, 2]", "s.yaml:5:8: seeds: a seed stands twice."),
        ("seeds: [2, 3]", "seeds: [2]", "s.yaml:5:8: seeds: "),
        (
            "log: true",
            "log: true, step: 1",
            "s.yaml:7:76: space.'train.optimizer.learning_rate'.step: a range on a",
        ),
        ("low: 0.0001", "low: 0.0", "s.yaml:7:40: space.'train.optimizer.learning_rate'.low: 0.0 has no logarithm."),
        ("high: 0.1", "high: 0.00001", "s.yaml:7:54: space.'train.optimizer.learning_rate'.high: 1e-05 is not above"),
        ("high: 0.1", "high: 2000", "s.yaml:7:54: train.optimizer.learning_rate: 2000 is out of range."),
        ("low: 50", "low: 50.0", "s.yaml:9:27: train.batch_size: 50.0 is not accepted. Expected: a whole number"),
        ("step: 50", "step: 30", "s.yaml:9:48: space.'train.batch_size'.step: 30 does not lead from 50 to 150."),
        ("step: 50", "step: 12.5", "s.yaml:9:48: space.train.batch_size.step: 12.5 is not whole"),
        ("[32]]", "[0]]", "s.yaml:8:41: model.hidden_units[0]: 0 is out of range."),
        ("[32]]", "[16]]", "s.yaml:8:33: space.'model.hidden_units'.choices: a value stands twice."),
        ("{choices: [[16], [32]]}", "{low: 16, high: 32}", "s.yaml:8:29: model.hidden_units: "),
        ("{choices: [[16], [32]]}", "{}", "s.yaml:8:3: space.'model.hidden_units'.choices: no range and no choices."),
        ("{choices: [[16]", "{low: 1, choices: [[16]", "s.yaml:8:29: space.'model.hidden_units'.low: belongs to a"),
        ("model.hidden_units:", "model.hiden_units:", "s.yaml:8:3: model.hiden_units: this key is not known here."),
        ("model.hidden_units:", "tracking.experiment:", "s.yaml:8:3: space.'tracking.experiment': does not belong"),
        ("space:\n", "space:\n  seed: {low: 1, high: 9}\n", "s.yaml:7:3: space.seed: does not belong here. Use the"),
        ("space:\n", "fixed: {train.batch_size: 50}\nspace:\n", "s.yaml:10:3: space.'train.batch_size': stands in"),
        ("space:\n", "fixed: {train.epochs: 0}\nspace:\n", "s.yaml:6:23: train.epochs: 0 is out of range."),
        ("  train.optimizer.learning_rate: {low: 0.0001, high: 0.1, log: true}\n", "", "s.yaml:3:9: trials: 7, but"),
        (
            "space:\n",
            "fixed: {normalize.training_images: 1000, train.workers: 2, train.strategy: multi_worker}\nspace:\n",
            "s.yaml:6:36: train.workers: 2, but each run here is one process.",
        ),
        ("seed: 1", "sampler: grid\nseed: 1", "s.yaml:4:10: sampler: 'grid' is not known."),
    ],
)
def test_a_fault_is_told_with_its_place(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new)
    if "trials: 7" in expected:
        text = text.replace("trials: 4", "trials: 7")
    with pytest.raises(ParamsError) as fault:
        load(tmp_path, text)
    first = str(fault.value).splitlines()[0].removeprefix(f"{tmp_path}/")
    assert first.startswith(expected)
    assert str(fault.value).endswith("\nNothing was changed.")


def test_numbers_and_odd_names_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    numbers = {
        "fetch.dataset": "line",
        "normalize.scaling": "standard",
        "model.output_activation": "linear",
        "train.loss": "mean_squared_error",
    }
    with pytest.raises(ParamsError, match=r"fetch\.dataset: line, but accuracies are compared here"):
        load(tmp_path, GOOD, numbers)
    (tmp_path / "größe 1.yaml").write_text(GOOD)
    with pytest.raises(ParamsError, match=r"größe 1\.yaml: its name is that of its report"):
        search.load_search(tmp_path / "größe 1.yaml", small.SHIPPED)


def test_both_ends_of_a_range_are_tried_with_what_is_fixed(tmp_path: Path) -> None:
    with pytest.raises(ParamsError) as fault:
        load(tmp_path, GOOD.replace("space:\n", "space:\n  train.epochs: {low: 1, high: 9}\n"))
    assert "train.schedule.warmup_epochs: 1 leaves nothing of 1 epochs" in str(fault.value)
    assert "(train.epochs: 1)" in str(fault.value)
    with pytest.raises(ParamsError) as fault:
        load(tmp_path, GOOD.replace("space:\n", "fixed: {train.strategy: mirrored, train.devices: 4}\nspace:\n"))
    assert "of 1293 training images cannot be shared evenly by 4 replicas" in str(fault.value)
    even = "normalize.training_images: 1200, train.strategy: mirrored, train.devices: 4"
    with pytest.raises(ParamsError) as fault:
        load(tmp_path, GOOD.replace("space:\n", f"fixed: {{{even}}}\nspace:\n"))
    assert "50 is the global batch and cannot be shared evenly" in str(fault.value)


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        ("bad: 3\n", "s.yaml:6:1: bad: this key is not known here. Allowed: goal, maximize"),
        ("fixed: {train.epoch: 2}\n", "s.yaml:6:9: train.epoch: this key is not known here. Allowed: epochs"),
        ("fixed: {train.epochs: two}\n", "s.yaml:6:23: train.epochs: 'two' is a string. A whole number is expected."),
        ("fixed: {seed: 2}\n", "s.yaml:6:15: fixed.seed: does not belong here."),
        ("fixed: {fetch.dataset: line}\n", "params:29:24: model.output_activation: 'softmax' does not fit"),
    ],
)
def test_a_list_of_searches_refuses_what_a_search_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], added: str, expected: str
) -> None:
    load(tmp_path, GOOD)
    params, folder = (tmp_path / "params.yaml").rename(tmp_path / "params"), str(tmp_path)
    (tmp_path / "s.yaml").write_text(GOOD.replace("space:\n", f"{added}space:\n"))
    options = ["--searches", folder, "--studies", folder, "--params", str(params)]
    assert main.main(["search", "list", *options]) == 2
    assert f"{tmp_path}/{expected}" in capsys.readouterr().err


def test_the_shipped_search_is_good() -> None:
    found = search.load_search(small.SHIPPED.parent / "searches" / "mlp.yaml", small.SHIPPED)
    assert found.baseline.values["train.epochs"] == 20


def test_the_identity_changes_with_what_decides_a_value_only(tmp_path: Path) -> None:
    first = load(tmp_path, GOOD).identity("code", "data")
    for other in (
        load(tmp_path, GOOD.replace("trials: 4", "trials: 5")),
        load(tmp_path, GOOD.replace("seeds: [2, 3]", "seeds: [4, 5]")),
        load(tmp_path, GOOD, {"train.batch_size": 50}),
        load(tmp_path, GOOD, {"tracking.experiment": "other"}),
    ):
        assert other.identity("code", "data") == first
    for other in (
        load(tmp_path, GOOD.replace("seed: 1", "seed: 7")),
        load(tmp_path, GOOD.replace("high: 0.1", "high: 0.2")),
        load(tmp_path, GOOD.replace("space:", "fixed: {train.epochs: 3}\nspace:")),
        load(tmp_path, GOOD, {"model.dropout": 0.1}),
    ):
        assert other.identity("code", "data") != first
    assert load(tmp_path, GOOD).identity("code", "other") != first != load(tmp_path, GOOD).identity("other", "data")


@pytest.mark.parametrize(
    ("text", "drawn", "whole", "expected"),
    [
        ("{low: 0.0001, high: 0.1}", 0.012345678, False, 0.01235),
        ("{low: 0.00012345, high: 0.1}", 0.00012346, False, 0.0001235),
        ("{low: 0.00012354, high: 0.1}", 0.00012354, False, 0.00012354),
        ("{low: 0.1, high: 0.1234549}", 0.1234549, False, 0.1234549),
        ("{low: 0.0, high: 1.0, step: 0.1}", 0.30000000000000004, False, 0.3),
        ("{low: 1, high: 9}", 4.0, True, 4),
    ],
)
def test_a_drawn_number_is_short_and_within_its_range(text: str, drawn: float, whole: bool, expected: float) -> None:
    low, high = (float(one) for one in re.findall(r"(?:low|high): ([\d.]+)", text))
    step = re.search(r"step: ([\d.]+)", text)
    dimension = search.Dimension(low=low, high=high, step=float(step[1]) if step else None)
    got = search.round_number(dimension, drawn, integer=whole)
    assert low <= got <= high
    assert got == expected

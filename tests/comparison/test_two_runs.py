"""Two runs compared: their differences, and their numbers against SciPy's, statsmodels' and scikit-learn's."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from scipy import stats
from statsmodels.stats import multitest

from compared_runs import CLASSES, IMAGES, LABELS, NONE, made, nowhere, record, with_data
from keras_pipeline.comparison import find_run, two_runs
from keras_pipeline.comparison.find_run import PREDICTIONS, RECORD, SCORES, FoundRun
from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError
from keras_pipeline.data.earlier import FACTS
from keras_pipeline.evaluation import binary, multiclass

# What differed.


def test_many_names_of_classes_are_told_by_the_first_and_a_digest() -> None:
    names = [f"class {number}" for number in range(1000)]
    told = two_runs._named(names)
    assert told.startswith("class 0, class 1, ")
    assert " and 970 more (" in told
    assert two_runs._named([*names[:-1], "another"]) != told
    assert two_runs._named(names[:3]) == "class 0, class 1, class 2"


def test_nothing_differs_between_a_record_and_itself() -> None:
    assert two_runs.find_differences(record(), record("b" * 32, started=1.0, ended=2.0, train_seconds=9.0)) == {}


def test_each_kind_of_difference_is_told_and_nothing_else() -> None:
    a, b = record(host="one"), record(host="two")
    b["params"] = {**a["params"], "model.dropout": 0.5, "model.new": "yes"}
    del b["params"]["model.l2"]
    b["dataset"] = json.loads(json.dumps(a["dataset"]))
    b["dataset"]["scaling"]["offset"] = 34.0
    b["dataset"]["images"]["train"] = 80
    b["dataset"]["sha256"]["train_images.npy"] = "f" * 64
    b["sha256"] = {**a["sha256"], "code": "9" * 64}
    b["git"] = {"commit": None, "dirty": None, "reason": "no repository"}
    b["versions"] = {**a["versions"], "keras": "3.16.0"}
    b["environment"] = ["keras==3.16.0", "numpy==2.5.0"]
    b["machine"] = {**a["machine"], "cores": "8"}
    b["strategy"] = {**a["strategy"], "devices": ["/gpu:0", "/gpu:1"], "replicas": 2}
    assert two_runs.find_differences(a, b) == {
        "params": [
            ("model.dropout", "0.3", "0.5"),
            ("model.l2", "1e-05", "–"),
            ("model.new", "–", "yes"),
        ],
        "data": [
            ("scaling", "name standard, offset 33.5, divisor 78.25", "name standard, offset 34.0, divisor 78.25"),
            ("train images", "90", "80"),
            ("train_images.npy", "069000000000", "ffffffffffff"),
        ],
        "code": [("digest", "333333333333", "999999999999"), ("commit", "cccccccccccc", "no repository")],
        "versions": [("keras", "3.15.1", "3.16.0"), ("numpy", "2.4.6", "2.5.0")],
        "machine": [("cores", "2", "8"), ("host", "one", "two"), ("devices", "/cpu:0", "/gpu:0, /gpu:1")],
    }


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (with_data(), True),
        (with_data("images"), False),
        (with_data("labels"), False),
        (with_data(dataset="mnist"), False),
        (with_data("images", scaling=NONE), False),
        (with_data("images", facts=FACTS), True),  # of an earlier version
        (with_data("labels", scaling=NONE), False),
    ],
)
def test_test_images_are_the_same_also_where_they_are_scaled_otherwise(other: dict[str, Any], same: bool) -> None:
    assert two_runs.have_same_test_images(record(), other) is same
    assert (two_runs.compare_answers(made(), made(2, run=other)) is not None) is same


# The numbers.


def test_the_differences_are_those_of_scipy_statsmodels_and_scikit_learn() -> None:
    a, b = made(1, 0.85), made(2, 0.92)
    found = two_runs.compare_answers(a, b)
    assert found
    assert found.flips
    right_a, right_b = (run.outputs.argmax(axis=1) == LABELS for run in (a, b))
    assert sorted(found.flips.only_a) == np.flatnonzero(right_a & ~right_b).tolist()
    assert sorted(found.flips.only_b) == np.flatnonzero(right_b & ~right_a).tolist()
    assert found.flips.both + found.flips.neither + len(found.flips.only_a) + len(found.flips.only_b) == IMAGES
    assert found.flips.both == np.count_nonzero(right_a & right_b)
    # McNemar's exact test is the sign test of those that flipped.
    flips = len(found.flips.only_a) + len(found.flips.only_b)
    assert found.compared["test/accuracy"].p == pytest.approx(stats.binomtest(len(found.flips.only_a), flips).pvalue)
    assert found.compared["test/accuracy"].difference == pytest.approx(
        b.scores["test/accuracy"] - a.scores["test/accuracy"]
    )
    assert found.compared["test/log_loss"].difference == pytest.approx(
        b.scores["test/log_loss"] - a.scores["test/log_loss"]
    )
    losses = [sklearn.metrics.log_loss(LABELS, multiclass.probabilities(run.outputs)) for run in (a, b)]
    assert found.compared["test/log_loss"].difference == pytest.approx(losses[1] - losses[0])


def test_the_intervals_are_those_of_a_paired_bootstrap() -> None:
    a, b = made(1, 0.85), made(2, 0.92)
    found = two_runs.compare_answers(a, b)
    assert found
    assert found.flips
    right = [(run.outputs.argmax(axis=1) == LABELS).astype(float) for run in (b, a)]
    losses = [-np.log(multiclass.probabilities(run.outputs)[np.arange(IMAGES), LABELS]) for run in (b, a)]
    for scores, compared in ((right, found.compared["test/accuracy"]), (losses, found.compared["test/log_loss"])):
        drawn = stats.bootstrap(
            scores,
            lambda ours, theirs, axis: ours.mean(axis=axis) - theirs.mean(axis=axis),
            paired=True,
            n_resamples=4000,
            method="percentile",
            rng=7,
        )
        width = compared.high - compared.low
        assert width > 0
        assert compared.low == pytest.approx(drawn.confidence_interval.low, abs=0.1 * width)
        assert compared.high == pytest.approx(drawn.confidence_interval.high, abs=0.1 * width)


def test_each_class_is_compared_and_its_p_corrected() -> None:
    a, b = made(1, 0.7), made(2, 0.95)
    found = two_runs.compare_answers(a, b)
    assert found
    assert list(found.recalls) == list(range(10))
    recalls = [sklearn.metrics.recall_score(LABELS, run.outputs.argmax(axis=1), average=None) for run in (a, b)]
    assert [one.difference for one in found.recalls.values()] == pytest.approx(list(recalls[1] - recalls[0]))
    p_values = [one.p for one in found.recalls.values()]
    assert [one.p_adjusted for one in found.recalls.values()] == pytest.approx(
        multitest.multipletests(p_values, method="holm")[1].tolist()
    )
    assert min(p_values) < min(one.p_adjusted for one in found.recalls.values())


PARAMS = [("model.dropout", "0.3", "0.5"), ("train.optimizer.name", "adam", "sgd"), ("train.epochs", "5", "6")]


@pytest.mark.parametrize(
    ("differing", "names"),
    [
        ({}, ("", "")),
        ({"params": PARAMS[:1], "code": [("commit", "a", "b")]}, ("dropout=0.3", "dropout=0.5")),
        ({"params": PARAMS[:2]}, ("dropout=0.3, optimizer=adam", "dropout=0.5, optimizer=sgd")),
        ({"params": PARAMS}, ("dropout=0.3, optimizer=adam, …", "dropout=0.5, optimizer=sgd, …")),
        ({"params": [("seed", "1", two_runs.LACKING)]}, ("seed=1", "seed=–")),
        ({"params": [("model.layers", "x" * 99, "[]")]}, (f"layers={'x' * 24}", "layers=[]")),
        ({"code": [("digest", "1", "2"), ("commit", "ab", "cd")]}, ("commit=ab", "commit=cd")),
        ({"data": [("dataset", "mnist", "digits")]}, ("", "")),
    ],
)
def test_runs_are_called_by_what_differs(differing: dict[str, two_runs.Rows], names: tuple[str, str]) -> None:
    assert two_runs.distinguishing_names(differing) == names


def test_the_surest_mistakes_come_first() -> None:
    found = two_runs.compare_answers(made(1), made(2))
    assert found
    assert found.flips
    for chosen, wrong in ((found.flips.only_a, made(2)), (found.flips.only_b, made(1))):
        confidence = multiclass.probabilities(wrong.outputs).max(axis=1)[chosen]
        assert len(chosen) > 10
        assert list(confidence) == sorted(confidence, reverse=True)


def test_the_verdict_says_what_chance_could_do() -> None:
    same = two_runs.compare_answers(made(1), made(1))
    assert same is not None
    assert same.verdict() == "no difference: both have the same test images right"
    number = r"[+-]?\d+\.\d\d"
    close = two_runs.compare_answers(made(1), made(2))
    assert close is not None
    assert close.compared["test/accuracy"].p > 0.05
    assert re.fullmatch(
        rf"no difference larger than chance among test images: {number} points \[{number}, {number}\], "
        r"McNemar's p 0\.\d+",
        close.verdict(),
    )
    for first, second, word in ((0.7, 0.95, "better"), (0.95, 0.7, "worse")):
        far = two_runs.compare_answers(made(1, first), made(2, second))
        assert far is not None
        assert re.fullmatch(
            rf"B is {word}: {number} points \[{number}, {number}\], McNemar's p < 1e-6: larger than chance among "
            "test images",
            far.verdict(),
        )


def test_answers_to_other_labels_than_the_records_say_are_refused() -> None:
    other = replace(made(2), labels=(LABELS + 1) % CLASSES)
    with pytest.raises(DataError, match="by their records tested on the same images, but the labels"):
        two_runs.compare_answers(made(1), other)


# Other tasks.


def against_the_rest(seed: int, folder: str) -> FoundRun:
    """A run that tells sevens from the rest, found in its folder."""
    seven = (LABELS == 7).astype(np.int64)
    random = np.random.default_rng(seed)
    answers = np.clip(0.7 * seven + random.uniform(0, 0.6 - 0.1 * seed, IMAGES), 0, 1).astype(np.float32)[:, None]
    run = record(f"{seed:032x}")
    run["dataset"] |= {"task": "binary", "class_names": ["not 7", "7"]}
    files.write_json(Path(folder, RECORD), run)
    Path(folder, "reports").mkdir()
    np.savez(Path(folder, PREDICTIONS), outputs=answers, labels=seven, loss=0.0)
    scores = binary.binary_scores(answers, seven, 0.0, 15)
    files.write_json(Path(folder, SCORES), scores)
    return find_run.find_run(folder, nowhere)


def test_one_class_against_the_rest_is_compared_as_several_classes_are() -> None:
    a, b = against_the_rest(0, "a"), against_the_rest(1, "b")
    assert (a.outputs.shape, a.task.name) == ((IMAGES, 2), "binary")
    found = two_runs.compare_answers(a, b)
    assert found
    assert found.flips
    for metric in ("test/accuracy", "test/log_loss"):
        assert found.compared[metric].difference == pytest.approx(b.scores[metric] - a.scores[metric])
    flips = len(found.flips.only_a), len(found.flips.only_b)
    assert sum(flips) > 3
    assert found.compared["test/accuracy"].p == pytest.approx(stats.binomtest(flips[0], sum(flips)).pvalue)
    assert two_runs.compare_answers(a, made(1)) is None  # asked for all ten: another question
    assert ("classes", "not 7, 7") in [row[:2] for row in two_runs.find_differences(a.record, record())["data"]]

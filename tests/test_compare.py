"""Two runs compared: found wherever they are, their numbers against SciPy's, statsmodels' and scikit-learn's."""

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from numpy.typing import NDArray
from scipy import stats

import tracking_fixtures
from keras_pipeline.comparison import find_run, page, report, two_runs
from keras_pipeline.comparison.find_run import PREDICTIONS, RECORD, SCORES, FoundRun
from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError, MachineError, ParamsError
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.evaluation import binary, classes, regression
from real_workspace import IDENTITY, ONE_THREAD, Workspace, origin

IMAGES, CLASSES = 400, 10
LABELS = np.random.default_rng(0).integers(0, CLASSES, IMAGES)


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, which belongs to no git repository, with a git that has no settings."""
    monkeypatch.chdir(tmp_path)
    for name, value in {**IDENTITY, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CEILING_DIRECTORIES": "/"}.items():
        monkeypatch.setenv(name, value)


def record(key: str = "a" * 32, **changes: Any) -> dict[str, Any]:
    """A run's record, complete."""
    strategy = {"name": "none", "asked": "none", "backend": "tensorflow", "workers": 1, "replicas": 1}
    strategy |= {"batch_per_replica": 128}
    machine = {"processor": "Z80", "cores": "2", "onednn": "default", "threads": "default"}
    made = tracking_fixtures.record(SHIPPED, key, machine=machine, strategy={**strategy, "devices": ["/cpu:0"]})
    made["dataset"]["images"] = {"train": 90, "validation": 10, "test": IMAGES}
    return {**made, **changes}


SHIPPED = Path(__file__).parents[1] / "params.yaml"


def outputs(seed: int, share: float = 0.9) -> NDArray[np.float32]:
    """Answers of which that share is right."""
    random = np.random.default_rng(seed)
    answered = np.where(random.random(IMAGES) < share, LABELS, random.integers(0, CLASSES, IMAGES))
    values = random.dirichlet(np.ones(CLASSES), IMAGES) + random.uniform(1, 5, (IMAGES, 1)) * np.eye(CLASSES)[answered]
    rows: NDArray[np.float32] = (values / values.sum(axis=1, keepdims=True)).astype(np.float32)
    return rows


def write(folder: Path, run: dict[str, Any], answers: NDArray[np.float32]) -> None:
    """The files of a run, as its stages leave them."""
    files.write_json(folder / RECORD, run)
    (folder / "reports").mkdir(exist_ok=True)
    np.savez(folder / PREDICTIONS, outputs=answers, labels=LABELS, penalty=0.0)
    files.write_json(folder / SCORES, classes.class_scores(answers, LABELS, "categorical_crossentropy", 0.0, 15))


def made(seed: int = 1, share: float = 0.9, run: dict[str, Any] | None = None, asked: str = "it") -> FoundRun:
    answers = outputs(seed, share)
    scores = classes.class_scores(answers, LABELS, "categorical_crossentropy", 0.0, 15)
    return FoundRun(asked, f"folder {asked}", run or record(f"{seed:032x}"), scores, answers, LABELS)


def nowhere(asked: str, artifacts: tuple[str, ...], folder: Path) -> tuple[str, dict[str, Any]]:
    raise ParamsError(f"the store has no run '{asked}'")


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def commit(key: str, seed: int, cache: str = ".dvc/cache") -> str:
    """A commit as DVC makes it: digests in dvc.lock, metrics in git, the rest in the cache; its name."""
    answers = outputs(seed)
    write(Path(), record(key), answers)
    outs = []
    for path in (RECORD, PREDICTIONS):
        content = Path(path).read_bytes()
        digest = hashlib.md5(content).hexdigest()
        files.write_atomically(Path(cache, "files", "md5", digest[:2], digest[2:]), content)
        outs.append({"path": path, "md5": digest})
    files.write_json(Path("dvc.lock"), {"stages": {"all": {"cmd": "x", "outs": outs}}})  # JSON is YAML
    git("init", "--quiet")
    git("add", "dvc.lock", SCORES)
    git("commit", "--quiet", "--allow-empty", "--message", key)
    shutil.rmtree("models")
    shutil.rmtree("reports")
    return git("rev-parse", "HEAD")


# Where runs are found.


def test_answers_of_another_network_are_refused() -> None:
    write(Path("one"), record(), outputs(1))
    Path("one/models/model.keras").write_bytes(b"the network")
    locks = {name: hashlib.md5(name.encode()).hexdigest() for name in ("the network", "one before")}

    def lock(evaluated: str) -> dict[str, Any]:
        deps = [{"path": "models/model.keras", "md5": locks[evaluated]}]
        return {"stages": {"evaluate": {"cmd": "x", "deps": deps}}}

    files.write_json(Path("one/dvc.lock"), lock("the network"))
    assert find_run.find_run("one", nowhere).scores
    files.write_json(Path("one/dvc.lock"), lock("one before"))
    with pytest.raises(DataError, match=r"folder one: reports/ tells of another network than models/model\.keras"):
        find_run.find_run("one", nowhere)


def test_a_run_is_found_in_a_folder() -> None:
    write(Path("studies/runs/one"), record(), outputs(1))
    run = find_run.find_run("studies/runs/one", nowhere)
    assert (run.requested_name, run.location, run.folder) == (
        "studies/runs/one",
        "folder studies/runs/one",
        Path("studies/runs/one"),
    )
    assert run.record == record()
    np.testing.assert_array_equal(run.outputs, outputs(1))
    np.testing.assert_array_equal(run.labels, LABELS)
    assert run.scores["test/accuracy"] == (outputs(1).argmax(axis=1) == LABELS).mean()


def test_a_run_is_found_in_a_git_revision_whatever_the_checkout_holds_now() -> None:
    first = commit("1" * 32, 1)
    commit("2" * 32, 2)
    git("tag", "kept", first)
    for asked, key, seed in (("HEAD", "2" * 32, 2), ("HEAD~1", "1" * 32, 1), ("kept", "1" * 32, 1)):
        run = find_run.find_run(asked, nowhere)
        assert run.record["key"] == key
        np.testing.assert_array_equal(run.outputs, outputs(seed))
        assert run.location.startswith(f"git revision {asked}, commit ")
        assert run.folder is None
    assert not Path("models").exists()


def experiment(name: str, key: str, seed: int) -> str:
    """A DVC experiment: a commit that only a reference below refs/exps names."""
    base = git("rev-parse", "HEAD")
    made = commit(key, seed)
    git("reset", "--quiet", "--hard", base)
    git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/{name}", made)
    return f"refs/exps/{base[:2]}/{base[2:]}/{name}"


def test_a_run_is_found_as_a_dvc_experiment() -> None:
    commit("1" * 32, 1)
    full = experiment("eager-lynx", "2" * 32, 2)
    git("update-ref", "refs/exps/exec/EXEC_HEAD", "HEAD")
    for asked in ("eager-lynx", full):
        run = find_run.find_run(asked, nowhere)
        assert run.record["key"] == "2" * 32
        assert run.location.startswith(f"DVC experiment {asked}, commit ")
    with pytest.raises(ParamsError, match="the store has no run 'EXEC_HEAD'"):
        find_run.find_run("EXEC_HEAD", nowhere)


def test_an_experiment_whose_name_is_given_twice_is_not_chosen_by_chance() -> None:
    commit("1" * 32, 1)
    first = experiment("twice", "2" * 32, 2)
    commit("3" * 32, 3)
    second = experiment("twice", "4" * 32, 4)
    with pytest.raises(ParamsError) as raised:
        find_run.find_run("twice", nowhere)
    head, *lines = str(raised.value).splitlines()
    assert head == "2 commits are called 'twice'. Name one in full:"
    assert {line.split()[0] for line in lines} == {first, second}
    assert find_run.find_run(second, nowhere).record["key"] == "4" * 32
    git("branch", "twice")
    with pytest.raises(ParamsError, match="3 commits are called 'twice'"):
        find_run.find_run("twice", nowhere)


def test_a_folder_comes_before_a_revision_and_that_before_the_store() -> None:
    def stored(asked: str, artifacts: tuple[str, ...], folder: Path) -> tuple[str, dict[str, Any]]:
        assert artifacts == ("reports/metrics.json", "reports/predictions.npz")
        write(folder, record("3" * 32), outputs(3))
        return "digits mlp", record("3" * 32)

    run = find_run.find_run("same", stored)
    assert (run.record["key"], run.location) == ("3" * 32, "MLflow's run digits mlp")
    np.testing.assert_array_equal(run.outputs, outputs(3))
    commit("1" * 32, 1)
    git("branch", "same")
    Path("same/models").mkdir(parents=True)  # a folder, but not a run's
    assert find_run.find_run("same", stored).record["key"] == "1" * 32
    write(Path("same"), record("2" * 32), outputs(2))
    assert find_run.find_run("same", stored).record["key"] == "2" * 32


@pytest.mark.parametrize("kind", [ParamsError, MachineError])
def test_what_is_found_nowhere_is_told_with_every_place(kind: type[ParamsError | MachineError]) -> None:
    def stored(asked: str, artifacts: tuple[str, ...], folder: Path) -> tuple[str, dict[str, Any]]:
        raise kind("the store says why")

    for _ in range(2):
        with pytest.raises(kind) as raised:
            find_run.find_run("nothing", stored)
        assert str(raised.value).splitlines() == [
            "'nothing': no folder with models/ and reports/ in it, no revision of this folder's git repository and no "
            "DVC experiment in it.",
            "the store says why",
        ]
        git("init", "--quiet")  # the same with a repository


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("config", "[core]\n    analytics = false\n[cache]\n    dir = ../elsewhere\n    type = copy\n", "elsewhere"),
        ("config.local", "['remote \"one\"']\n    url = s3://x\n[cache]\n    dir = {here}/far\n", "far"),
        ("config", "not a setting", ".dvc/cache"),
    ],
)
def test_the_cache_is_where_the_settings_of_dvc_say(name: str, text: str, place: str, tmp_path: Path) -> None:
    commit("1" * 32, 1, place)
    files.write_atomically(Path(".dvc", name), text.replace("{here}", str(tmp_path)).encode())
    assert find_run.find_run("HEAD", nowhere).record["key"] == "1" * 32
    shutil.rmtree(Path(place, "files"))
    with pytest.raises(
        DataError,
        match=rf"^git revision HEAD, commit \w+: models/run.json \(MD5 \w+\) is not in DVC's cache \S*{place}",
    ):
        find_run.find_run("HEAD", nowhere)


def damage_the_cache() -> None:
    for path in Path(".dvc/cache/files/md5").glob("*/*"):
        path.write_bytes(b"{}")


def amend(path: str, text: str | None) -> None:
    if text is None:
        git("rm", "--quiet", "--cached", path)
    else:
        files.write_atomically(Path(path), text.encode())
        git("add", path)
    git("commit", "--quiet", "--allow-empty", "--amend", "--message", "other")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (damage_the_cache, r"damaged, it should be models/run\.json"),
        (lambda: amend("dvc.lock", None), r"there is no dvc\.lock in it"),
        (lambda: amend("dvc.lock", "stages: ["), r"its dvc\.lock cannot be read"),
        (lambda: amend("dvc.lock", "stages: {a: 1}"), r"its dvc\.lock cannot be read"),
        (lambda: amend("dvc.lock", "stages: {}"), r"dvc\.lock names no models/run\.json"),
        (lambda: amend(SCORES, None), r"there is no reports/metrics\.json in it"),
        (lambda: amend(SCORES, "{"), r"not the JSON that it should be"),
    ],
)
def test_a_revision_whose_files_are_lacking_is_refused(change: Callable[[], None], text: str) -> None:
    commit("1" * 32, 1)
    change()
    with pytest.raises(DataError, match=rf"(?s)^git revision HEAD, commit \w{{12}}: .*{text}"):
        find_run.find_run("HEAD", nowhere)


def edit_json(path: str, **values: Any) -> None:
    files.write_json(Path(path), {**json.loads(Path(path).read_bytes()), **values})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (Path(RECORD).unlink, r"models/run\.json: not there\. The stage 'train' writes it"),
        (lambda: edit_json(RECORD, versions=3), r"lacks what is needed of versions"),
        (
            lambda: edit_json(RECORD, diverged="in epoch 2"),
            r"the training diverged \(in epoch 2\), so there is no test",
        ),
        (Path(SCORES).unlink, r"reports/metrics\.json: not there\. The stage 'evaluate' writes it"),
        (lambda: edit_json(SCORES, **{"test/accuracy": 0.5}), r"says test/accuracy 0\.5, .* gives 0\.\d+: they are of"),
        (lambda: edit_json(SCORES, **{"test/loss": "0.5"}), r"holds what is no number"),
        (Path(PREDICTIONS).unlink, r"there is no reports/predictions\.npz"),
        (lambda: Path(PREDICTIONS).write_bytes(b"PK\x03\x04 damaged"), r"predictions\.npz cannot be read"),
        (lambda: np.savez(PREDICTIONS, outputs=outputs(1)), r"predictions\.npz cannot be read"),
        (lambda: np.savez(PREDICTIONS, outputs=np.array([{}]), labels=LABELS), r"predictions\.npz cannot be read"),
        (
            lambda: np.savez(PREDICTIONS, outputs=outputs(1)[:-1], labels=LABELS[:-1]),
            r"answers of shape \(399, 10\); expected \(400, 10\) by its record",
        ),
    ],
)
def test_files_that_are_damaged_or_do_not_belong_together_are_refused(change: Callable[[], Any], text: str) -> None:
    write(Path(), record(), outputs(1))
    change()
    with pytest.raises(DataError, match=rf"^folder \.: .*{text}"):
        find_run.find_run(".", nowhere)


# What differed.


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
    b["git"] = {"commit": None, "dirty": True}
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
            ("train_images.npy", "0i0000000000", "ffffffffffff"),
        ],
        "code": [("digest", "333333333333", "999999999999"), ("commit", "cccccccccccc", "none with changes")],
        "versions": [("keras", "3.15.1", "3.16.0"), ("numpy", "2.4.6", "2.5.0")],
        "machine": [("cores", "2", "8"), ("host", "one", "two"), ("devices", "/cpu:0", "/gpu:0, /gpu:1")],
    }


NONE = {"name": "none", "offset": 0.0, "divisor": 1.0}


def with_data(*kinds: str, **changes: Any) -> dict[str, Any]:
    """A record with other test images or labels, or both, and these changes of the dataset."""
    run = record("d" * 32)
    run["dataset"] |= changes
    run["dataset"]["sha256"] |= {f"test_{kind}.npy": "e" * 64 for kind in kinds}
    return run


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (with_data(), True),
        (with_data("images"), False),
        (with_data("labels"), False),
        (with_data(dataset="mnist"), False),
        (with_data("images", scaling=NONE), True),
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
    losses = [sklearn.metrics.log_loss(LABELS, classes.probabilities(run.outputs)) for run in (a, b)]
    assert found.compared["test/log_loss"].difference == pytest.approx(losses[1] - losses[0])


def test_the_intervals_are_those_of_a_paired_bootstrap() -> None:
    a, b = made(1, 0.85), made(2, 0.92)
    found = two_runs.compare_answers(a, b)
    assert found
    assert found.flips
    right = [(run.outputs.argmax(axis=1) == LABELS).astype(float) for run in (b, a)]
    losses = [-np.log(classes.probabilities(run.outputs)[np.arange(IMAGES), LABELS]) for run in (b, a)]
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


def test_the_surest_mistakes_come_first() -> None:
    found = two_runs.compare_answers(made(1), made(2))
    assert found
    assert found.flips
    for chosen, wrong in ((found.flips.only_a, made(2)), (found.flips.only_b, made(1))):
        confidence = classes.probabilities(wrong.outputs).max(axis=1)[chosen]
        assert len(chosen) > 10
        assert list(confidence) == sorted(confidence, reverse=True)


def test_the_verdict_says_what_chance_could_do() -> None:
    same = two_runs.compare_answers(made(1), made(1))
    assert same is not None
    assert same.verdict == "no difference: both have the same test images right"
    number = r"[+-]?\d+\.\d\d"
    close = two_runs.compare_answers(made(1), made(2))
    assert close is not None
    assert close.compared["test/accuracy"].p > 0.05
    assert re.fullmatch(
        rf"no difference larger than chance among test images: {number} points \[{number}, {number}\], "
        r"McNemar's p 0\.\d+",
        close.verdict,
    )
    for first, second, word in ((0.7, 0.95, "better"), (0.95, 0.7, "worse")):
        far = two_runs.compare_answers(made(1, first), made(2, second))
        assert far is not None
        assert re.fullmatch(
            rf"B is {word}: {number} points \[{number}, {number}\], McNemar's p < 1e-6: larger than chance among "
            "test images",
            far.verdict,
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
    np.savez(Path(folder, PREDICTIONS), outputs=answers, labels=seven, penalty=0.0)
    scores = binary.binary_scores(answers, seven, "binary_crossentropy", 0.0, 15)
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


def predicted(seed: int, folder: str, noise: float, offset: float = 100.0) -> FoundRun:
    """A run that predicts a number, found in its folder; `offset`: of the target's scaling."""
    target = Scaling("standard", offset, 20.0)
    true = np.random.default_rng(9).normal(100, 20, IMAGES)
    answers = target.apply(true + np.random.default_rng(seed).normal(0, noise, IMAGES))[:, None]
    run = record(f"{seed:032x}")
    digests = {f"test_{kind}.npy": f"{offset:.0f}".ljust(64, "0") for kind in ("features", "targets")}
    target_scaling = {"name": "standard", "offset": offset, "divisor": 20.0}
    scaling = {"name": "standard", "offset": [offset], "divisor": [1.0]}
    run["dataset"] |= {"task": "regression", "dataset": "diabetes", "class_names": [], "sha256": digests}
    run["dataset"] |= {"target": target_scaling, "scaling": scaling}
    files.write_json(Path(folder, RECORD), run)
    Path(folder, "reports").mkdir()
    np.savez(Path(folder, PREDICTIONS), outputs=answers, targets=target.apply(true), penalty=0.0)
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
    assert re.fullmatch(rf"B is better: -{number[4:]} {interval}: larger than chance among test rows", far.verdict)
    assert re.fullmatch(rf"no difference larger than chance among test rows: {number} {interval}", close.verdict)
    text, _, names = written(a, b, None)
    assert names == ["comparison.html", "comparison.md"]
    assert "paired bootstrap over the 400 test rows" in text
    for word in ("McNemar", "flipped", "images"):
        assert word not in text.replace("train images", "").replace("test images", "")
    told = [row[0] for row in two_runs.find_differences(a.record, b.record)["data"]]
    assert told == ["scaling", "target's scaling", "test_features.npy", "test_targets.npy"]
    lines = list(report.summary_lines(a, b, {}, far))
    assert any(re.fullmatch(r"result:   B: test/r2 0\.\d+, .* on 400 test rows", line) for line in lines)


# The test images, and the page.


def scaled_arrays(folder: Path, run: dict[str, Any]) -> NDArray[np.float32]:
    """A folder as normalize leaves it, as far as test images go; the record gets their digests."""
    images = np.random.default_rng(5).random((IMAGES, 8, 8, 1), dtype=np.float32)
    folder.mkdir(parents=True)
    np.save(folder / "test_images.npy", images)
    np.save(folder / "test_labels.npy", LABELS)
    run["dataset"]["sha256"] |= {
        name: files.file_sha256(folder / name) for name in ("test_images.npy", "test_labels.npy")
    }
    files.write_json(folder / "statistics.json", {**run["dataset"], "normalize": {}})
    return images


def test_the_test_images_are_those_of_a_folder_with_the_digest() -> None:
    run = record()
    images = scaled_arrays(Path("studies/data/digits/0123"), run)
    a, b = made(run=run), made(2)
    Path("studies/data/digits/raw").mkdir()
    folders = list(report.image_folders(a, b, Path("data/normalized")))
    found = two_runs.find_test_images((a, b), folders)
    assert found is not None
    np.testing.assert_array_equal(found, images)
    assert two_runs.find_test_images((made(2), made(3)), folders) is None
    Path("studies/data/digits/0123/test_images.npy").write_bytes(b"altered")
    assert two_runs.find_test_images((a, b), folders) is None


def test_the_test_images_of_a_run_in_a_folder_are_looked_for_beside_it() -> None:
    write(Path("far/studies/runs/one"), record(), outputs(1))
    Path("far/studies/data/digits/0123").mkdir(parents=True)
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


def test_code_stays_code_in_a_table() -> None:
    assert page.markdown_code("a|b`c\n d") == "`a\\|b'c d`"
    from markdown_it import MarkdownIt

    html = (
        MarkdownIt("commonmark")
        .enable("table")
        .render(f"| x | y |\n|---|---|\n| {page.markdown_code('a|<b>')} | z |\n")
    )
    assert "<td><code>a|&lt;b&gt;</code></td>\n<td>z</td>" in html


class Images(HTMLParser):
    """What a page loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe")
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


def written(a: FoundRun, b: FoundRun, images: NDArray[np.float32] | None) -> tuple[str, str, list[str]]:
    """Markdown, HTML and the names of the files."""
    folder = Path("compare")
    answers, differing = two_runs.compare_answers(a, b), two_runs.find_differences(a.record, b.record)
    paths = report.write_report(a, b, differing, answers, images, folder)
    assert sorted(paths) == sorted(folder.iterdir())
    return paths[1].read_text(), paths[0].read_text(), [path.name for path in paths]


def test_the_page_says_all_without_the_test_images() -> None:
    a, b = made(1, 0.75, record(host="<b>|"), "HEAD"), made(2, 0.95, asked=".")
    found = two_runs.compare_answers(a, b)
    assert found
    assert found.flips
    text, html, names = written(a, b, None)
    assert names == ["comparison.html", "comparison.md"]
    assert text.startswith("# `HEAD` against `.`\n\n**B is better: +")
    assert report.ONE_SEED in text
    assert "| `host` | `<b>\\|` | `laptop` |" in text
    for metric, value in a.scores.items():
        other = b.scores[metric]
        assert f"| `{metric}` | {value:.4f} | {other:.4f} | {other - value:+.4f} |" in text
    assert f"[{found.compared['test/log_loss'].low:+.4f}, {found.compared['test/log_loss'].high:+.4f}]" in text
    assert (
        f"| **A right** | {found.flips.both} | {len(found.flips.only_a)} |\n| **A wrong** | {len(found.flips.only_b)} |"
        in text
    )
    assert "Their pictures are left out: the test images are in no folder" in text
    assert "<code>&lt;b&gt;|</code>" in html
    assert Images(html).sources == []
    assert "{" not in text


def test_runs_with_other_test_images_are_not_paired() -> None:
    a, b = made(1), made(2, run=with_data("labels"))
    text, _, _ = written(a, b, None)
    assert "**A and B were tested on different images, or asked different things of them: their metrics stand" in text
    assert "| `test_labels.npy` | `2l0000000000` | `eeeeeeeeeeee` |" in text
    assert f"| `test/accuracy` | {a.scores['test/accuracy']:.4f} | {b.scores['test/accuracy']:.4f} |" in text
    for word in ("McNemar", "flipped", "95 %", report.ONE_SEED):
        assert word not in text
    lines = list(report.summary_lines(a, b, two_runs.find_differences(a.record, b.record), None))
    assert lines[-1] == f"verdict:  {report.OTHER_IMAGES}"
    assert not any(line.startswith("flipped") for line in lines)


def test_a_run_compared_with_itself_is_told_so() -> None:
    a, b = made(1, asked="HEAD"), made(1, asked=".")
    text, _, _ = written(a, b, None)
    assert "**A and B are one and the same run.**" in text
    assert "Nothing that is recorded" in text
    assert "None: both have the same ones right." in text
    lines = list(report.summary_lines(a, b, {}, two_runs.compare_answers(a, b)))
    assert "differs:  nothing that is recorded" in lines
    assert lines[-1] == "verdict:  A and B are one and the same run"


def test_the_lines_say_what_differed_the_accuracies_and_the_verdict() -> None:
    a, b = made(1, 0.85, asked="HEAD"), made(2, 0.92, asked=".")
    b.record["params"] |= {"model.dropout": 0.5}
    b.record["environment"] = [f"package-{number}==1" for number in range(10)]
    found = two_runs.compare_answers(a, b)
    assert found
    assert found.flips
    lines = "\n".join(report.summary_lines(a, b, two_runs.find_differences(a.record, b.record), found)).splitlines()
    assert lines[0] == "A:        digits mlp, key 000000000000: folder HEAD"
    assert lines[2] == "differs:  params: model.dropout 0.3 → 0.5"
    assert "          versions: and 3 more, on the page" in lines
    first, second = a.scores["test/accuracy"], b.scores["test/accuracy"]
    for letter, reached in (("A", first), ("B", second)):
        [line] = [line for line in lines if line.startswith(f"result:   {letter}: ")]
        assert line.startswith(f"result:   {letter}: test/accuracy {reached:.4f} [")
        assert line.endswith("] on 400 test images")
    assert (
        f"flipped:  only A has {len(found.flips.only_a)} test images right, only B {len(found.flips.only_b)}" in lines
    )
    assert lines[-2:] == [f"verdict:  {found.verdict}", f"          {report.ONE_SEED}"]


@pytest.mark.slow  # drawing takes seconds
def test_the_images_that_flipped_are_drawn_both_ways_and_are_inside_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    flipped = report.figures.draw_flipped

    def kept(*arguments: Any) -> Any:
        drawn.append(flipped(*arguments))
        return drawn[-1]

    monkeypatch.setattr(report.figures, "draw_flipped", kept)
    run = record()
    images = scaled_arrays(Path("data/normalized"), run)
    a, b = made(1, 0.75, run), made(2, 0.95)
    b.record["dataset"] = run["dataset"]
    found = two_runs.compare_answers(a, b)
    assert found
    assert found.flips
    assert len(found.flips.only_a) < 36 < len(found.flips.only_b)
    text, html, names = written(a, b, images)
    assert names[2:] == ["only-A-right.png", "only-B-right.png"]
    assert (
        f"![A right, B wrong: all {len(found.flips.only_a)}, those first that B is surest of](only-A-right.png)" in text
    )
    assert (
        f"![B right, A wrong: 36 of {len(found.flips.only_b)}, those first that A is surest of](only-B-right.png)"
        in text
    )
    sources = Images(html).sources
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in sources)
    assert [len(figure.axes) for figure in drawn] == [len(found.flips.only_a), 36]
    for figure, chosen in zip(drawn, (found.flips.only_a, found.flips.only_b), strict=True):
        for axes, index in zip(figure.axes, chosen, strict=False):
            told = [f"true {LABELS[index]}"]
            for letter, one in (("A", a), ("B", b)):
                row = classes.probabilities(one.outputs)[index]
                told.append(f"{letter}: {row.argmax()}  {row.max():.2f}")
            assert axes.get_title() == "\n".join(told)
            np.testing.assert_array_equal(axes.images[0].get_array(), images[index, :, :, 0])
    monkeypatch.undo()
    written(
        made(1, run=run), made(1, run=record("b" * 32, dataset=run["dataset"])), images
    )  # nothing flipped: old ones go


# Real runs.


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .*noload.* loader strategy is deprecated")  # MLflow with SQLAlchemy 2.1
def test_artifacts_of_a_run_are_fetched_from_the_store_and_kept_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras_pipeline.tracking import lookup, runs, store

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    where = tracking_fixtures.checkout(tmp_path / "project").where
    assert lookup.keep_artifacts(where, tracking_fixtures.EXPERIMENT, "a" * 32, [], "compare") is False
    assert not (tmp_path / "project/mlruns").exists()
    ids = []
    write(Path(), record(), outputs(1))
    for experiment in ("study one", "study two"):  # one training, in two studies
        opened = store.connect_store(where, experiment)
        ids.append(runs.ensure_run(opened, record(), "named"))
        opened.client.log_artifact(ids[-1], RECORD)
        opened.client.log_artifact(ids[-1], PREDICTIONS, "reports")
    for wanted in ("digits mlp named", "a" * 32, "aaaaaa", *ids):
        folder = tmp_path / f"fetched-{wanted}"
        folder.mkdir()
        fetched = lookup.download_run(where, tracking_fixtures.EXPERIMENT, wanted, (PREDICTIONS,), folder)
        assert fetched == ("digits mlp named", record())
        assert (folder / PREDICTIONS).read_bytes() == Path(PREDICTIONS).read_bytes()
    with pytest.raises(DataError, match=r"run 'digits mlp named' has no artifact reports/metrics\.json: its training"):
        lookup.download_run(where, tracking_fixtures.EXPERIMENT, "aaaaaa", (SCORES,), folder)
    assert lookup.keep_artifacts(where, tracking_fixtures.EXPERIMENT, "a" * 32, [Path(SCORES)], "compare/x") is True
    assert lookup.keep_artifacts(where, tracking_fixtures.EXPERIMENT, "b" * 32, [Path(SCORES)], "compare/x") is False
    for identity in ids:
        [kept] = opened.client.list_artifacts(identity, "compare/x")
        assert kept.path == "compare/x/metrics.json"


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


def told(output: str, name: str) -> str:
    [line] = [line for line in output.splitlines() if line.startswith(f"{name}:")]
    return line.partition(":")[2].strip()


@pytest.mark.slow
def test_a_folder_a_revision_an_experiment_and_a_run_of_mlflow_are_compared(workspace: Workspace) -> None:
    key = workspace.json(RECORD)["key"]
    first, second = workspace.runs()
    seen = {}
    for asked in ("HEAD .", f"HEAD {key[:8]}", "HEAD wider"):
        output = workspace.good(f"keras-pipeline compare {asked}", **ONE_THREAD)
        assert told(output, "differs") == "params: model.hidden_units [16] → [64]"
        accuracies = [run.metrics["test/accuracy"] for run in (first, second)]
        for letter, accuracy in zip("AB", accuracies, strict=True):
            assert f"result:   {letter}: test/accuracy {accuracy:.4f} [" in output
        folder = told(output, "page").removesuffix("/comparison.html")
        assert told(output, "MLflow") == f"an artifact of B's run, {folder}/comparison.html"
        wanted = {"comparison.html", "comparison.md", "only-A-right.png", "only-B-right.png"}
        for place in (workspace.folder, second.artifacts):
            assert {path.name for path in (place / folder).iterdir()} == wanted
        seen[told(output, "verdict"), told(output, "flipped")] = output
    assert len(seen) == 1  # the same two runs, however they are called
    with np.load(workspace.folder / PREDICTIONS) as saved:
        right = int((saved["outputs"].argmax(axis=1) == saved["labels"]).sum())
    [(_, flipped)] = seen
    only_a, only_b = map(int, re.findall(r"\d+", flipped))
    assert only_b - only_a == right - round(360 * accuracies[0])
    assert (workspace.folder / "compare/HEAD-vs-here").is_dir()
    assert "compare" not in workspace.good("git status --short")


@pytest.mark.slow
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
    assert {path.name for path in (tmp_path / "page").iterdir()} == {"comparison.md", "comparison.html"}


@pytest.mark.slow
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

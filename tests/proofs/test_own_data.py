"""A dataset of each kind, from its files to every verb: trained, compared, studied, searched, certified, asked."""

import csv
import json
from collections.abc import Iterator

import pytest

from files_of_each_kind import FILES
from real_workspace import Workspace, origin

pytestmark = pytest.mark.proof

QUICK = {
    "train__epochs": 20,
    "train__batch_size": 16,
    "train__optimizer__learning_rate": 0.001,
    "model__hidden_units": [64],
    "model__dropout": 0.0,
    "model__batch_normalization": False,
}
STRATEGIES = (
    {"train__strategy": "one_device"},
    {"train__strategy": "mirrored", "train__devices": 2},
    {"train__strategy": "multi_worker", "train__workers": 2},
)


@pytest.fixture(scope="module", params=FILES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A checkout that has added the dataset, trained on it, and committed all."""
    folder = tmp_path_factory.mktemp(request.param)
    workspace = origin(folder / "checkout")
    files = FILES[request.param](folder)
    assert request.param in workspace.good("keras-pipeline dataset add own", str(files))
    workspace.set(fetch__dataset="own", **QUICK)
    workspace.commit()
    workspace.good("dvc repro")
    workspace.commit()
    yield workspace
    workspace.close()


def _share_of_most_common(workspace: Workspace) -> float:
    counts = workspace.json("data/normalized/statistics.json")["class_counts"]["test"]
    return float(max(counts) / sum(counts))


def test_it_is_learned_tracked_and_repeated(trained: Workspace) -> None:
    """The result is better than chance by far; nothing is done twice; MLflow has the run; certify gives the bytes."""
    accuracy = trained.json("reports/metrics.json")["test/accuracy"]
    assert accuracy > 0.5 + _share_of_most_common(trained) / 2
    again = trained.good("dvc repro")
    assert "train" not in [line.split(":")[0] for line in again.splitlines()]
    [run] = trained.runs()
    assert (run.status, run.metrics["test/accuracy"]) == ("FINISHED", accuracy)
    assert "up to date" in trained.good("keras-pipeline status")
    trained.good("keras-pipeline certify")


def test_it_is_looked_at_and_asked(trained: Workspace) -> None:
    """Its page is written, its check finds no damage, and the answers to its own files are better than chance."""
    trained.good("keras-pipeline dataset check own")
    trained.good("keras-pipeline dataset show own --output own.html")
    assert (trained.folder / "own.html").stat().st_size > 1000
    path = next(one for one in trained.folder.parent.iterdir() if one.name not in ("checkout", "home", "logs"))
    asked = path if path.is_dir() and path.name == "pictures" else None
    if asked is None and path.suffix == ".csv":
        asked = path
    if asked is not None:
        trained.good("keras-pipeline predict", str(asked), "--output", "answers.csv")
        with (trained.folder / "answers.csv").open(newline="") as file:
            assert len(list(csv.DictReader(file))) > 100


def test_studies_searches_and_comparisons_take_it(trained: Workspace) -> None:
    """A study and a search run on it, and two runs are compared."""
    study = {"question": "Which?", "seeds": [1, 2], "baseline": "relu", "grid": {"model.activation": ["relu", "tanh"]}}
    study["baseline"] = "activation=relu"
    (trained.folder / "studies" / "own.yaml").write_text(json.dumps(study))
    assert "4 runs" in trained.good("keras-pipeline study run own", timeout=600)
    search = {
        "goal": "Which?", "maximize": "val/accuracy", "trials": 2, "seed": 1, "seeds": [2, 3],
        "space": {"model.hidden_units": {"choices": [[16], [32]]}},
    }  # fmt: skip
    (trained.folder / "searches" / "own.yaml").write_text(json.dumps(search))
    trained.good("keras-pipeline search run own", timeout=600)
    trained.set(train__optimizer__learning_rate=0.002)
    trained.good("dvc repro")
    assert "learning_rate" in trained.good("keras-pipeline compare HEAD .")
    trained.recover()


@pytest.mark.own_processes
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda one: next(iter(one.values())))
def test_every_strategy_trains_on_it(trained: Workspace, strategy: dict[str, object]) -> None:
    """Several devices and several processes train on it."""
    trained.set(normalize__training_images=100, train__batch_size=20, train__epochs=2, **strategy)
    trained.good("dvc repro train", timeout=600)
    assert trained.json("models/run.json")["strategy"]["name"] == strategy["train__strategy"]
    trained.recover()

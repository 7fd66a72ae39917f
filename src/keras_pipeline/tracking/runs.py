"""One MLflow run for one training, found by the key that the training gave itself; the parent runs of studies."""

import hashlib
import json
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from filelock import FileLock

from keras_pipeline.config.tasks import metric_beside_loss
from keras_pipeline.core import files, process
from keras_pipeline.data.splits import split_files
from keras_pipeline.data.statistics import DatasetDescription
from keras_pipeline.data.task_spec import task_spec_from
from keras_pipeline.records.observer import ChildRun
from keras_pipeline.records.record import RunRecord
from keras_pipeline.tracking.store import VERDICT, Store, connect_store, prepare_table
from keras_pipeline.tracking.stores.address import Location, local_path
from keras_pipeline.tracking.stores.connection import SECONDS_A_MEGABYTE
from keras_pipeline.tracking.tags import record_tags, run_title

if TYPE_CHECKING:
    import keras
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run


KEY = "pipeline.key"
LONGEST_VALUE = 500
MODEL_SECONDS = 5
"""How long MLflow may take to make ready and send a network of no size."""
SERVING = ("tensorflow", "keras", "numpy")
"""What a logged model needs where it is served: named, because guessing costs MLflow ten seconds."""


def find_run_id(store: Store, key: str) -> str | None:
    """MLflow's id of the run with this key in the store's experiment."""
    runs = store.client.search_runs([store.experiment], f"tags.`{KEY}` = '{key}'", max_results=1)
    return runs[0].info.run_id if runs else None


def is_deleted(store: Store, key: str) -> bool:
    """Whether somebody deleted the run with this key in MLflow's page."""
    from mlflow.entities import ViewType

    if find_run_id(store, key):
        return False
    asked = f"tags.`{KEY}` = '{key}'"
    return bool(store.client.search_runs([store.experiment], asked, ViewType.DELETED_ONLY, max_results=1))


SHOWN = """
SELECT experiments.name, runs.status, runs.artifact_uri, logged_models.artifact_location
FROM tags JOIN runs USING (run_uuid) JOIN experiments USING (experiment_id)
LEFT JOIN logged_models ON logged_models.source_run_id = runs.run_uuid
WHERE tags.key = ? AND tags.value = ? AND runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active'
"""


def shown_in(database: Path, key: str) -> dict[str, bool]:
    """The experiments of an SQLite store in which its page shows the key's run, and whether the run is whole there:
    closed, with its files and, if MLflow was given one, a network. Read without importing MLflow.

    What was deleted in the page is still in the database, and shown nowhere.
    """
    found: dict[str, bool] = {}
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True)) as opened:
        for experiment, status, kept, network in opened.execute(SHOWN, (KEY, key)):
            whole = status != "RUNNING" and _is_there(kept, "run.json") and _is_there(network, "MLmodel")
            found[experiment] = whole or found.get(experiment, False)
    return found


def _is_there(address: str | None, name: str) -> bool:
    """Whether the folder of artifacts holds a file of this name; one that is none of this machine is believed."""
    folder = local_path(address) if address else None
    return folder is None or (folder / name).is_file()


def ensure_run(store: Store, record: RunRecord, dvc_experiment: str | None) -> str:
    """The id of the record's run, created where it is missing, with all its params and datasets.

    A store that ended between two calls may know the run and not its params: they are sent now.
    """
    from mlflow.entities import Param

    run_id = find_run_id(store, record["key"]) or _create(store, record, dvc_experiment)
    known = store.client.get_run(run_id)
    missing = {key: value for key, value in record["params"].items() if key not in known.data.params}
    if missing:
        store.client.log_batch(run_id, params=[Param(key, shortened(value)) for key, value in missing.items()])
    if not (known.inputs and known.inputs.dataset_inputs):
        _log_datasets(store, run_id, record["dataset"])
    return run_id


def _create(store: Store, record: RunRecord, dvc_experiment: str | None) -> str:
    moment = time.strftime("%m-%d %H:%M:%S", time.localtime(record["started"]))
    # Never MLflow's own names: they repeat when Python's random generator is seeded.
    name = f"{run_title(record)} {dvc_experiment or moment}"
    run_id: str = store.client.create_run(
        store.experiment,
        start_time=_milliseconds(record["started"]),
        tags={KEY: record["key"], **record_tags(record)},
        run_name=name,
    ).info.run_id
    return run_id


def reopen_run(store: Store, run_id: str, record: RunRecord) -> None:
    """Let a run that was closed with its interrupted training go on, with every epoch that it has by now, and with the
    tags of now: the interruption may have been for a commit."""
    from mlflow.entities import RunTag

    store.client.update_run(run_id, status="RUNNING")
    tags = {**record_tags(record), "resumed": ", ".join(record["resumed"])}
    store.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    if record["history"]:
        log_epochs(store, run_id, record["history"])


def log_epochs(store: Store, run_id: str, rows: list[dict[str, float]]) -> None:
    """Each epoch's metrics with step = epoch, at the time they were known; sending them again changes nothing."""
    from mlflow.entities import Metric

    metrics = [
        Metric(name, row[name], _milliseconds(row["time"]), int(row["epoch"]))
        for row in rows
        for name in epoch_metrics(row)
    ]
    for start in range(0, len(metrics), 1000):
        store.client.log_batch(run_id, metrics=metrics[start : start + 1000])


def epoch_metrics(row: Mapping[str, float]) -> tuple[str, ...]:
    """What is sent of an epoch, in the order in which MLflow's page offers it; it compares runs by the first."""
    first = metric_beside_loss(row)
    others = [name.removeprefix("val/") for name in row if name.startswith("val/") and name != f"val/{first}"]
    names = [f"{split}/{name}" for split in ("val", "train") for name in (first, *others)]
    return *names, "train/learning_rate"


SERVED_NETWORK = "artifacts/network.keras"
"""Where a network that MLflow keeps has its file."""


@dataclass(frozen=True)
class ServedNetwork:
    """A network as MLflow serves it, in a folder: its file, which is that of the training, and what `served` must know
    of its dataset."""

    file: Path
    description: Path
    dataset: DatasetDescription


@contextmanager
def served_network(model: "keras.Sequential", dataset: DatasetDescription) -> Iterator[ServedNetwork]:
    """The network as MLflow serves it: see `served`. `dataset`: as the record of the run has it."""
    from keras_pipeline.models import model_file

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        file, description = Path(folder) / "network.keras", Path(folder) / "description.json"
        model_file.save_network(model, file)
        files.write_json(description, {name: dataset[name] for name in SERVED})  # type: ignore[literal-required]
        yield ServedNetwork(file, description, dataset)


SERVED = ("dataset", "task", "input", "class_names", "scaling", "target")
"""What of a dataset's description a served network needs."""


def log_model(store: Store, run_id: str, network: ServedNetwork) -> None:
    """Keep the network with the run."""
    import importlib.metadata

    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    from keras_pipeline.tracking import served

    dataset = network.dataset
    given: Any = dataset["input"]
    if given["kind"] == "images":
        outputs = Schema([TensorSpec(np.dtype(np.float32), (-1, task_spec_from(dataset).outputs))])
    else:
        empty = served.answer_table(
            np.zeros((1, task_spec_from(dataset).outputs), np.float32), dataset["class_names"], given["target"]
        )
        outputs = Schema([ColSpec("string" if name == "label" else "double", name) for name in empty.columns])

    def log() -> None:
        mlflow.set_tracking_uri(store.location.uri)
        with mlflow.start_run(run_id=run_id, log_system_metrics=False):
            mlflow.pyfunc.log_model(
                name="model",
                python_model=served.__file__,
                artifacts={"network": str(network.file), "description": str(network.description)},
                signature=ModelSignature(outputs=outputs),
                input_example=served.example(given),
                metadata={"input": served.described(given)},
                pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in SERVING],
            )

    if store.location.kind == "sqlite":
        log()
    else:  # MLflow makes a folder of some files first, which is not the server's time
        process.within(MODEL_SECONDS + SECONDS_A_MEGABYTE * network.file.stat().st_size / 1e6, log)


def has_model(store: Store, run_id: str) -> bool:
    """Whether a network is kept with the run, complete."""
    kept = kept_networks(store.client, store.client.get_run(run_id))
    return any(store.location.database is None or _is_there(one.artifact_location, "MLmodel") for one in kept)


def kept_networks(client: "MlflowClient", run: "Run") -> list["LoggedModel"]:
    """The networks that MLflow keeps with the run, each sent to its end and not deleted in the page, the oldest
    first. Raises whatever else MLflow does."""
    from mlflow.entities import LoggedModelStatus

    found = []
    for one in run.outputs.model_outputs if run.outputs else []:
        try:
            found.append(client.get_logged_model(one.model_id))
        except Exception as error:
            if getattr(error, "error_code", None) != "RESOURCE_DOES_NOT_EXIST":
                raise
    ready = [one for one in found if one.status == LoggedModelStatus.READY]
    return sorted(ready, key=lambda one: one.creation_timestamp)


def log_text(store: Store, run_id: str, text: str, name: str) -> None:
    """Keep a small text file with the run."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_text(text, encoding="utf-8")
        store.client.log_artifact(run_id, str(file))


def shortened(value: object) -> str:
    """A param's text as MLflow's page shows it well: a list of numbers without its brackets, which the page would
    spread over many lines; a text too long for a column as its beginning and a digest of the whole."""
    text = str(value)
    if text.startswith("[") and "{" not in text:
        text = text.strip("[]") or "none"
    if len(text) <= LONGEST_VALUE:
        return text
    return f"{text[: LONGEST_VALUE - 20]}… {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _log_datasets(store: Store, run_id: str, dataset: DatasetDescription) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    contexts = {"train": "training", "validation": "validation", "test": "testing"}
    inputs = []
    for split, count in dataset["images"].items():
        file = split_files(dataset, split)[0]
        content = dataset["source"]["sha256"] if dataset["source"] else None
        profile = json.dumps(
            {
                "num_rows": count,
                "scaling": dataset["scaling"]["name"],
                "title": dataset["title"],
                "licence": dataset["licence"],
                "input": dataset["input"]["kind"],
                "shape": dataset["shape"],
                **({"sha256 of the source": content} if content else {}),
            }
        )
        source = json.dumps({"uri": f"data/normalized/{file}"})
        inputs.append(
            DatasetInput(
                Dataset(
                    f"{dataset['dataset']} {split}", dataset["sha256"][file][:12], "local", source, profile=profile
                ),
                [InputTag("mlflow.data.context", contexts[split])],
            )
        )
    store.client.log_inputs(run_id, inputs)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def parent_experiment(base: str, kind: str, name: str) -> str:
    """MLflow's experiment of a study or search, `kind`: one of its own, so that its table and charts hold nothing
    else."""
    return f"{base} {kind} {name}"


def child_tags(store: Store, child_run: ChildRun) -> dict[str, str]:
    """What makes a run the child of its study's or search's run, which is created where it is missing."""
    tags = {
        "mlflow.parentRunId": _parent(store, child_run.kind, child_run.parent_name, child_run.question),
        child_run.kind: child_run.parent_name,
        "variant": child_run.variant,
        "seed": str(child_run.seed),
    }
    return tags | ({"tuned": child_run.tuned} if child_run.tuned else {})


def log_report(
    location: Location,
    base: str,
    kind: str,
    name: str,
    question: str,
    note: str,
    verdict: str,
    metrics: Mapping[str, float],
    paths: Sequence[Path],
) -> None:
    """Keep the report of a study or search, these files, with its run, and its verdict in one line beside its metrics;
    raises whatever MLflow does."""
    store = connect_store(location, parent_experiment(base, kind, name))
    run_id = _parent(store, kind, name, question)
    store.client.set_tag(run_id, "mlflow.note.content", note)
    store.client.set_tag(run_id, VERDICT, shortened(verdict))
    for metric, value in metrics.items():
        store.client.log_metric(run_id, metric, value)
    for path in paths:
        store.client.log_artifact(run_id, str(path), "report")
    store.client.set_terminated(run_id, "FINISHED")
    prepare_table(store)


def _parent(store: Store, kind: str, name: str, question: str) -> str:
    with FileLock(store.location.state / ".studies.lock", timeout=60):  # several runs may end at once
        found = store.client.search_runs([store.experiment], f"tags.`pipeline.{kind}` = '{name}'", max_results=1)
        if found:
            run_id: str = found[0].info.run_id
            return run_id
        tags = {f"pipeline.{kind}": name, kind: name, "mlflow.note.content": question}
        tags["mlflow.source.name"] = f"{kind} run"
        created = store.client.create_run(store.experiment, tags=tags, run_name=f"{kind} {name}")
        return str(created.info.run_id)

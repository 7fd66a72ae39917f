"""Making MLflow say what the files say: a run that is missing is rebuilt, one that differs is brought in line."""

import hashlib
import json
from pathlib import Path

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from keras_pipeline.config.params import Params
from keras_pipeline.config.tasks import metric_beside_loss
from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError
from keras_pipeline.core.json_files import read_json
from keras_pipeline.data.task_spec import task_spec_from
from keras_pipeline.evaluation.predictions import read_export_metrics, read_scores
from keras_pipeline.export import manifest
from keras_pipeline.models import architectures, frameworks
from keras_pipeline.records.observer import ChildRun
from keras_pipeline.records.record import RunRecord, best_row
from keras_pipeline.tracking import runs
from keras_pipeline.tracking.runs import child_tags
from keras_pipeline.tracking.store import Store, connect_store, prepare_table
from keras_pipeline.tracking.stores.address import Location
from keras_pipeline.tracking.tags import dvc_experiment, file_tags


class MirrorStamp(TypedDict):
    """What the store was told last of a run: the digest of it, and by which experiment of DVC."""

    state: str
    experiment: str | None


MIRROR_STAMP = TypeAdapter(MirrorStamp)
PICTURES = ("confusion_matrix", "predicted")
"""Which figure stands in the chart view: the first of these that the task has."""


def mirror_state(location: Location, experiment: str, params_file: Path, models: Path, reports: Path) -> str:
    """A digest of everything that `synchronise` sends, without the DVC experiment's name."""
    content = [location.uri, experiment, files.file_sha256(params_file), files.file_sha256(models / "run.json")]
    # Which has the digest of every other file of the exports.
    content += [files.file_sha256(path) for path in exported_files(models) if path.name == manifest.NAME]
    content += [f"{path.relative_to(reports)}:{files.file_sha256(path)}" for path in reported_files(reports)]
    return hashlib.sha256("\n".join(content).encode()).hexdigest()


def is_mirrored(location: Location, experiment: str, key: str, state: str) -> bool:
    """Whether the store was told this state last, and by this experiment if one runs.

    Whether it still shows the run, whole, is looked up in a local one; a server is believed (`track --again`).
    """
    try:
        stamp = read_json(_stamp(location, experiment, key), MIRROR_STAMP, "track")
    except (OSError, DataError):
        return False
    mirrored = stamp["state"] == state and dvc_experiment() in (None, stamp["experiment"])
    return mirrored and (location.database is None or runs.shown_in(location.database, key).get(experiment, False))


def synchronise(
    location: Location,
    experiment: str,
    params: Params,
    params_file: Path,
    models: Path,
    reports: Path,
    record: RunRecord,
    state: str,
    child_run: ChildRun | None = None,
    dvc_name: str | None = None,
) -> None:
    """Bring the record's run in line with the files, and remember `state` as what was sent.

    It is a child of its study's run if it is a `child_run` of one; `dvc_name`: DVC's experiment that made the files. Of
    a training that diverged or was pruned there is no network and no report. Raises whatever MLflow does; sending
    again after a failure is always right.
    """
    status = "FAILED" if "diverged" in record else "KILLED" if "pruned" in record else "FINISHED"
    scores = {} if status != "FINISHED" else read_scores(reports / "metrics.json")
    of_exports = {} if status != "FINISHED" else read_export_metrics(reports)
    store = connect_store(location, experiment)
    run_id = runs.ensure_run(store, record, dvc_name)
    run = store.client.get_run(run_id)
    runs.log_epochs(store, run_id, record["history"])
    _log_scores(store, run_id, run.data.metrics, record, {**scores, **of_exports})
    tags = file_tags(params, run.data.tags, record, scores, dvc_name)
    tags |= child_tags(store, child_run) if child_run else {}
    for key, value in tags.items():
        store.client.set_tag(run_id, key, value)
    _log_files(store, run_id, params_file, models, reports, record)
    if status == "FINISHED":
        _log_picture(store, run_id, run.data.tags, reports / "figures")
        if not runs.has_model(store, run_id):
            _log_model(store, run_id, params, models, record)
    # After the model: MLflow opens the run for it, and closes it at that moment.
    store.client.set_terminated(run_id, status, int(record["ended"] * 1000))
    prepare_table(store)
    stamp = _stamp(location, experiment, record["key"])
    files.write_json(stamp, {"state": state, "experiment": dvc_name})


def _log_scores(
    store: Store, run_id: str, known: dict[str, float], record: RunRecord, scores: dict[str, float]
) -> None:
    """The metrics that have one value a run; one that MLflow has already is not sent again."""
    values = {**scores, "time/train_seconds": record["train_seconds"]}
    if record["best_epoch"]:
        best = best_row(record)
        metric = metric_beside_loss(best)
        values |= {
            "best/epoch": float(record["best_epoch"]),
            "best/val_loss": best["val/loss"],
            f"best/val_{metric}": best[f"val/{metric}"],
        }
    for name, value in values.items():
        if known.get(name) != value:
            store.client.log_metric(run_id, name, value)


def _log_files(store: Store, run_id: str, params_file: Path, models: Path, reports: Path, record: RunRecord) -> None:
    store.client.log_artifact(run_id, str(params_file))
    reported = [(path, Path("reports") / path.relative_to(reports)) for path in reported_files(reports)]
    exported = [(path, path.relative_to(models)) for path in exported_files(models)]
    for path, target in reported + exported:
        store.client.log_artifact(run_id, str(path), str(target.parent))
    runs.log_text(store, run_id, "\n".join(record["environment"]) + "\n", "environment.txt")
    runs.log_text(store, run_id, json.dumps(record, indent=2), "run.json")


def _log_picture(store: Store, run_id: str, known: dict[str, str], figures: Path) -> None:
    """As an image with a key it stands in the chart view beside the other runs' one; each call adds an image."""
    import mlflow

    name = next(name for name in PICTURES if (figures / f"{name}.png").is_file())
    picture, tag = figures / f"{name}.png", f"sha256.{name}"
    digest = files.file_sha256(picture)
    if known.get(tag) != digest or not store.client.list_artifacts(run_id, "images"):
        store.client.log_image(run_id, mlflow.Image(str(picture)), key=name, step=0)
        store.client.set_tag(run_id, tag, digest)


def _log_model(store: Store, run_id: str, params: Params, models: Path, record: RunRecord) -> None:
    """Keep the network from its file with the run: for a training that could not reach the store itself."""
    if not (models / "model.keras").is_file():
        return
    frameworks.start_framework()
    from keras_pipeline.models import model_file

    frameworks.seed_everything(params.seed, params.train.precision)
    asked = task_spec_from(record["dataset"])
    model = architectures.build_network(params.model, asked.shape, asked.outputs)
    model_file.load_weights(model, models / "model.keras")
    with runs.served_network(model, record["dataset"]) as network:
        runs.log_model(store, run_id, network)


def exported_files(models: Path) -> list[Path]:
    """Every file that export wrote in the folder of models; none where it did not run."""
    return sorted(path for path in (models / "export").rglob("*") if path.is_file())


def reported_files(reports: Path) -> list[Path]:
    """Every file that evaluate and export wrote; none of a training that diverged."""
    return sorted(path for path in reports.rglob("*") if path.is_file() and not path.name.startswith("."))


def _stamp(location: Location, experiment: str, key: str) -> Path:
    return location.state / "sent" / hashlib.sha256(experiment.encode()).hexdigest()[:8] / f"{key}.json"

"""Making MLflow say what the files say: a run that is missing is rebuilt, one that differs is brought in line."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from keras_pipeline import architectures, backends, files
from keras_pipeline.params import Params
from keras_pipeline.preprocessing import question
from keras_pipeline.provenance import flat_params
from keras_pipeline.studies import Member
from keras_pipeline.tasks import beside_the_loss
from keras_pipeline.tracking import runs
from keras_pipeline.tracking.members import member_tags
from keras_pipeline.tracking.store import Location, Store, connect, prepare_table

PICTURES = ("confusion_matrix", "predicted")
"""Which figure stands in the chart view: the first of these that the task has."""


def experiment_name() -> str | None:
    """The name of the DVC experiment that runs this process, if one does."""
    return os.environ.get("DVC_EXP_NAME") or None


def state(where: Location, experiment: str, params_file: Path, record: Path, reports: Path) -> str:
    """A digest of everything that `synchronise` sends, without the DVC experiment's name."""
    content = [where.uri, experiment, files.sha256(params_file), files.sha256(record)]
    content += [f"{path.relative_to(reports)}:{files.sha256(path)}" for path in _reported(reports)]
    return hashlib.sha256("\n".join(content).encode()).hexdigest()


def in_line(where: Location, experiment: str, key: str, now: str) -> bool:
    """Whether the store was told this state last, and by this experiment if one runs.

    Whether it still has the run is looked up in a local one; a server is believed (`track --again`).
    """
    try:
        stamp = json.loads(_stamp(where, experiment, key).read_text())
        told = stamp["state"] == now and experiment_name() in (None, stamp["experiment"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return told and (where.database is None or runs.stored(where.database, key))


def synchronise(
    where: Location,
    experiment: str,
    params: Params,
    params_file: Path,
    models: Path,
    reports: Path,
    record: dict[str, Any],
    now: str,
    member: Member | None = None,
) -> None:
    """Bring the record's run in line with the files, and remember `now` as what was sent.

    It is a child of its study's run if it is a `member` of one. Of a training that diverged or was pruned there is no
    network and no report. Raises whatever MLflow does; sending again after a failure is always right.
    """
    status = "FAILED" if "diverged" in record else "KILLED" if "pruned" in record else "FINISHED"
    scores = {} if status != "FINISHED" else files.read_json(reports / "metrics.json", written_by="evaluate")
    store = connect(where, experiment)
    run_id = runs.ensure(store, record, experiment_name())
    run = store.client.get_run(run_id)
    runs.log_epochs(store, run_id, record["history"])
    _log_scores(store, run_id, run.data.metrics, record, scores)
    tags = _tags(params, run.data.tags, record, scores) | (member_tags(store, member) if member else {})
    for key, value in tags.items():
        store.client.set_tag(run_id, key, value)
    _log_files(store, run_id, params_file, reports, record)
    if status == "FINISHED":
        _log_picture(store, run_id, run.data.tags, reports / "figures")
        if not runs.has_model(store, run_id):
            _log_model(store, run_id, params, models, record)
    # After the model: MLflow opens the run for it, and closes it at that moment.
    store.client.set_terminated(run_id, status, int(record["ended"] * 1000))
    prepare_table(store)
    stamp = _stamp(where, experiment, record["key"])
    files.write_json(stamp, {"state": now, "experiment": experiment_name()})


def _log_scores(
    store: Store, run_id: str, known: dict[str, float], record: dict[str, Any], scores: dict[str, float]
) -> None:
    """The metrics that have one value a run; one that MLflow has already is not sent again."""
    values = {**scores, "time/train_seconds": record["train_seconds"]}
    if record["best_epoch"]:
        best = record["history"][record["best_epoch"] - 1]
        metric = beside_the_loss(best)
        values |= {
            "best/epoch": float(record["best_epoch"]),
            "best/val_loss": best["val/loss"],
            f"best/val_{metric}": best[f"val/{metric}"],
        }
    for name, value in values.items():
        if known.get(name) != value:
            store.client.log_metric(run_id, name, value)


def _tags(params: Params, known: dict[str, str], record: dict[str, Any], scores: dict[str, float]) -> dict[str, str]:
    """What the training did not know or what can change without it: the model's digest, where the time of the stage
    train went, the evaluation's settings, the experiments, the note."""
    tags = {key: str(value) for key, value in flat_params({"evaluate": params.evaluate}).items()}
    tags |= {f"sha256.{name}": digest for name, digest in record["sha256"].items()}
    tags |= {name: record[name] for name in ("diverged", "pruned") if name in record}
    tags |= {f"seconds.{part}": f"{seconds:.2f}" for part, seconds in record.get("seconds", {}).items()}
    name = experiment_name()
    if name:
        names = [one for one in known.get("dvc.exps", "").split(",") if one]
        tags["dvc.exps"] = ",".join(dict.fromkeys([*names, name]))
        tags["dvc.last_exp"] = name
    values, images = record["params"], record["dataset"]["images"]
    commit = record["git"]["commit"]
    changed = " with uncommitted changes" if record["git"]["dirty"] else ""
    if scores:
        came_of_it = f"{_reached(scores, images['test'])}, loss {scores['test/loss']:.4f}."
    elif "diverged" in record:
        came_of_it = f"**Diverged:** {record['diverged']}"
    else:
        came_of_it = f"**Pruned:** {record['pruned']}"
    tags["mlflow.note.content"] = "\n\n".join(
        [
            came_of_it,
            f"{record['dataset']['dataset']} → {values['model.architecture']} with {record['weights']:,} weights, "
            f"{values['train.optimizer.name']} at {values['train.optimizer.learning_rate']}, batches of "
            f"{values['train.batch_size']}, {len(record['history'])} epochs"
            f"{f' (weights of epoch {best})' if (best := record['best_epoch']) else ''}, seed {values['seed']}.",
            f"To repeat it: `git checkout {commit[:12] if commit else '(no commit)'}`{changed}, params.yaml as in "
            "the artifacts, `dvc repro`.",
        ]
    )
    return tags


def _reached(scores: dict[str, float], tested: int) -> str:
    """The test result as the note begins with it."""
    if "test/r2" in scores:
        error = f"mean absolute error {scores['test/mean_absolute_error']:.4g}"
        return f"**R² {scores['test/r2']:.4f}** over {tested:,} test rows, {error}"
    area = f", ROC AUC {scores['test/roc_auc']:.4f}" if "test/roc_auc" in scores else ""
    return (
        f"**{scores['test/accuracy']:.2%}** of the {tested:,} test images right "
        f"[{scores['test/accuracy_low']:.2%}, {scores['test/accuracy_high']:.2%}]{area}"
    )


def _log_files(store: Store, run_id: str, params_file: Path, reports: Path, record: dict[str, Any]) -> None:
    store.client.log_artifact(run_id, str(params_file))
    for path in _reported(reports):
        folder = path.parent.relative_to(reports)
        target = "reports" if folder == Path() else f"reports/{folder}"
        store.client.log_artifact(run_id, str(path), target)
    runs.log_text(store, run_id, "\n".join(record["environment"]) + "\n", "environment.txt")
    runs.log_text(store, run_id, json.dumps(record, indent=2), "run.json")


def _log_picture(store: Store, run_id: str, known: dict[str, str], figures: Path) -> None:
    """As an image with a key it stands in the chart view beside the other runs' one; each call adds an image."""
    import mlflow

    name = next(name for name in PICTURES if (figures / f"{name}.png").is_file())
    picture, tag = figures / f"{name}.png", f"sha256.{name}"
    digest = files.sha256(picture)
    if known.get(tag) != digest:
        store.client.log_image(run_id, mlflow.Image(str(picture)), key=name, step=0)
        store.client.set_tag(run_id, tag, digest)


def _log_model(store: Store, run_id: str, params: Params, models: Path, record: dict[str, Any]) -> None:
    """Keep the network from its file with the run: for a training that could not reach the store itself."""
    if files.sha256(models / "model.keras") != record["sha256"]["model"]:
        return
    backends.start()
    from keras_pipeline import model_file

    backends.seed_everything(params.seed, params.train.precision)
    asked = question(record["dataset"])
    model = architectures.build(params.model, asked.shape, asked.outputs)
    model_file.load_weights(model, models / "model.keras")
    runs.log_model(store, run_id, model, record["dataset"])


def _reported(reports: Path) -> list[Path]:
    """Every file that evaluate wrote; none of a training that diverged."""
    return sorted(path for path in reports.rglob("*") if path.is_file() and not path.name.startswith("."))


def _stamp(where: Location, experiment: str, key: str) -> Path:
    return where.state / "sent" / hashlib.sha256(experiment.encode()).hexdigest()[:8] / f"{key}.json"

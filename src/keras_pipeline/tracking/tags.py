"""What the records and reports of a run say as the name and the tags of its MLflow run."""

import os
import re
from collections.abc import Iterator, Mapping

from keras_pipeline.config.params import Params
from keras_pipeline.config.tasks import NO_BETTER, format_score, is_no_better_than_constant
from keras_pipeline.core.json_files import Scalar
from keras_pipeline.data.statistics import things
from keras_pipeline.records.git import describe_git
from keras_pipeline.records.provenance import flat_params, short_param_name
from keras_pipeline.records.record import RunRecord, batch_size

SHIPPED: Mapping[str, Scalar] = {
    "seed": 1, "fetch.dataset": "mnist", "normalize.positive_class": "none", "normalize.split_seed": 1,
    "normalize.validation_share": 0.1, "normalize.training_images": "all", "normalize.scaling": "unit",
    "model.architecture": "mlp", "model.hidden_units": "[512, 256]", "model.filters": "[32, 64, 128]",
    "model.global_average_pooling": False,
    "model.activation": "relu", "model.dropout": 0.3, "model.batch_normalization": True, "model.l2": 1e-05,
    "model.output_activation": "softmax", "model.layers": "[]", "train.epochs": 20, "train.batch_size": "auto",
    "train.loss": "categorical_crossentropy", "train.optimizer.name": "adam", "train.optimizer.learning_rate": 0.003,
    "train.schedule.name": "cosine", "train.schedule.warmup_epochs": 1, "train.schedule.decay_rate": 0.9,
    "train.schedule.factor": 0.5, "train.schedule.patience": 3, "train.early_stopping.monitor": "val/loss",
    "train.early_stopping.patience": 10, "train.class_weights": "none", "train.augmentation.shift": 0.0,
    "train.augmentation.rotation": 0.0, "train.augmentation.scale": 0.0, "train.augmentation.elastic": 0.0,
    "train.augmentation.smoothness": 4.0, "train.augmentation.horizontal_flip": False,
    "train.precision": "float32", "train.engine": "keras",
    "train.backend": "tensorflow", "train.strategy": "none", "train.devices": 1, "train.workers": 1,
    "train.device_type": "auto", "train.missing_devices": "error", "train.batch_statistics": "synchronized",
    "train.reproducibility": "seeded", "train.checkpoint_steps": 0, "train.fused": True,
}  # fmt: skip
"""The params of a fresh clone, as a record has them; a test holds them against params.yaml."""
MOST_DIFFERENCES = 3
LONGEST_VALUE = 24


def run_title(record: RunRecord) -> str:
    """Such as "dropout=0.5 · mnist mlp"; of a run that was given a name, as one of a study, that name."""
    values, name = record["params"], record["name"]
    if name != f"{record['dataset']['dataset']} {values['model.architecture']}":
        return name
    found = [_difference(key, value) for key, value in _differing(values)]
    more = [f"+{len(found) - MOST_DIFFERENCES} more"] if len(found) > MOST_DIFFERENCES else []
    return " · ".join(filter(None, (" ".join([*found[:MOST_DIFFERENCES], *more]), name)))


def _differing(values: Mapping[str, Scalar]) -> Iterator[tuple[str, Scalar]]:
    """In the order of the params, but for what the name says already."""
    for key, value in values.items():
        if key not in ("fetch.dataset", "model.architecture") and value != SHIPPED.get(key):
            yield key, value


def _difference(key: str, value: Scalar) -> str:
    text = str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
    text = re.sub(r"[\"{}]", "", text)  # of layers
    return f"{short_param_name(key, SHIPPED)}={text if len(text) <= LONGEST_VALUE else f'{text[: LONGEST_VALUE - 1]}…'}"


def record_tags(record: RunRecord) -> dict[str, str]:
    """What a run is tagged with when it is created or goes on: how it trains, where, and with what."""
    git = record["git"]
    tags = {
        "mlflow.source.name": "dvc repro",
        "mlflow.source.type": "PROJECT",
        "dataset": record["dataset"]["dataset"],
        "strategy": record["strategy"]["name"],
        "devices": ", ".join(record["strategy"]["devices"]),
        "backend": record["strategy"]["backend"],
        "replicas": str(record["strategy"]["replicas"]),
        "batch_per_replica": str(record["strategy"]["batch_per_replica"]),
        "reproducibility": record["reproducibility"],
        "host": record["host"],
        "weights": str(record["weights"]),
        "git.dirty": "unknown" if git["dirty"] is None else str(git["dirty"]).lower(),
        **_digests(record),
        **{f"version.{name}": version for name, version in record["versions"].items()},
    }
    if git["commit"]:
        tags["mlflow.source.git.commit"] = git["commit"]
    return tags


def file_tags(
    params: Params,
    known_tags: dict[str, str],
    record: RunRecord,
    scores: dict[str, float],
    dvc_name: str | None = None,
) -> dict[str, str]:
    """What the training did not know or what can change without it: the model's digest, where the time of the stage
    train went, the evaluation's settings and whether it found the network of any use, the experiments, the note."""
    tags = {key: str(value) for key, value in flat_params({"evaluate": params.evaluate}).items()}
    tags |= _digests(record)
    tags |= {name: record[name] for name in ("diverged", "pruned") if name in record}
    tags |= {f"seconds.{part}": f"{seconds:.2f}" for part, seconds in record.get("seconds", {}).items()}
    if scores:
        tags["no_better_than_constant"] = str(is_no_better_than_constant(scores)).lower()
    if dvc_name:
        names = [one for one in known_tags.get("dvc.exps", "").split(",") if one]
        tags["dvc.exps"] = ",".join(dict.fromkeys([*names, dvc_name]))
        tags["dvc.last_exp"] = dvc_name
    values, images = record["params"], record["dataset"]["images"]
    git = record["git"]
    commit = f"`git checkout {git['commit'][:12]}`" if git["commit"] else f"({describe_git(git)})"
    changed = " with uncommitted changes" if git["dirty"] else ""
    if scores:
        useless = f"**{NO_BETTER.capitalize()}:** " if is_no_better_than_constant(scores) else ""
        reached = _reached(scores, images["test"], things(record["dataset"]))
        came_of_it = f"{useless}{reached}, loss {format_score(scores['test/loss'])}."
    elif "diverged" in record:
        came_of_it = f"**Diverged:** {record['diverged']}"
    else:
        came_of_it = f"**Pruned:** {record['pruned']}"
    tags["mlflow.note.content"] = "\n\n".join(
        [
            came_of_it,
            f"{record['dataset']['dataset']} → {values['model.architecture']} with {record['weights']:,} weights, "
            f"{values['train.optimizer.name']} at {values['train.optimizer.learning_rate']}, batches of "
            f"{batch_size(record)}, {len(record['history'])} epochs"
            f"{f' (weights of epoch {best})' if (best := record['best_epoch']) else ''}, seed {values['seed']}.",
            f"To repeat it: {commit}{changed}, params.yaml as in the artifacts, `dvc repro`.",
        ]
    )
    return tags


def _digests(record: RunRecord) -> dict[str, str]:
    return {f"sha256.{name}": digest for name, digest in record["sha256"].items()}


def dvc_experiment() -> str | None:
    """The name of the DVC experiment that runs this process, if one does."""
    return os.environ.get("DVC_EXP_NAME") or None


def _reached(scores: dict[str, float], tested: int, things: str) -> str:
    """The test result as the note begins with it."""
    if "test/r2" in scores:
        error = f"mean absolute error {scores['test/mean_absolute_error']:.4g}"
        return f"**R² {format_score(scores['test/r2'])}** over {tested:,} test rows, {error}"
    area = f", ROC AUC {scores['test/roc_auc']:.4f}" if "test/roc_auc" in scores else ""
    return (
        f"**{scores['test/accuracy']:.2%}** of the {tested:,} test {things} right "
        f"[{scores['test/accuracy_low']:.2%}, {scores['test/accuracy_high']:.2%}]{area}"
    )

"""The stage train: normalized images to a trained network, its history, and the record of the run."""

import csv
import io
import socket
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psutil

from keras_pipeline import architectures, files, layers, provenance, strategies
from keras_pipeline.errors import MachineError
from keras_pipeline.params import IMAGE_SHAPE, Params
from keras_pipeline.preprocessing import STATISTICS, read_split

if TYPE_CHECKING:
    import keras

    from keras_pipeline.training import Row


class Observer(Protocol):
    """Whoever looks on while a network trains. Nothing it does may raise or change the training."""

    def started(self, run: dict[str, Any]) -> None:
        """Training begins; `run` is the record as far as it is known (key, params, digests, versions …)."""

    def epoch(self, row: dict[str, float]) -> None:
        """An epoch is done: the row of `training.fit` and its time in seconds since 1970."""

    def ended(self, status: str, run: dict[str, Any], model: "keras.Sequential | None") -> None:
        """Training is over: FINISHED with the network, or FAILED or KILLED without one."""


class NoObserver:
    """Nobody looks on."""

    def started(self, run: dict[str, Any]) -> None:
        """Nothing happens."""

    def epoch(self, row: dict[str, float]) -> None:
        """Nothing happens."""

    def ended(self, status: str, run: dict[str, Any], model: "keras.Sequential | None") -> None:
        """Nothing happens."""


def run(params: Params, normalized: Path, models: Path, observer: Observer) -> None:
    """Write history.csv (again after every epoch) and, at the end, model.keras and run.json.

    Every check that needs no TensorFlow comes before its import.
    """
    with files.lock(models):
        statistics = files.read_json(normalized / "statistics.json", written_by="normalize", keys=STATISTICS)
        batch_size = strategies.check(params.train, statistics["images"])
        check_memory(params, batch_size)
        splits = [read_split(normalized, name, statistics) for name in ("train", "validation")]
        record = _record(params, normalized, statistics)

        strategy = strategies.open_strategy(params.train)
        from keras_pipeline import training

        classes = len(statistics["class_names"])
        steps = -(-len(splits[0].labels) // batch_size)
        training.seed_everything(params.seed, params.train.precision)
        with strategy.scope():
            model = architectures.build(params.model, IMAGE_SHAPE, classes, synchronized=strategy.replicas > 1)
            training.compile_model(model, params.train, steps)
        record["strategy"] = {
            "name": strategy.name,
            "devices": list(strategy.devices),
            "batch_per_replica": batch_size // strategy.replicas,
        }
        record["weights"] = model.count_params()
        print(_summary(record, batch_size, strategy.replicas), flush=True)

        def on_epoch(row: "Row") -> None:
            record["history"].append({**row, "time": time.time()})
            _write_history(models / "history.csv", record["history"])
            observer.epoch(record["history"][-1])

        try:
            observer.started(record)
            began = time.monotonic()
            training.fit(
                model,
                training.batches(splits[0], classes, batch_size, params.seed),
                training.in_order(splits[1], classes, strategy.replicas),
                params.train,
                steps,
                on_epoch,
            )
            record |= {"ended": time.time(), "train_seconds": time.monotonic() - began}
            record["best_epoch"] = training.best_epoch(record["history"], params.train.early_stopping)
            trained = _write(params, model, classes, record, models)
        except BaseException as error:
            observer.ended("FAILED" if isinstance(error, Exception) else "KILLED", record, None)
            raise
        observer.ended("FINISHED", record, trained)
    best = record["history"][record["best_epoch"] - 1]
    print(
        f"train: {len(record['history'])} epochs in {record['train_seconds']:.0f} s; weights of epoch "
        f"{record['best_epoch']}, val/accuracy {best['val/accuracy']:.4f}, val/loss {best['val/loss']:.4f}"
    )


def _write(
    params: Params, model: "keras.Sequential", classes: int, record: dict[str, Any], models: Path
) -> "keras.Sequential":
    """Write the network and then the record; the network as it is kept: one copy without strategy, optimizer,
    synchronized BatchNormalization or the state of random generators."""
    from keras_pipeline import model_file

    trained = architectures.build(params.model, IMAGE_SHAPE, classes)
    trained.set_weights(model.get_weights())
    model_file.save(trained, models / "model.keras")
    record["sha256"]["model"] = files.sha256(models / "model.keras")
    files.write_json(models / "run.json", record)
    return trained


def check_memory(params: Params, batch_size: int) -> None:
    """Raise MachineError when a training step cannot fit into this machine's memory by the least estimate."""
    hidden = architectures.hidden_layers(params.model)
    needed = layers.training_memory(hidden, IMAGE_SHAPE, batch_size)
    available = psutil.virtual_memory().total
    if needed > available:
        raise MachineError(
            f"params.yaml: model: a training step needs at least {needed / 1e9:.1f} GB of memory "
            f"({layers.weight_count(hidden, IMAGE_SHAPE):,} weights, batches of {batch_size}), this machine has "
            f"{available / 1e9:.1f} GB. Use fewer units, filters or layers, or a smaller train.batch_size."
        )


def _record(params: Params, normalized: Path, statistics: dict[str, Any]) -> dict[str, Any]:
    values = provenance.flat_params(
        {
            "seed": params.seed,
            "fetch": params.fetch,
            "normalize": params.normalize,
            "model": params.model,
            "train": params.train,
        }
    )
    started = time.time()
    return {
        "key": uuid.uuid4().hex,
        "name": f"{statistics['dataset']} {params.model.architecture}",
        "started": started,
        "params": values,
        "dataset": {key: statistics[key] for key in ("dataset", "class_names", "images", "scaling", "sha256")},
        "sha256": {
            "params": provenance.params_digest(values),
            "data": files.sha256(normalized / "statistics.json"),
            "code": provenance.code_digest(__name__),
        },
        "git": provenance.git_state(),
        "host": socket.gethostname(),
        "versions": provenance.versions(),
        "environment": provenance.environment(),
        "reproducibility": "seeded",
        "history": [],
    }


def _summary(record: dict[str, Any], batch_size: int, replicas: int) -> str:
    values, images = record["params"], record["dataset"]["images"]
    share = f" ({batch_size // replicas} on each of {replicas} devices)" if replicas > 1 else ""
    return (
        f"train: {values['model.architecture']}, {record['weights']:,} weights; {images['train']:,} training and "
        f"{images['validation']:,} validation images of {record['dataset']['dataset']}; batches of "
        f"{batch_size}{share}; strategy {record['strategy']['name']} on {', '.join(record['strategy']['devices'])}"
    )


def _write_history(path: Path, history: list[dict[str, float]]) -> None:
    """All epochs as CSV, without times: the same training gives the same bytes."""
    text = io.StringIO()
    columns = [name for name in history[0] if name != "time"]
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    files.write_atomically(path, text.getvalue().encode())

"""Which trained network is asked: of a run's folder, a version in MLflow's registry, or a run that MLflow keeps.

Its record says how it is built and how its inputs are scaled, its file has the weights; no dataset file is needed.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from keras_pipeline.checks.project import experiment_here
from keras_pipeline.config.params import Model
from keras_pipeline.core.errors import DataError, ModelFileError, ParamsError
from keras_pipeline.data.earlier import MODEL
from keras_pipeline.data.task_spec import task_spec_from
from keras_pipeline.models import architectures, frameworks
from keras_pipeline.records.record import RunRecord, check_model, read_record
from keras_pipeline.tracking import lookup
from keras_pipeline.tracking.stores import address, connection
from keras_pipeline.tracking.stores.address import Location

if TYPE_CHECKING:
    import numpy as np
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from numpy.typing import NDArray

REGISTERED = "models:/"


@dataclass(frozen=True)
class TrainedNetwork:
    """A network that was trained: what messages call it, the record of its run, and the file with its weights."""

    name: str
    record: RunRecord
    weights: Path


@contextmanager
def find_network(wanted: str | None) -> Iterator[TrainedNetwork]:
    """The network of models/, or what was asked for instead: a run's folder, models:/NAME/1, models:/NAME@champion, or
    a run of MLflow's by its name, its key or MLflow's id.

    Within, its file is there. Raises ModelFileError where there is no network or it is damaged, ParamsError where
    nothing is called so, MachineError where the store cannot be reached.
    """
    if wanted is not None and wanted.startswith(REGISTERED):
        yield from _in_store(lambda client, _: _registered(client, wanted))
        return
    folder = Path("models" if wanted is None else wanted)
    found = next((one for one in (folder, folder / "models") if (one / "run.json").is_file()), None)
    if found:
        yield _in_folder(found)
    elif wanted is None or folder.is_dir():
        raise ModelFileError(
            f"{folder}: no trained network (run.json and model.keras are not there). Expected: first `dvc repro`, or "
            "--model with a run's folder, models:/NAME@champion or a run of MLflow's."
        )
    else:
        yield from _in_store(lambda client, location: _tracked(client, location, wanted))


def _in_folder(folder: Path) -> TrainedNetwork:
    record, weights = read_record(folder / "run.json"), folder / "model.keras"
    _require_network(record, str(folder))
    if not weights.is_file():
        raise ModelFileError(f"{weights}: not there. Expected: the trained network. Run `dvc repro train`.")
    check_model(record, weights)
    return TrainedNetwork(f"{folder}/", record, weights)


def _require_network(record: RunRecord, name: str) -> None:
    for reason in ("diverged", "pruned"):
        if reason in record:
            raise ModelFileError(f"{name}: the training {reason}, so there is no network. Expected: another run.")


def _in_store(find: "Callable[[MlflowClient, Location], tuple[str, Run]]") -> Iterator[TrainedNetwork]:
    """The network that MLflow keeps with a run, in a temporary folder."""
    from keras_pipeline.tracking.store import connect_store

    location = address.store_location(address.project_root())
    if location.database and not location.database.exists():
        raise ParamsError(
            f"{location.shown}: there is no store yet, so no run and no model. Expected: `dvc repro`, and of a "
            "registered one `keras-pipeline model register`; MLFLOW_TRACKING_URI names another store."
        )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with connection.required_store(location):
            client = connect_store(location, experiment_here()).client
            name, run = find(client, location)
            lookup.download_artifact(client, run, "run.json", folder)
            record = read_record(folder / "run.json", "track")
            _require_network(record, name)
            weights = lookup.download_network(client, run, location, folder)
        if weights is None:
            raise ModelFileError(
                f"{name}: MLflow keeps no network with it, or only a part of one. Where the run's files are, "
                "`keras-pipeline track --again` sends it anew."
            )
        yield TrainedNetwork(name, record, weights)


def _registered(client: "MlflowClient", wanted: str) -> "tuple[str, Run]":
    from keras_pipeline.registry import versions

    model, version = versions.find_by_address(client, wanted)
    if version.run_id is None:
        raise DataError(
            f"{wanted}: version {version.number} has no run. Expected: one that `keras-pipeline model register` made."
        )
    return f"{model} version {version.number}", client.get_run(version.run_id)


def _tracked(client: "MlflowClient", location: Location, wanted: str) -> "tuple[str, Run]":
    try:
        run = lookup.find_in(client, location, wanted)
    except ParamsError as fault:
        raise ParamsError(f"--model {wanted}: no folder with a trained network in it, and {fault}") from None
    return f"MLflow's run {run.info.run_name}", run


def recorded_model(record: RunRecord, name: str) -> Model:
    """The block `model` of the params that the run records. Raises ModelFileError where this version does not know such
    a network."""
    values = {
        key.removeprefix("model."): json.loads(value) if isinstance(value, str) and value.startswith("[") else value
        for key, value in record["params"].items()
        if key.startswith("model.")
    }
    try:
        return Model.model_validate_json(json.dumps({**MODEL, **values}))
    except ValueError as fault:
        reason = " ".join(str(fault).split())[:300]
        raise ModelFileError(
            f"{name}: the params in its record are not those of a network of this version ({reason}). Expected: a run "
            "of this version. Ask it with the version that trained it, or train it again."
        ) from None


def open_network(trained: TrainedNetwork, size: int) -> "Callable[[NDArray[np.float32]], NDArray[np.float32]]":
    """What gives the outputs, float32 (n, outputs), of scaled inputs, float32 (n, ...), with TensorFlow, in batches of
    `size`, exactly as `evaluate` computes them: the same inputs in the same batches have the same outputs, bit by bit.
    """
    record = trained.record
    spec, params = task_spec_from(record["dataset"]), record["params"]
    model = recorded_model(record, trained.name)
    frameworks.start_framework()
    from keras_pipeline.models import losses, model_file

    frameworks.seed_everything(int(params.get("seed", 0)), str(params.get("train.precision", "float32")))
    network = architectures.build_network(model, spec.shape, spec.outputs)
    model_file.load_weights(network, trained.weights)
    asked = losses.logits_and_outputs(network)

    def answer(inputs: "NDArray[np.float32]") -> "NDArray[np.float32]":
        _, outputs = asked.predict(inputs, batch_size=size, verbose=0)
        return outputs  # type: ignore[no-any-return]

    return answer

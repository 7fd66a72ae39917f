"""Runs in a store of MLflow's, each with a network that MLflow keeps, made without a framework; and registries."""

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import compared_runs
import tracking_fixtures
from exported import image_input
from keras_pipeline.comparison.find_run import FoundRun, find_run
from keras_pipeline.core import files
from keras_pipeline.export import manifest
from keras_pipeline.registry import journal
from keras_pipeline.registry.journal import Entry
from keras_pipeline.registry.versions import RegisteredModel, Version
from keras_pipeline.tracking import runs, store
from keras_pipeline.tracking.stores.address import Location

NAME = "digits"


def network(number: float) -> bytes:
    """A network's file, of one layer."""
    weights, content = io.BytesIO(), io.BytesIO()
    with h5py.File(weights, "w") as file:
        file["layers/dense/vars/0"] = np.full((3, 2), number, np.float32)
    with zipfile.ZipFile(content, "w") as archive:
        for name, member in (
            ("config.json", b"{}"),
            ("metadata.json", b"{}"),
            ("model.weights.h5", weights.getvalue()),
        ):
            archive.writestr(zipfile.ZipInfo(name), member)
    return content.getvalue()


def write_run(folder: Path, number: int, share: float = 0.9, **changes: Any) -> FoundRun:
    """The files of a run that has this share of its answers right, and the run as it is found in them."""
    files.write_atomically(folder / "models/model.keras", network(number))
    record = compared_runs.record(f"{number:032x}", **changes)
    record["sha256"] |= {"model": files.file_sha256(folder / "models/model.keras")}
    compared_runs.write(folder, record, compared_runs.outputs(number, share))
    return find_run(str(folder), compared_runs.nowhere)


def send_run(location: Location, folder: Path, kept: float | None = None, exports: tuple[str, ...] = ()) -> str:
    """MLflow's id of the run in the folder, which it keeps from now on, with its network (or one of another number)."""
    from mlflow.entities import LoggedModelOutput

    record = json.loads((folder / "models/run.json").read_text())
    opened = store.connect_store(location, tracking_fixtures.EXPERIMENT)
    client, run_id = opened.client, runs.ensure_run(opened, record, None)
    client.log_artifact(run_id, str(folder / "models/run.json"))
    for name in ("metrics.json", "predictions.npz"):
        client.log_artifact(run_id, str(folder / "reports" / name), "reports")
    model = client.create_logged_model(opened.experiment, "model", run_id)
    served = folder / "served/artifacts/network.keras"
    files.write_atomically(served, network(kept) if kept else (folder / "models/model.keras").read_bytes())
    client.log_model_artifacts(model.model_id, str(folder / "served"))
    shutil.rmtree(folder / "served")
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    if exports:
        send_exports(client, run_id, folder, exports)
    client.set_terminated(run_id, "FINISHED")
    return run_id


def send_exports(client: Any, run_id: str, folder: Path, formats: tuple[str, ...]) -> None:
    """Write such exports of the folder's run, which MLflow keeps with it from now on."""
    write_exports(folder, formats)
    client.log_artifact(run_id, str(folder / "models/export/export.json"), "export")
    client.log_artifact(run_id, str(folder / "reports/export.json"), "reports")


def write_exports(folder: Path, formats: tuple[str, ...]) -> None:
    """The manifest of such exports of the folder's run, and how they agree."""
    record = json.loads((folder / "models/run.json").read_text())
    dataset = record["dataset"]
    about = {
        "format": 2, "preparation": None, "drawing": None,
        "model_sha256": record["sha256"]["model"], "run": record["key"], "architecture": "mlp",
        "parameters": record["weights"], "task": dataset["task"], "dataset": dataset["dataset"],
        "class_names": dataset["class_names"], "target": None,
        "input": image_input(28, 28),
        "output_activation": "softmax", "outputs": len(dataset["class_names"]), "scaling": dataset["scaling"],
        "formats": {name: {"files": {manifest.PATHS[name]: {"bytes": 2048, "sha256": "a" * 64}}} for name in formats},
    }  # fmt: skip
    files.write_json(folder / "models/export/export.json", about)
    files.write_json(folder / "reports/export.json", {f"export/{name}/largest_difference": 1e-6 for name in formats})


def registered(*versions: int, journal_of: list[Entry] | None = None, **aliases: int) -> RegisteredModel:
    """A registered model with these versions and aliases."""
    made = {
        number: Version(number, f"{number:032x}", "2026-11-28 18:00:00Z", {"result": f"accuracy 0.9{number}"})
        for number in versions
    }
    return RegisteredModel(NAME, made, aliases, journal_of or [])


def moved(*moves: tuple[str, int | None, int | None], alias: str = journal.CHAMPION) -> list[Entry]:
    """A journal of these: action, from, to."""
    return [journal.new_entry(action, alias, before, after) for action, before, after in moves]  # type: ignore[arg-type]

"""Where the runs of studies and searches are, and which of them are done."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from keras_pipeline.config.params import Params
from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError
from keras_pipeline.core.json_files import Digest, read_json
from keras_pipeline.evaluation.predictions import PREDICTIONS, SCORES, read_scores
from keras_pipeline.records import provenance
from keras_pipeline.records.observer import Observer
from keras_pipeline.records.provenance import TRAINING
from keras_pipeline.records.record import RunRecord, read_record, recorded_params, write_record
from keras_pipeline.runs.run import Run
from keras_pipeline.sources.files import scan

if TYPE_CHECKING:
    import keras


TRAININGS = (TRAINING, "keras_pipeline.runs.together")
DIGESTS = TypeAdapter(dict[str, Digest])
EVALUATION = "keras_pipeline.stages.evaluate"
DATA = ("keras_pipeline.stages.fetch", "keras_pipeline.stages.normalize")
PRUNED = "pruned"
SECONDS = "seconds.json"
"""In a run's folder: how long its process took, where it did the run from start to end."""


@dataclass(frozen=True)
class Folders:
    """Where studies live: NAME.yaml in `studies`, and what their runs, data and reports are in folders below it."""

    studies: Path

    def run(self, run: Run) -> Path:
        """The folder of a run, shared by all studies that have one with the same params."""
        return self.studies / "runs" / run.key

    def raw(self, params: Params) -> Path:
        """The dataset's own files."""
        return self.studies / "data" / params.fetch.dataset / "raw"

    def normalized(self, params: Params) -> Path:
        """The arrays of the run's dataset, split and scaled as its params say."""
        values = provenance.flat_params({"fetch": params.fetch, "normalize": params.normalize})
        return self.studies / "data" / params.fetch.dataset / provenance.params_digest(values)[:16]

    def report(self, study: str) -> Path:
        """The study's report."""
        return self.studies / "reports" / study


def is_data_made(folders: Folders, params: Params, downloads: Path) -> bool:
    """Whether the arrays are there, made by this code of what the dataset is now."""
    normalized = folders.normalized(params)
    with suppress(DataError):
        made = read_json(normalized / "made.json", DIGESTS, "study run")
        return bool(made == _made_of(params, downloads)) and (normalized / "statistics.json").is_file()
    return False


def mark_data_made(folders: Folders, params: Params, downloads: Path) -> None:
    """Say that the arrays are there now."""
    files.write_json(folders.normalized(params) / "made.json", _made_of(params, downloads))


def _made_of(params: Params, downloads: Path) -> dict[str, str]:
    return {**_code(*DATA), "dataset": scan.state_digest(params.fetch.dataset, downloads)}


def _code(*modules: str) -> dict[str, str]:
    return {module: provenance.code_digest(module) for module in modules}


class ResultCache:
    """Which runs are done with the data and the code that are here: looked up once for many."""

    def __init__(self, folders: Folders) -> None:
        self.folders = folders
        self.code = _code(*TRAININGS, EVALUATION)
        self.data: dict[Path, str] = {}

    def record(self, run: Run) -> RunRecord | None:
        """The record of the run's training; None where it is not known, or was of other data or code."""
        run_folder = self.folders.run(run)
        return self.trained(run.params, run_folder, self.folders.normalized(run.params))

    def trained(self, params: Params, run_folder: Path, normalized: Path) -> RunRecord | None:
        """The record of the training in a run's folder; None where it is not that of these params, data and code."""
        with suppress(DataError, OSError):
            record = read_record(run_folder / "models" / "run.json", "study run")
            wanted = {"data": self._data(normalized)}
            wanted["params"] = provenance.params_digest(recorded_params(params))
            if "diverged" not in record:  # one that was pruned has no network, and is not known
                wanted["model"] = files.file_sha256(run_folder / "models" / "model.keras")
            if any(record["sha256"] == {**wanted, "code": self.code[stage]} for stage in TRAININGS):
                return record
        return None

    def evaluated(self, run_folder: Path, record: RunRecord) -> bool:
        """Whether the reports in `run_folder` are of this training and this code; a training that diverged has none."""
        if "diverged" in record:
            return True
        with suppress(DataError, OSError):
            return read_json(run_folder / "evaluated.json", DIGESTS, "study run") == self._evaluation(
                run_folder, record
            )
        return False

    def keep_evaluated(self, run_folder: Path, record: RunRecord) -> None:
        """Say that the reports in `run_folder` are of this training."""
        files.write_json(run_folder / "evaluated.json", self._evaluation(run_folder, record))

    def _evaluation(self, run_folder: Path, record: RunRecord) -> dict[str, str]:
        reports = {name: files.file_sha256(run_folder / "reports" / name) for name in (SCORES, PREDICTIONS)}
        return {"model": record["sha256"]["model"], "code": self.code[EVALUATION], **reports}

    def _data(self, normalized: Path) -> str:
        if normalized not in self.data:
            self.data[normalized] = files.file_sha256(normalized / "statistics.json")
        return self.data[normalized]


class FailureRecorder(Observer):
    """Keeps the record of a training that has no network and is a result all the same, in the folder `models`: one that
    diverged, or one that its search gave up, by a word in the file `pruned` beside that folder."""

    def __init__(self, models: Path) -> None:
        self.models = models

    def ended(self, status: str, run: RunRecord, model: "keras.Sequential | None") -> None:
        """Write the record where there is no network, and take away what an earlier training left."""
        word = self.models.parent / PRUNED
        if status == "KILLED" and word.is_file():
            run["pruned"] = word.read_text(encoding="utf-8", errors="replace")
        if run.keys() & {"diverged", "pruned"}:
            for stale in (self.models / "model.keras", *([] if run["history"] else [self.models / "history.csv"])):
                stale.unlink(missing_ok=True)
            shutil.rmtree(self.models.parent / "reports", ignore_errors=True)
            write_record(self.models / "run.json", {**run, "best_epoch": None})


def read_run_scores(run_folder: Path) -> dict[str, float]:
    """reports/metrics.json of the run in a folder, of classes; empty where its training diverged."""
    path = run_folder / "reports" / SCORES
    return read_scores(path, "study run") if path.is_file() else {}

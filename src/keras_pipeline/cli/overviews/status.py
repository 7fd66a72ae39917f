"""Which run stands behind the files of this folder, and whether they still fit params, data and code."""

import time
from pathlib import Path

from keras_pipeline.checks.dvc_files import find_faults
from keras_pipeline.config.params import Params
from keras_pipeline.config.tasks import format_headline, format_score
from keras_pipeline.core import files, terminal
from keras_pipeline.core.errors import DataError, ModelFileError, ParamsError
from keras_pipeline.evaluation.predictions import PREDICTIONS, SCORES, read_predictions, read_scores
from keras_pipeline.export.manifest import check_exports
from keras_pipeline.records import provenance
from keras_pipeline.records.git import describe_git, git_state, is_unknown
from keras_pipeline.records.provenance import TRAINING
from keras_pipeline.records.record import RunRecord, read_record, recorded_params
from keras_pipeline.sources.dataset_file import definition_digest, load_dataset
from keras_pipeline.sources.files import scan
from keras_pipeline.sources.raw import read_description
from keras_pipeline.tracking import waiting
from keras_pipeline.tracking.stores import address


def show_status(params: Params, normalized: Path, models: Path, reports: Path) -> None:
    """Print the run of models/run.json, its test result, and each way in which it is stale; and where git refuses.

    Raises DataError where that file is damaged, or one of those that DVC reads: it would refuse `dvc repro`.
    """
    faults = find_faults(Path())
    try:
        record = read_record(models / "run.json")
    except DataError as error:
        raise DataError("\n".join([*faults, str(error)])) from None
    trained = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["started"]))
    commit = f"{'commit ' if record['git']['commit'] else ''}{describe_git(record['git'])}"
    print(f"run:      {record['name']}, key {record['key']}")
    print(f"trained:  {trained}, {len(record['history'])} epochs, {record['train_seconds']:.0f} s, {commit}")
    if (reports / SCORES).is_file():
        scores = read_scores(reports / SCORES)
        result = f"{format_headline(scores)}, test/loss {format_score(scores['test/loss'])}"
        print(f"result:   {result}; figures in {reports / 'figures'}/")
    for line in waiting.waiting_lines(address.store_location(address.project_root())):
        print(f"MLflow:   {line}")
    if is_unknown(here := git_state()):
        print(f"git:      {here['reason']}")
    if faults:
        print("state:    unknown while DVC refuses this folder", flush=True)
        raise DataError("\n".join(faults))
    reasons = find_stale(params, normalized, models, record) + find_other_data(params, normalized.with_name("raw"))
    reasons += find_other_reports(reports, models, record) + find_other_exports(models)
    print(f"state:    {terminal.worse('stale') + ', run `dvc repro`:' if reasons else terminal.better('up to date')}")
    for reason in reasons:
        print(f"          {reason}")


def find_stale(params: Params, normalized: Path, models: Path, record: RunRecord) -> list[str]:
    """What differs between the run's record and what stands here now, a line each; empty when nothing does."""
    now = recorded_params(params)
    then = record["params"]
    reasons = [
        f"params: {key} was {then.get(key, 'not given')}, is {now.get(key, 'not given')}"
        for key in sorted({*now, *then})
        if now.get(key) != then.get(key)
    ]
    statistics = normalized / "statistics.json"
    if not statistics.is_file() or files.file_sha256(statistics) != record["sha256"]["data"]:
        reasons.append("data: not the normalized data that the network was trained on")
    if provenance.code_digest(TRAINING) != record["sha256"]["code"]:
        reasons.append("code: a module that train imports has changed")
    model = models / "model.keras"
    if not model.is_file() or files.file_sha256(model) != record["sha256"]["model"]:
        reasons.append(f"model: {model} is not the network that this run wrote")
    return reasons


def find_other_data(params: Params, raw: Path) -> list[str]:
    """A line where the dataset's file or its data are not as fetch read them for `raw`; empty where they are, or where
    nobody can tell: `raw` is of another dataset, or the data are elsewhere."""
    name = params.fetch.dataset
    try:
        read, dataset = read_description(raw), load_dataset(name)
        seen = scan.look(name, dataset, raw.with_name("downloads"), keep=False)
    except (DataError, ParamsError):
        return []
    if read["name"] != name:
        return []
    if read["definition"] != definition_digest(dataset):
        return [f"dataset: datasets/{name}.yaml says something else than when its data were read"]
    if read["source"] != seen.source:
        return [f"dataset: {seen.said or f'{dataset.path} is not as it was when it was read'}"]
    return []


def find_other_reports(reports: Path, models: Path, record: RunRecord) -> list[str]:
    """A line where the reports are of another network than the one here, or cannot be of this run; empty where they are
    of it, or not there yet."""
    model, answers = models / "model.keras", reports / PREDICTIONS
    if not model.is_file() or not answers.is_file():
        return []
    try:
        of = read_predictions(answers, record["dataset"]).model
    except DataError as fault:
        return [f"reports: {fault}"]
    here = files.file_sha256(model)
    if of in (None, here):
        return []
    return [f"reports: they are of the network {str(of)[:12]}…, and {model} is {here[:12]}…"]


def find_other_exports(models: Path) -> list[str]:
    """A line where the exports are of another network than the one here; empty where they are of it, or neither is
    there."""
    try:
        if (models / "model.keras").is_file():
            check_exports(models / "export", files.file_sha256(models / "model.keras"))
    except ModelFileError as fault:
        return [f"exports: {fault}"]
    return []

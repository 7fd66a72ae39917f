"""Can a run be repeated? What it recorded against what is here, and its training made again from its commit."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.audit import checkout, differences
from keras_pipeline.audit.differences import LOSS_COLUMNS, Difference
from keras_pipeline.core import files
from keras_pipeline.core.errors import BusyError, DownloadError, MachineError, ParamsError
from keras_pipeline.models.weights_file import read_weights
from keras_pipeline.records import record
from keras_pipeline.records.git import describe_git
from keras_pipeline.records.record import RunRecord, read_record

TOLERANCE = 1e-5
"""For a weight, and for a loss of an epoch."""
OF_THE_MACHINE = {DownloadError.exit_code, MachineError.exit_code, BusyError.exit_code}
"""How a stage ends for reasons that say nothing about the run."""


@dataclass(frozen=True)
class Verdict:
    """What a training made again says of the recorded one; `figures`: how far apart they are."""

    verdict: Literal["identical bytes", "equal within tolerance", "differs"]
    figures: tuple[str, ...]


def inspect_checkout(models: Path, raw: Path, normalized: Path) -> tuple[RunRecord, list[Difference]]:
    """The record models/run.json, and where the files of this checkout are not those of its run.

    Raises DataError where it is missing, damaged or too old.
    """
    run = read_record(models / "run.json")
    record.check_record(run)
    return run, list(differences.compare_files(run, models, raw, normalized))


def inspect_stored_run(run: RunRecord, logged: list[dict[str, float]]) -> list[Difference]:
    """Where the epochs `logged` in a store are not those of the record `run` that was kept there.

    Raises DataError where the record is too old.
    """
    record.check_record(run)
    return list(differences.compare_history(run, logged, "MLflow"))


def certify_run(
    run: RunRecord, what_differs: Sequence[Difference], model: Path, downloads: Path, *, quick: bool
) -> int:
    """Print what differs from the record `run`, train it again unless `quick`, print the verdict; the exit code.

    `what_differs`: differences known already; `model`: where the recorded network may be, known by its digest. 0:
    identical bytes, or equal within TOLERANCE, and no fault (`quick`: no difference that could matter); 1: not as
    recorded; 4, 6 or 75 where a stage fails for reasons of the machine. Raises MachineError where git or the commit is
    lacking, ParamsError for a run that trained together with others.
    """
    if "together" in run:
        raise ParamsError(
            f"{run['name']}, key {run['key'][:12]}, trained together with {run['together'] - 1} others, as one "
            "program: alone it is equal to rounding, not to the byte. Certify a run that trained alone."
        )
    commit = run["git"]["commit"]
    print(
        f"certify: {run['name']}, key {run['key'][:12]}, {len(run['history'])} epochs, commit {(commit or 'none')[:12]}"
    )
    known = _shown([*differences.compare_record(run), *what_differs, *differences.compare_machine(run)])
    if commit is None:
        print(
            "certify: cannot be trained again, because it was recorded without a git commit "
            f"({describe_git(run['git'])}). Commit the project, run `dvc repro "
            "--force --single-item train`, and certify that run."
        )
        return 1
    with checkout.checkout_commit(commit) as project:
        known += _shown(differences.compare_commit(run, project))
        checkout.set_params(project, run["params"])
        fetched = {
            "params": project / "params.yaml",
            "raw": project / "data" / "raw",
            "downloads": downloads.absolute(),
        }
        options = [text for name, path in fetched.items() for text in (f"--{name}", str(path))]
        # In this folder, from which mirrors may be named.
        code = checkout.run_stage(project, ["fetch", *options], {}, Path.cwd())
        code = code or checkout.run_stage(project, ["normalize"], {})
        if code:
            return _failed("fetch or normalize", code)
        known += _shown(differences.compare_data(run, project / "data" / "normalized"))
        if quick:
            return _quick_verdict(known)
        started = time.monotonic()
        code = checkout.run_stage(project, ["train", "--no-resume"], run["machine"])
        if code:
            return _failed("train", code)
        print(f"certify: trained again in {time.monotonic() - started:.0f} s")
        again = read_record(project / "models" / "run.json")
        known += differences.compare_strategy(run, again)
        return _verdict(compare_trainings(run, again, model, project / "models" / "model.keras"), known, run)


def _shown(what_differs: Iterable[Difference]) -> list[Difference]:
    listed = list(what_differs)
    for difference in listed:
        print(f"  {difference.text}")
    print(end="", flush=True)  # before what the stages print
    return listed


def _failed(stage: str, code: int) -> int:
    """The exit code where a stage ended with `code`; raises MachineError for a signal."""
    if code < 0 or code >= 128:
        raise MachineError(
            f"{stage} was ended by signal {-code if code < 0 else code - 128}, perhaps for lack of memory. "
            "Run the same command again with fewer other programs."
        )
    if code not in OF_THE_MACHINE:
        print(f"certify: differs: {stage} ends with exit code {code} (see above), the recorded run finished well")
        return 1
    return code


def _quick_verdict(known: list[Difference]) -> int:
    matter = [difference for difference in known if difference.kind != "aside"]
    if matter:
        print(f"certify: not as recorded, {len(matter)} difference(s) of the above; nothing was trained (--quick)")
        return 1
    print("certify: all that can be compared without training is as recorded (--quick)")
    return 0


def _verdict(trained: Verdict, known: list[Difference], run: RunRecord) -> int:
    faults = [difference.text for difference in known if difference.kind == "fault"]
    causes = [difference.text for difference in known if difference.kind == "cause"]
    devices, level = run["strategy"]["devices"], run["reproducibility"]
    if level != "deterministic" and any("gpu" in device for device in devices):
        causes.append(
            f"reproducibility: '{level}' promises no same bits on a GPU; train.reproducibility: deterministic"
        )
    print(f"certify: {trained.verdict}: {'; '.join(trained.figures)}")
    if faults:
        print("certify: the record and its files do not belong together:", *faults, sep="\n  ")
    if trained.verdict != "identical bytes" and causes:
        print("certify: what can explain another result:", *causes, sep="\n  ")
    elif trained.verdict != "identical bytes" and not faults:
        print(
            "certify: nothing that is recorded explains it: run.json, history.csv or model.keras were changed "
            "together, or this training is not the same twice here (certify it once more to see)"
        )
    return 1 if faults or trained.verdict == "differs" else 0


def compare_trainings(run: RunRecord, again: RunRecord, model: Path, new_model: Path) -> Verdict:
    """Compare the records of two trainings and their networks, `model` only where it is the one that `run` wrote."""
    epochs = f"the history of {len(run['history'])} epochs"
    same_model = run["sha256"]["model"] == again["sha256"]["model"]
    differing, largest = _histories(run, again)
    if same_model and not differing and largest == 0:
        return Verdict("identical bytes", (f"model.keras (SHA-256 {run['sha256']['model'][:12]}…) and {epochs}",))
    figures = [f"largest difference of a loss {largest:.2g}"] if largest is not None else []
    apart: float | None = 0.0
    if same_model:
        figures.append("the same model.keras")
    elif model.is_file() and files.file_sha256(model) == run["sha256"]["model"]:
        apart = _weights_apart(read_weights(model), read_weights(new_model))
        figures.append("another network" if apart is None else f"of a weight {apart:.2g}")
    else:
        figures.append(f"another model.keras, and the recorded one is not in {model} to compare its weights")
    near = not differing and largest is not None and largest <= TOLERANCE and apart is not None and apart <= TOLERANCE
    return Verdict("equal within tolerance" if near else "differs", (*differing, *figures))


def _histories(run: RunRecord, again: RunRecord) -> tuple[list[str], float | None]:
    """What differs beside the losses, and the largest difference of a loss; None where they have not the same epochs.

    Other losses may come with another accuracy; the same losses cannot.
    """
    recorded, repeated = run["history"], again["history"]
    differing = [
        f"{name} {run[name]} there, {again[name]} here"
        for name in ("best_epoch", "weights")
        if run[name] != again[name]
    ]
    if len(recorded) != len(repeated):
        return [*differing, f"{len(recorded)} epochs there, {len(repeated)} here"], None
    largest = 0.0
    for row, other in zip(recorded, repeated, strict=True):
        apart = max(abs(row[name] - other[name]) for name in LOSS_COLUMNS)
        largest = max(largest, apart)
        for name in (name for name in other if name != "time" and apart == 0):
            if row.get(name) != other[name]:
                differing.append(f"epoch {row['epoch']} {name} {row.get(name)} there, {other[name]} here")
    return differing, largest


def _weights_apart(recorded: dict[str, NDArray[Any]], repeated: dict[str, NDArray[Any]]) -> float | None:
    """The largest difference of a weight; None where the networks have not the same arrays."""
    if {name: array.shape for name, array in recorded.items()} != {
        name: array.shape for name, array in repeated.items()
    }:
        return None
    apart = [np.abs(recorded[name].astype(np.float64) - repeated[name]).max(initial=0) for name in recorded]
    return float(np.max(apart, initial=0.0))  # NaN stays NaN

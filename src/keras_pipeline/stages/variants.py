"""The verb variants: params.yaml with some of its values varied, trained together, each a run of its own."""

import io
import itertools
import json
import math
import os
import re
import statistics
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from keras_pipeline import distribution, files, memory, preparation, provenance, record, strict_yaml, workers
from keras_pipeline.errors import ParamsError
from keras_pipeline.params import Params, load
from keras_pipeline.preparation import Prepared
from keras_pipeline.preprocessing import read_split

MOST = 1000
MOST_TOGETHER = 64
"""Of those in one program: more gain nothing, and an interruption costs them all."""
SHARED = ("fetch", "normalize")
"""The blocks that cannot vary: all variants read the same arrays."""
IN_ONE_PROGRAM = ("seed", "train.optimizer.learning_rate")
IF_NOT_ZERO = ("model.dropout", "model.l2")
"""What may differ among networks that train as one program; 0 is another network, without the layer or the penalty."""
BESIDE_TRAINING = ("evaluate.", "tracking.")
SHOWN_SECONDS = 10
"""How often somebody who waits is told something, and at the end of every epoch."""
_RANGE = re.compile(r"(\d{1,10})\.\.(\d{1,10})")


def prepare(params_file: Path, assignments: Sequence[str], folder: Path) -> dict[str, Path]:
    """Write folder/VARIANT/params.yaml for each combination of the values of KEY=VALUE,VALUE or KEY=FIRST..LAST.

    By name, which tells the values that vary. Raises ParamsError where the values, or what they make, are wrong.
    """
    parsed = [_parsed(assignment) for assignment in assignments]
    choices = dict(parsed)
    if not parsed or len(choices) < len(parsed):
        received = "a key stands twice" if parsed else "nothing varies"
        raise ParamsError(f"variants: {received}. Expected: KEY=VALUE,VALUE,… or KEY=FIRST..LAST, a key once.")
    count = math.prod(len(values) for values in choices.values())
    if count > MOST:
        raise ParamsError(f"variants: {count} combinations. Expected: {MOST} at most.")
    load(params_file)  # its own faults first, with their lines
    text = params_file.read_text()
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 10_000, True
    found: dict[str, Path] = {}
    contents = []
    for values in itertools.product(*choices.values()):
        chosen = dict(zip(choices, values, strict=True))
        varied = {key: value for key, value in chosen.items() if len(choices[key]) > 1} or chosen
        name = " ".join(f"{key}={_short(value)}" for key, value in varied.items())
        document = yaml.load(text)
        for key, value in chosen.items():
            _set(document, key, value)
        varied_text = io.StringIO()
        yaml.dump(document, varied_text)
        content = varied_text.getvalue().encode()
        params = strict_yaml.loads(content, f"{params_file} with {name}", Params)
        _possible(params, f"{params_file} with {name}")
        found[name] = folder / re.sub(r"[^\w.=+,-]+", "-", name.replace(" ", ",")).strip("-")
        contents.append(content)
    for own, content in zip(found.values(), contents, strict=True):
        files.write_atomically(own / "params.yaml", content)
    return found


def _parsed(assignment: str) -> tuple[str, list[Any]]:
    key, equals, text = assignment.partition("=")
    if span := _RANGE.fullmatch(text):
        values: Any = list(range(int(span[1]), int(span[2]) + 1))
    else:
        try:
            values = YAML(typ="safe", pure=True).load(f"[{text}]")
        except YAMLError:
            values = None
    if not (key and equals and values) or not isinstance(values, list):
        raise ParamsError(f"'{assignment}' varies nothing. Expected: KEY=VALUE,VALUE,… or KEY=FIRST..LAST.")
    if key.split(".")[0] in SHARED:
        raise ParamsError(
            f"'{assignment}': {key} cannot vary here, because all variants train on the arrays in data/normalized. "
            "Use `dvc exp run -S` for it."
        )
    if len({json.dumps(value) for value in values}) < len(values):
        raise ParamsError(f"'{assignment}' names a value twice. Expected: different ones.")
    return key, values


def _set(document: Any, key: str, value: Any) -> None:
    *blocks, last = key.split(".")
    for block in blocks:
        if not isinstance(document, Mapping) or block not in document:
            raise ParamsError(f"{key}: params.yaml has no block '{block}'. Expected: the keys of params.yaml, by dots.")
        document = document[block]
    document[last] = value


def _short(value: Any) -> str:
    return json.dumps(value, separators=(",", ":")) if isinstance(value, list | dict | bool) else str(value)


def _possible(params: Params, name: str) -> None:
    """Refuse what cannot be one lane of a program."""
    train = params.train
    if train.backend != "jax":
        raise ParamsError(
            f"{name}: train.backend: {train.backend}, but only JAX trains variants together. Add train.backend=jax."
        )
    if train.strategy not in ("none", "one_device"):
        raise ParamsError(
            f"{name}: train.strategy: {train.strategy}, but variants train together on one device. "
            "Add train.strategy=none."
        )


def grouped(variants: Mapping[str, Path], normalized: Path) -> list[list[Path]]:
    """Those whose networks and trainings have the same shapes, together, as far as half of the memory goes.

    Raises what `preparation.check` raises for any of them.
    """
    groups: dict[str, list[Path]] = {}
    most: dict[str, int] = {}
    for own in variants.values():
        params = load(own / "params.yaml")
        plan, _ = preparation.check(params, normalized)
        values = provenance.flat_params(dict(params))
        alike = {key: value for key, value in values.items() if not key.startswith(BESIDE_TRAINING)}
        for key in IN_ONE_PROGRAM:
            del alike[key]
        alike |= {key: bool(values[key]) for key in IF_NOT_ZERO}
        shape = json.dumps(alike, sort_keys=True)
        groups.setdefault(shape, []).append(own)
        needed = preparation.least_memory(params, plan.batch_size)
        most[shape] = max(1, min(MOST_TOGETHER, memory.limit() // 2 // needed))
    return [group[at : at + most[shape]] for shape, group in groups.items() for at in range(0, len(group), most[shape])]


def train(groups: Sequence[Sequence[Path]], normalized: Path, command: Sequence[str]) -> int:
    """Train group by group, each in a process of its own, by `command`; 0, or the first exit code that is not."""
    environ = {**os.environ, workers.PARENT: str(os.getpid())}
    for number, group in enumerate(groups, 1):
        of = f" (group {number} of {len(groups)})" if len(groups) > 1 else ""
        print(f"variants: {len(group)} train together{of}", flush=True)
        arguments = [*command, "--normalized", str(normalized), "--together", *map(str, group)]
        code = subprocess.run(arguments, env=environ, check=False).returncode
        if code:
            return code
    return 0


def together(folders: Sequence[Path], normalized: Path) -> None:
    """Train one group in this process; leave models/ of each, without a network where it diverged."""
    with ExitStack() as ending:
        for own in folders:
            ending.enter_context(files.lock(own / "models"))
        prepared = _prepared(folders, normalized)
        print("\n".join(prepared[0].summary()), flush=True)
        from keras_pipeline import vectorized

        began = time.monotonic()
        lanes = vectorized.fit(prepared, _Clock(prepared[0].params.train.epochs, prepared[0].data.steps))
        seconds = (time.monotonic() - began) / len(lanes)
        for own, lane in zip(folders, lanes, strict=True):
            run = lane.prepared.run
            run.update(ended=time.time(), train_seconds=seconds, together=len(lanes))
            if run["history"]:
                lane.prepared.write_history(own / "models" / "history.csv")
            if lane.fault:
                run["diverged"] = lane.fault.received
                (own / "models" / "model.keras").unlink(missing_ok=True)
                files.write_json(own / "models" / "run.json", run)
            else:
                lane.prepared.write(own / "models" / "model.keras", own / "models" / "run.json")


class _Clock:
    """Says now and then where all variants are, and how long it may still take. The first steps, which compile, tell
    nothing of that."""

    def __init__(self, epochs: int, steps: int) -> None:
        self.epochs, self.steps = epochs, steps
        self.began = self.shown = 0.0
        self.first = 0

    def __call__(self, epoch: int, step: int) -> None:
        now, done = time.monotonic(), (epoch - 1) * self.steps + step
        if not self.first:
            self.began = self.shown = now
            self.first = done
        elif step == self.steps or now > self.shown + SHOWN_SECONDS:
            left = (now - self.began) / (done - self.first) * (self.epochs * self.steps - done)
            at = f"epoch {epoch} of {self.epochs}, step {step} of {self.steps}"
            print(f"variants: {at}, {left:.0f} s left", flush=True)
            self.shown = now


def _prepared(folders: Sequence[Path], normalized: Path) -> list[Prepared]:
    """The networks of one group on one device, over one copy of the images."""
    variants = [load(own / "params.yaml") for own in folders]
    plan, numbers = preparation.check(variants[0], normalized)
    splits = [read_split(normalized, name, numbers) for name in ("train", "validation")]
    runs = [record.begun(params, normalized, numbers, __name__) for params in variants]
    distribution.prepare(plan)
    place = distribution.open_distribution(plan)
    prepared = []
    for own, params, run in zip(folders, variants, runs, strict=True):
        run["name"] += f" {own.name.replace(',', ' ')}"
        prepared.append(preparation.prepare(params, plan, place, splits, run))
    return prepared


def table(variants: Mapping[str, Path]) -> Iterable[str]:
    """What came of each, and the mean of all where nothing but the seed varied."""
    width = max(map(len, variants))
    yield f"{'variant':{width}}  epochs  val/accuracy  test/accuracy"
    reached = []
    for name, own in variants.items():
        run = files.read_json(own / "models" / "run.json", written_by="variants", keys=("history",))
        if "diverged" in run:
            yield f"{name:{width}}  {run['diverged']}"
            continue
        scores = files.read_json(own / "reports" / "metrics.json", written_by="evaluate")
        reached.append(scores["test/accuracy"])
        best = run["history"][run["best_epoch"] - 1]
        yield f"{name:{width}}  {len(run['history']):6}  {best['val/accuracy']:12.4f}  {reached[-1]:13.4f}"
    if len(reached) > 1 and all(name.startswith("seed=") and " " not in name for name in variants):
        deviation = statistics.stdev(reached)
        yield f"test/accuracy: {statistics.mean(reached):.4f} ± {deviation:.4f} (standard deviation of the seeds)"


def diverged(own: Path) -> dict[str, Any] | None:
    """The record of a variant that diverged; None where it did not."""
    run: dict[str, Any] = files.read_json(own / "models" / "run.json", written_by="variants")
    return run if "diverged" in run else None

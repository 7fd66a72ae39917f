"""A search: the best values of some params, sought with many runs. Its file, searches/NAME.yaml, to its runs."""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from keras_pipeline.checks.params import CheckedParams
from keras_pipeline.config.params import Params
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.records.observer import ChildRun
from keras_pipeline.runs.run import Run, Values, check_name, short_value, why_unsuitable
from keras_pipeline.strict_yaml import reader
from keras_pipeline.strict_yaml.faults import Block, KeyedError
from keras_pipeline.strict_yaml.nodes import Node

MOST_TRIALS = 2000
VARIES_BY_ITSELF = {
    "seed": "the search's own keys `seed` and `seeds`",
    "export": "params.yaml and `dvc repro`; a search exports no network",
    "tracking": "params.yaml; the search names its experiment",
}
BASELINE = "params.yaml"
WINNER = "winner"
DIGITS = 4
"""Of a number that is drawn from a range: more would look like knowledge, and nobody wants to read them."""
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Number = int | float


class Dimension(Block):
    """What one key may be: a range, evenly or (`log`) on a log scale, in steps if any; or one of several choices."""

    low: Number | None = None
    """the least value of the range"""
    high: Number | None = None
    """the greatest value of the range"""
    log: bool = False
    """whether the range is on a log scale"""
    step: Number | None = None
    """by which the values of the range differ"""
    choices: Annotated[tuple[Any, ...], Field(min_length=2, max_length=100)] | None = None
    """the values, in place of a range"""

    @model_validator(mode="after")
    def _makes_sense(self) -> "Dimension":
        for key, message in self._faults():
            raise KeyedError((key,), message)
        return self

    def _faults(self) -> Iterator[tuple[str, str]]:
        if self.choices is not None:
            for key in self.model_fields_set - {"choices"}:
                yield key, "belongs to a range, and choices stand here too. Keep one of the two."
            if len({json.dumps(value) for value in self.choices}) < len(self.choices):
                yield "choices", "a value stands twice. Expected: different ones."
            return
        if self.low is None or self.high is None:
            yield "choices", "no range and no choices. Expected: low and high, or choices."
        elif self.low >= self.high:
            yield "high", f"{self.high} is not above low, {self.low}. Expected: a range."
        elif self.log and self.low <= 0:
            yield "low", f"{self.low} has no logarithm. Expected: a number above 0, or no log."
        elif self.step is not None and self.log:
            yield "step", "a range on a log scale has no steps. Keep one of log and step."
        elif self.step is not None and self.step <= 0:
            yield "step", f"{self.step} leads nowhere. Expected: a number above 0."
        elif self.step is not None and not _whole((self.high - self.low) / self.step):
            yield "step", f"{self.step} does not lead from {self.low} to {self.high}. Expected: a part of the range."

    def points(self, *, integer: bool) -> float:
        """How many values there are; `integer`: of whole numbers."""
        if self.choices is not None:
            return len(self.choices)
        if self.low is None or self.high is None or not (integer or self.step):
            return math.inf
        return round((self.high - self.low) / (self.step or 1)) + 1


def _whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-9 * max(1.0, abs(value))


class SearchFile(Block):
    """What searches/NAME.yaml holds.

    Each of the `trials` trains with `seed` and values out of `space`, which the sampler draws, `seed` deciding its
    draws too; the pruner ends one that is worse than half of those before it were, from `warmup_epochs` on. `fixed` is
    the same for all runs. The winner and params.yaml as it is are both trained on `seeds`.
    """

    goal: Annotated[str, Field(min_length=1, max_length=300)]
    """what the search asks"""
    maximize: Literal["val/accuracy"] | None = None
    """what is sought; or minimize"""
    minimize: Literal["val/loss"] | None = None
    """what is sought; or maximize"""
    trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)]
    """how many trainings the search may cost, beside those of the check"""
    seed: Seed
    """of the sampler's draws, and of every trial's training"""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=2, max_length=100)]
    """on which the winner and params.yaml as it is are compared in the end; a verdict needs three at least"""
    fixed: Values = Field(default_factory=dict)
    """what params.yaml says otherwise, the same for all trials and the check"""
    space: Annotated[dict[str, Dimension], Field(min_length=1, max_length=50)]
    """what each key may be: {low: …, high: …}, with log or step if need be, or {choices: […]}"""
    sampler: Literal["tpe", "random"] = "tpe"
    """how values are drawn: tpe learns from the trials before"""
    pruner: Literal["median", "none"] = "median"
    """median: a trial worse than half of those before it at the same epoch ends there"""
    warmup_epochs: Annotated[int, Field(ge=0, le=10_000)] = 1
    """before which no trial is pruned"""

    @property
    def metric(self) -> str:
        """By which trials are judged, in the epoch whose weights are kept."""
        return self.maximize or self.minimize or ""

    @model_validator(mode="after")
    def _makes_sense(self) -> "SearchFile":
        faults = list(self._faults())
        if faults:
            raise KeyedError(faults[0].key, str(faults[0]), *faults[1:])
        return self

    def _faults(self) -> Iterator[KeyedError]:
        if bool(self.maximize) == bool(self.minimize):
            received = "both maximize and minimize stand here" if self.maximize else "it is not said what is sought"
            yield KeyedError(
                ("maximize",), f"{received}. Expected: one of `maximize: val/accuracy` and `minimize: val/loss`."
            )
        if len(set(self.seeds)) < len(self.seeds):
            yield KeyedError(("seeds",), "a seed stands twice. Expected: different ones.")
        if self.seed in self.seeds:
            yield KeyedError(
                ("seeds",), f"{self.seed} is the trials' own seed. Expected: others, for they shall judge."
            )
        for block, values in (("fixed", self.fixed), ("space", self.space)):
            for key in values:
                if (first := key.split(".")[0]) in VARIES_BY_ITSELF:
                    yield KeyedError((block, key), f"does not belong here. Use {VARIES_BY_ITSELF[first]}.")
        for key in self.fixed.keys() & self.space.keys():
            yield KeyedError(("space", key), "stands in fixed too. Keep one of the two.")


@dataclass(frozen=True)
class Search:
    """A search, checked: `base` is params.yaml's text, `root` what that holds, `integer_keys` those keys of its space
    that are whole numbers."""

    name: str
    path: Path
    settings: SearchFile
    base: str
    root: Node
    integer_keys: frozenset[str]

    @property
    def baseline(self) -> Run:
        """params.yaml as it is, but for what is fixed, with the trials' seed."""
        return self._run(BASELINE, {}, self.settings.seed)

    def trial(self, number: int, values: Values) -> Run:
        """The run of the trial of this number. Raises ParamsError where the values do not go together."""
        return self._run(f"trial {number}", values, self.settings.seed)

    def rechecks(self, values: Values) -> list[Run]:
        """The winner, with these values, and params.yaml as it is, on each of the seeds."""
        pairs: list[tuple[str, Values]] = [(BASELINE, {}), (WINNER, values)]
        return [self._run(name, own, seed) for seed in self.settings.seeds for name, own in pairs]

    def child_run(self, run: Run) -> ChildRun:
        """What one of its runs is in MLflow."""
        return ChildRun("search", self.name, self.settings.goal, run.variant, run.tuned, run.seed)

    def identity(self, code: str, data: str) -> str:
        """16 digits that change with whatever decides a trial's value or the next draw; `code`, `data`: digests."""
        values = {key: value for key, value in self.baseline.values.items() if key not in self.settings.space}
        beside = {"goal", "trials", "seeds", "fixed"}
        content = [values, self.settings.model_dump(mode="json", exclude=beside), code, data]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def _run(self, variant: str, values: Values, seed: int) -> Run:
        changes = {**self.settings.fixed, **values, "seed": seed}
        nodes = {key: _node(value) for key, value in changes.items()}
        made = reader.change_yaml(self.root, BASELINE, nodes, str(self.path), CheckedParams)
        if not isinstance(made, Params):
            raise ParamsError("\n".join(made))
        return Run(variant, "", seed, made, self.base, changes)


def describe_values(search: Search, run: Run) -> str:
    """The values of a run in the search's space, by the last parts of their keys."""
    return " ".join(
        f"{key.rpartition('.')[2]}={short_value(run.changes.get(key, '…'))}" for key in search.settings.space
    )


def _node(value: Any) -> Node:
    """A value that stands in no file."""
    if isinstance(value, list | tuple):
        return Node([_node(one) for one in value], (1, 1), (1, 1))
    if isinstance(value, dict):
        return Node({key: _node(one) for key, one in value.items()}, (1, 1), (1, 1))
    return Node(value, (1, 1), (1, 1), str(value))


def round_number(dimension: Dimension, drawn: float, *, integer: bool) -> Number:
    """A number as it was drawn from a range, as it is used: whole, or with so many digits as one can still read."""
    if integer:
        return round(drawn)
    short = float(f"{drawn:.12g}" if dimension.step else f"{drawn:.{DIGITS}g}")
    return min(max(short, float(dimension.low or 0)), float(dimension.high or 0))


def load_search(path: Path, params_path: Path) -> Search:
    """The search in `path` over the params in `params_path`.

    Raises ParamsError naming every fault with file, line and column: of the search, of params.yaml, and of what the two
    make together, for which both ends of every range and every choice are tried.
    """
    check_name(path)
    content, base = reader.read_yaml_bytes(path), reader.read_yaml_bytes(params_path)
    settings = reader.parse_yaml(content, str(path), SearchFile)
    reader.parse_yaml(base, str(params_path), CheckedParams)  # its own faults first
    root, base_root = reader.parse_tree(content), reader.parse_tree(base)
    fixed: dict[str, Node] = root.value["fixed"].value if settings.fixed else {}
    lines: dict[str, None] = {}

    def good(changes: dict[str, Node], about: str) -> bool:
        made = reader.change_yaml(base_root, str(params_path), {**fixed, **changes}, str(path), CheckedParams)
        if isinstance(made, Params):
            why = why_unsuitable(made.fetch, made.train, made.task)
            place = next(iter({**changes, **fixed}.values()), root).at
            made = ["{}:{}:{}: {}".format(path, *place, why)] if why else []
        lines.update(dict.fromkeys(line if line.startswith(f"{path}:") else f"{line} ({about})" for line in made))
        return not made

    integer_keys = set()
    good({}, "with what is fixed")
    for key, node in root.value["space"].value.items() if not lines else []:
        dimension = settings.space[key]
        tried = node.value["choices"].value if dimension.choices else [node.value["low"], node.value["high"]]
        tried = [replace(one, key_at=node.key_at) for one in tried]  # a key that is not known is so for all of them
        refused = [one for one in tried if not good({key: one}, f"{key}: {json.dumps(one.plain())}")]
        if not refused and not dimension.choices and _is_whole(base_root, fixed, key, tried[0]):
            integer_keys.add(key)
            if dimension.step is not None and not isinstance(dimension.step, int):
                at = "{}:{}".format(*node.value["step"].at)
                lines[f"{path}:{at}: space.{key}.step: {dimension.step} is not whole, and {key} is."] = None
    points = math.prod(one.points(integer=key in integer_keys) for key, one in settings.space.items())
    if not lines and points < settings.trials:
        at = "{}:{}".format(*root.value["trials"].at)
        lines[f"{path}:{at}: trials: {settings.trials}, but the space has only {points:.0f} points."] = None
    if lines:
        raise ParamsError("\n".join([*lines, "Nothing was changed."]))
    return Search(path.stem, path, settings, base.decode(), base_root, frozenset(integer_keys))


def _is_whole(base_root: Node, fixed: dict[str, Node], key: str, low: Node) -> bool:
    """Whether the schema refuses half a unit more than `low`."""
    probe = Node(low.value + 0.5, low.at, low.key_at, str(low.value + 0.5))
    return not isinstance(low.value, float) and not isinstance(
        reader.change_yaml(base_root, "", {**fixed, key: probe}, "", CheckedParams), Params
    )

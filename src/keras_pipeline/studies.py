"""A study: one question asked with many runs. Its file, studies/NAME.yaml, to the params of each of its runs."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from keras_pipeline import params_file, provenance, strict_yaml
from keras_pipeline.errors import ParamsError
from keras_pipeline.params import Fetch, Params, Train
from keras_pipeline.strict_yaml import Block, KeyedError
from keras_pipeline.tasks import Task
from keras_pipeline.yaml_nodes import Node

MOST_RUNS = 2000
VARIES_BY_ITSELF = {"seed": "the study's own key `seeds`", "tracking": "params.yaml; the study names its experiment"}
BESIDE_THE_RESULT = ("tracking.",)

Values = dict[str, Any]
"""Values by the dotted keys of params.yaml."""
VariantName = Annotated[
    str,
    Field(
        pattern=r"\A[\w][\w .,=+()\[\]-]{0,79}\z",
        description="a name of letters, digits, spaces and .,=+()[]-, 80 characters at most",
    ),
]
Choices = Annotated[tuple[Any, ...], Field(min_length=1, max_length=100)]


class StudyFile(Block):
    """What studies/NAME.yaml holds.

    Every variant of `variants` is run with every combination of the values of `grid`, and with every seed; `fixed` is
    the same for all. Of the combinations of `tuned`, each variant is represented by the one with the best mean
    validation accuracy.
    """

    question: Annotated[str, Field(min_length=1, max_length=300)]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, le=2**32 - 1)], ...], Field(min_length=1, max_length=100)]
    baseline: Annotated[str, Field(min_length=1, max_length=200)]
    fixed: Values = Field(default_factory=dict)
    variants: dict[VariantName, Values] = Field(default_factory=dict)
    grid: dict[str, Choices] = Field(default_factory=dict)
    tuned: dict[str, Choices] = Field(default_factory=dict)
    discussion: Annotated[str, Field(max_length=10_000)] = ""

    @model_validator(mode="after")
    def _makes_sense(self) -> "StudyFile":
        faults = list(self._faults())
        if faults:
            raise KeyedError(faults[0].key, str(faults[0]), *faults[1:])
        return self

    def _faults(self) -> Iterator[KeyedError]:
        if len(set(self.seeds)) < len(self.seeds):
            yield KeyedError(("seeds",), "a seed stands twice. Expected: different ones.")
        if not self.variants and not self.grid:
            yield KeyedError(("variants",), "nothing varies. Expected: named variants, a grid, or both.")
        for block in ("grid", "tuned"):
            for key, values in getattr(self, block).items():
                if len({json.dumps(value) for value in values}) < len(values):
                    yield KeyedError((block, key), "a value stands twice. Expected: different ones.")
        blocks: list[tuple[tuple[str, ...], Mapping[str, Any]]] = [
            (("fixed",), self.fixed),
            (("grid",), self.grid),
            (("tuned",), self.tuned),
        ]
        blocks += [(("variants", name), values) for name, values in self.variants.items()]
        for place, values in blocks:
            for key in values:
                if (first := key.split(".")[0]) in VARIES_BY_ITSELF:
                    yield KeyedError((*place, key), f"does not belong here. Use {VARIES_BY_ITSELF[first]}.")
        yield from self._overlaps()

    def _overlaps(self) -> Iterator[KeyedError]:
        varied: dict[str, str] = dict.fromkeys(self.grid, "grid")
        for key in self.tuned:
            if key in varied:
                yield KeyedError(("tuned", key), "stands in grid too. Keep one of the two.")
            varied[key] = "tuned"
        for name, values in self.variants.items():
            for key in values.keys() & varied.keys():
                yield KeyedError(("variants", name, key), f"stands in {varied[key]} too. Keep one of the two.")


@dataclass(frozen=True)
class Run:
    """One training of a study: `tuned` names the combination of the tuned values, "" where none are; `changes` made its
    params of those in the text `base`."""

    variant: str
    tuned: str
    seed: int
    params: Params
    base: str
    changes: Values

    @property
    def text(self) -> str:
        """Its params.yaml."""
        return params_file.changed(self.base, self.changes)

    @property
    def key(self) -> str:
        """16 digits that are the same for runs with the same params, in whatever study."""
        return provenance.params_digest(self.values)[:16]

    @property
    def values(self) -> Values:
        """All that decides its result, by dotted key."""
        values = provenance.flat_params(dict(self.params))
        return {key: value for key, value in values.items() if not key.startswith(BESIDE_THE_RESULT)}

    @property
    def name(self) -> str:
        """What people call it."""
        return " ".join(filter(None, (self.variant, self.tuned, f"seed {self.seed}")))


@dataclass(frozen=True)
class Member:
    """What a run is in its study or search, `kind`; `tuned`: which of the tuned values it has, "" where none are."""

    kind: Literal["study", "search"]
    whole: str
    question: str
    variant: str
    tuned: str
    seed: int

    @property
    def name(self) -> str:
        """What the run is called."""
        return " ".join(filter(None, (self.variant, self.tuned, f"seed {self.seed}")))


@dataclass(frozen=True)
class Study:
    """A study with all its runs, seed by seed, so that what is done early can be compared."""

    name: str
    asked: StudyFile
    runs: tuple[Run, ...]
    varied: tuple[str, ...]

    def member(self, run: Run) -> Member:
        """What one of the runs is in MLflow."""
        return Member("study", self.name, self.asked.question, run.variant, run.tuned, run.seed)


def check_name(path: Path) -> None:
    """Raise ParamsError where the name of a study's or search's file could not name its report, pictures and tags."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", path.stem):
        raise ParamsError(
            f"{path}: its name is that of its report and its pictures. Expected: letters without accents, digits, "
            "'-', '_' and '.', a letter or digit first. Rename the file.\nNothing was changed."
        )


def unsuitable(fetch: Fetch, train: Train, task: Task) -> str:
    """Why a run with these params can be none of a study or search; "" where it can."""
    if train.workers != 1:
        return f"train.workers: {train.workers}, but each run here is one process. Expected: 1."
    if task.name == "regression":
        return f"fetch.dataset: {fetch.dataset}, but accuracies are compared here. Use a dataset of images."
    return ""


def load(path: Path, params_path: Path) -> Study:
    """The study in `path` over the params in `params_path`.

    Raises ParamsError naming every fault with file, line and column: of the study, of params.yaml, and of what the two
    make together.
    """
    check_name(path)
    content, base = strict_yaml.read(path), strict_yaml.read(params_path)
    asked = strict_yaml.loads(content, str(path), StudyFile)
    strict_yaml.loads(base, str(params_path), Params)  # its own faults first
    root, base_root = strict_yaml.tree(content), strict_yaml.tree(base)
    lines: dict[str, None] = {}
    found: list[tuple[str, str, Params, Values]] = []
    for variant, tuned, changes in _combinations(asked, root):
        made = strict_yaml.with_changes(base_root, str(params_path), changes, str(path), Params)
        if isinstance(made, Params) and (why := unsuitable(made.fetch, made.train, made.task)):
            lines[f"{path}: '{variant or tuned}' has {why}"] = None
        elif isinstance(made, Params):
            found.append((variant, tuned, made, {key: node.plain() for key, node in changes.items()}))
        else:
            lines |= dict.fromkeys(line if line.startswith(f"{path}:") else f"{line} ({variant})" for line in made)
    names = list(dict.fromkeys(variant for variant, _, _ in _combinations(asked, root)))
    if asked.baseline not in names:
        at = "{}:{}".format(*root.value["baseline"].at)
        shown = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
        lines[f"{path}:{at}: baseline: '{asked.baseline}' is no variant. Expected: one of {shown}."] = None
    if not lines and (twice := _same(found)):
        lines[f"{path}: the variants '{twice[0]}' and '{twice[1]}' have the same params. Expected: different ones."] = (
            None
        )
    if len(found) * len(asked.seeds) > MOST_RUNS:
        lines[f"{path}: {len(found) * len(asked.seeds)} runs. Expected: {MOST_RUNS} at most."] = None
    if lines:
        raise ParamsError("\n".join([*lines, "Nothing was changed."]))
    text = base.decode()
    runs = [
        Run(variant, tuned, seed, params.model_copy(update={"seed": seed}), text, {**values, "seed": seed})
        for seed in asked.seeds
        for variant, tuned, params, values in found
    ]
    varied = dict.fromkeys([*asked.grid, *asked.tuned, *(key for values in asked.variants.values() for key in values)])
    return Study(path.stem, asked, tuple(runs), tuple(varied))


def _combinations(asked: StudyFile, root: Node) -> Iterator[tuple[str, str, dict[str, Node]]]:
    """Each variant's name, the name of its tuned values, and all that it changes, with its places in the file."""

    def block(*key: str) -> dict[str, Node]:
        node = root
        for part in key:
            node = node.value[part]
        found: dict[str, Node] = node.value
        return found

    fixed = block("fixed") if asked.fixed else {}
    grid = list(_product(block("grid") if asked.grid else {}))
    tuned = list(_product(block("tuned") if asked.tuned else {}))
    for name in asked.variants or [""]:
        own = block("variants", name) if name else {}
        for grid_name, of_grid in grid:
            for tuned_name, of_tuned in tuned:
                yield " ".join(filter(None, (name, grid_name))), tuned_name, {**fixed, **own, **of_grid, **of_tuned}


def _product(choices: Mapping[str, Node]) -> Iterator[tuple[str, dict[str, Node]]]:
    """Every combination of one value of each key, with its name: the values behind the last parts of their keys."""
    for nodes in itertools.product(*(node.value for node in choices.values())):
        chosen = dict(zip(choices, nodes, strict=True))
        yield " ".join(f"{key.rpartition('.')[2]}={short(node.plain())}" for key, node in chosen.items()), chosen


def short(value: Any) -> str:
    """A value of params.yaml as it stands in a name."""
    text = json.dumps(value, separators=(",", ":")) if isinstance(value, list | dict | bool) else str(value)
    return re.sub(r"[\"{}]", "", text)


def _same(found: list[tuple[str, str, Params, Values]]) -> tuple[str, str] | None:
    """Two variants with the same params."""
    known: dict[str, str] = {}
    for variant, tuned, params, _ in found:
        name = " ".join(filter(None, (variant, tuned)))
        text = params.model_dump_json()
        if text in known:
            return known[text], name
        known[text] = name
    return None

"""A study: one question asked with many runs. Its file, studies/NAME.yaml, to the params of each of its runs."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from keras_pipeline.checks.params import CheckedParams
from keras_pipeline.config.params import Params
from keras_pipeline.config.tasks import describe_useless
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.records.observer import ChildRun
from keras_pipeline.runs.folders import Folders, ResultCache, read_run_scores
from keras_pipeline.runs.run import Run, Values, check_name, find_file, load_files, short_value, why_unsuitable
from keras_pipeline.strict_yaml import reader
from keras_pipeline.strict_yaml.faults import Block, KeyedError
from keras_pipeline.strict_yaml.nodes import Node

MOST_RUNS = 2000
VARIES_BY_ITSELF = {
    "seed": "the study's own key `seeds`",
    "export": "params.yaml and `dvc repro`; a study exports no network",
    "tracking": "params.yaml; the study names its experiment",
}
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
    """what the study asks"""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, le=2**32 - 1)], ...], Field(min_length=1, max_length=100)]
    """each variant is run with each of these; a verdict needs three at least, better five"""
    baseline: Annotated[str, Field(min_length=1, max_length=200)]
    """the variant that the others are compared with, by its name, such as activation=relu"""
    fixed: Values = Field(default_factory=dict)
    """what params.yaml says otherwise, the same for all runs"""
    variants: dict[VariantName, Values] = Field(default_factory=dict)
    """named settings: what each says otherwise"""
    grid: dict[str, Choices] = Field(default_factory=dict)
    """every combination of these values is a variant, together with those of `variants`"""
    tuned: dict[str, Choices] = Field(default_factory=dict)
    """each variant is represented by the combination of these with the best mean validation accuracy"""
    discussion: Annotated[str, Field(max_length=10_000)] = ""
    """what was found, for the report"""

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
        sizes = [len(values) for values in (*self.grid.values(), *self.tuned.values())]
        if (runs := math.prod([max(1, len(self.variants)), len(self.seeds), *sizes])) > MOST_RUNS:
            many = "grid" if self.grid else "tuned" if self.tuned else "seeds"
            shown = runs if runs < 1_000_000 else "more than a million"
            yield KeyedError((many,), f"{shown} runs come of it. Expected: {MOST_RUNS} at most.")
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
class Study:
    """A study with all its runs, seed by seed, so that what is done early can be compared."""

    name: str
    path: Path
    settings: StudyFile
    runs: tuple[Run, ...]
    varied: tuple[str, ...]

    def child_run(self, run: Run) -> ChildRun:
        """What one of the runs is in MLflow."""
        return ChildRun("study", self.name, self.settings.question, run.variant, run.tuned, run.seed)


def load_study(path: Path, params_path: Path) -> Study:
    """The study in `path` over the params in `params_path`.

    Raises ParamsError naming every fault with file, line and column: of the study, of params.yaml, and of what the two
    make together.
    """
    check_name(path)
    content, base = reader.read_yaml_bytes(path), reader.read_yaml_bytes(params_path)
    settings = reader.parse_yaml(content, str(path), StudyFile)
    reader.parse_yaml(base, str(params_path), CheckedParams)  # its own faults first
    root, base_root = reader.parse_tree(content), reader.parse_tree(base)
    varying = root.value["variants" if settings.variants else "grid"].key_at
    place = "{}:{}:{}".format(path, *varying)
    lines: dict[str, None] = {}
    found: list[tuple[str, str, Params, Values]] = []
    for variant, tuned, changes in _combinations(settings, root):
        made = reader.change_yaml(base_root, str(params_path), changes, str(path), CheckedParams)
        if isinstance(made, Params) and (why := why_unsuitable(made.fetch, made.train, made.task)):
            lines[f"{place}: '{variant or tuned}' has {why}"] = None
        elif isinstance(made, Params):
            found.append((variant, tuned, made, {key: node.plain() for key, node in changes.items()}))
        else:
            lines |= dict.fromkeys(line if line.startswith(f"{path}:") else f"{line} ({variant})" for line in made)
    names = list(dict.fromkeys(variant for variant, _, _ in _combinations(settings, root)))
    if settings.baseline not in names:
        at = "{}:{}".format(*root.value["baseline"].at)
        shown = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
        lines[f"{path}:{at}: baseline: '{settings.baseline}' is no variant. Expected: one of {shown}."] = None
    if not lines and (twice := _same(found)):
        received = f"the variants '{twice[0]}' and '{twice[1]}' have the same params"
        lines[f"{place}: {received}. Expected: different ones."] = None
    if lines:
        raise ParamsError("\n".join([*lines, "Nothing was changed."]))
    text = base.decode()
    runs = [
        Run(variant, tuned, seed, params.model_copy(update={"seed": seed}), text, {**values, "seed": seed})
        for seed in settings.seeds
        for variant, tuned, params, values in found
    ]
    varied = dict.fromkeys(
        [*settings.grid, *settings.tuned, *(key for values in settings.variants.values() for key in values)]
    )
    return Study(path.stem, path, settings, tuple(runs), tuple(varied))


def _combinations(settings: StudyFile, root: Node) -> Iterator[tuple[str, str, dict[str, Node]]]:
    """Each variant's name, the name of its tuned values, and all that it changes, with its places in the file."""

    def block(*key: str) -> dict[str, Node]:
        node = root
        for part in key:
            node = node.value[part]
        found: dict[str, Node] = node.value
        return found

    fixed = block("fixed") if settings.fixed else {}
    grid = list(_product(block("grid") if settings.grid else {}))
    tuned = list(_product(block("tuned") if settings.tuned else {}))
    for name in settings.variants or [""]:
        own = block("variants", name) if name else {}
        for grid_name, of_grid in grid:
            for tuned_name, of_tuned in tuned:
                yield " ".join(filter(None, (name, grid_name))), tuned_name, {**fixed, **own, **of_grid, **of_tuned}


def _product(choices: Mapping[str, Node]) -> Iterator[tuple[str, dict[str, Node]]]:
    """Every combination of one value of each key, with its name: the values behind the last parts of their keys."""
    for nodes in itertools.product(*(node.value for node in choices.values())):
        chosen = dict(zip(choices, nodes, strict=True))
        yield " ".join(f"{key.rpartition('.')[2]}={short_value(node.plain())}" for key, node in chosen.items()), chosen


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


def list_studies(folders: Folders, params_file: Path) -> tuple[list[Study], list[str]]:
    """Every study there is, by name, and what is wrong with the files that are none."""
    return load_files(folders.studies, lambda path: load_study(path, params_file))


def find_study(folders: Folders, name: str, params_file: Path) -> Study:
    """The study of this name. Raises ParamsError where there is none, or it has a fault."""
    return load_study(find_file(folders.studies, "study", name), params_file)


def study_lines(studies: Sequence[Study], result_cache: ResultCache) -> Iterator[str]:
    """A line for each study: how much of it is done, and its question."""
    width = max((len(study.name) for study in studies), default=0)
    for study in studies:
        done = sum(result_cache.record(run) is not None for run in study.runs)
        yield f"{study.name:{width}}  {done:4} of {len(study.runs):4} runs  {study.settings.question}"


def variant_lines(study: Study, result_cache: ResultCache) -> Iterator[str]:
    """What is done of each variant, and the mean so far."""
    from statistics import mean

    yield f"{study.name}: {study.settings.question}"
    names = list(dict.fromkeys(" ".join(filter(None, (run.variant, run.tuned))) for run in study.runs))
    width = max(map(len, names))
    yield f"{'variant':{width}}  seeds done  diverged  test/accuracy"
    for name in names:
        runs = [run for run in study.runs if name == " ".join(filter(None, (run.variant, run.tuned)))]
        known = [(run, record) for run in runs if (record := result_cache.record(run))]
        diverged = sum("diverged" in record for _, record in known)
        good = [run for run, record in known if result_cache.evaluated(result_cache.folders.run(run), record)]
        scores = [score for run in good if (score := read_run_scores(result_cache.folders.run(run)))]
        shown = f"{mean(score['test/accuracy'] for score in scores):.4f}" if scores else "–"
        useless = describe_useless(scores)
        yield f"{name:{width}}  {len(known):3} of {len(runs):3}  {diverged:8}  {shown:>13}{useless}"

"""One run of a study or search: its params, made of the text of params.yaml and what it changes."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from keras_pipeline.config.params import Fetch, Params, Train
from keras_pipeline.config.tasks import Task
from keras_pipeline.core.errors import ParamsError, PipelineError
from keras_pipeline.records import provenance
from keras_pipeline.strict_yaml.edits import edit_yaml, flow_text
from keras_pipeline.strict_yaml.nodes import Key

Loaded = TypeVar("Loaded")


def change_params(text: str, values: Mapping[str, Any]) -> str:
    """`text` with the values at these dotted keys, whose blocks are there; a last part that is not is added. Of a block
    and a value in it the later one counts."""
    changes: dict[Key, Any] = {}
    for dotted, value in values.items():
        key = tuple(dotted.split("."))
        if outer := next((one for one in changes if one == key[: len(one)] != key), None):
            changes[outer] = _with_value(changes[outer], key[len(outer) :], value)
        else:
            changes = {one: kept for one, kept in changes.items() if one[: len(key)] != key} | {key: value}
    return edit_yaml(text, {key: flow_text(value) for key, value in changes.items()})


def _with_value(block: Mapping[str, Any], key: Key, value: Any) -> dict[str, Any]:
    first, *rest = map(str, key)
    return {**block, first: _with_value(block.get(first, {}), tuple(rest), value) if rest else value}


BESIDE_THE_RESULT = ("export.", "tracking.")
Values = dict[str, Any]
"""Values by the dotted keys of params.yaml."""


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
        return change_params(self.base, self.changes)

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


def find_file(folder: Path, kind: str, name: str) -> Path:
    """The file of the study or search (`kind`) of this name. Raises ParamsError, with those there are, where it is not
    in `folder`."""
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        there = f"There are: {', '.join(known)}" if known else "There is none yet: write the file"
        raise ParamsError(f"{folder / f'{name}.yaml'}: no {kind} '{name}'. {there}.")
    return folder / f"{name}.yaml"


def load_files(folder: Path, load: Callable[[Path], Loaded]) -> tuple[list[Loaded], list[str]]:
    """What `load` makes of each file of studies or searches in `folder`, by name, and its messages where it refuses."""
    loaded, faults = [], []
    for path in sorted(folder.glob("*.yaml")):
        try:
            loaded.append(load(path))
        except PipelineError as fault:
            faults.append(str(fault))
    return loaded, faults


def check_name(path: Path) -> None:
    """Raise ParamsError where the name of a study's or search's file could not name its report, pictures and tags."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", path.stem):
        raise ParamsError(
            f"{path}: its name is that of its report and its pictures. Expected: letters without accents, digits, "
            "'-', '_' and '.', a letter or digit first. Rename the file.\nNothing was changed."
        )


def why_unsuitable(fetch: Fetch, train: Train, task: Task) -> str:
    """Why a run with these params can be none of a study or search; "" where it can."""
    if train.workers != 1:
        return f"train.workers: {train.workers}, but each run here is one process. Expected: 1."
    if task.name == "regression":
        return f"fetch.dataset: {fetch.dataset}, but accuracies are compared here. Use a dataset with classes."
    return ""


def short_value(value: Any) -> str:
    """A value of params.yaml as it stands in a name."""
    text = json.dumps(value, separators=(",", ":")) if isinstance(value, list | dict | bool) else str(value)
    return re.sub(r"[\"{}]", "", text)

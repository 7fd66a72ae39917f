"""The JSON Schemas and the table of params are those of the models that check; shipped files are good by them."""

import functools
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from keras_pipeline.checks.params import CheckedParams
from keras_pipeline.checks.partial_params import lay_over
from keras_pipeline.cli import main
from keras_pipeline.cli.overviews import schemas
from keras_pipeline.config.layers import Flatten
from keras_pipeline.config.params import Params, flatten
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.distribution.strategies import STRATEGIES
from keras_pipeline.models.architectures import ARCHITECTURES, hidden_layers
from keras_pipeline.searches.search import load_search
from keras_pipeline.studies.study import load_study
from places import ROOT, SHIPPED

FILES = {
    "params": [SHIPPED],
    "partial": sorted(ROOT.glob("examples/*.yaml")),
    "study": sorted(ROOT.glob("studies/*.yaml")),
    "search": sorted(ROOT.glob("searches/*.yaml")),
}
PAIRS = [(kind, path) for kind, paths in FILES.items() for path in paths]
VALUES: list[Any] = [
    -1, 0, 1, 2, 3, 10, 100, 1000, 70000, 2**32, -0.5, 0.0, 1e-7, 0.5, 1.0, 1.5, 2.0, 1e9, True, False, "", "none",
    "all", "full", "mnist", "line", "adam", "sgd", "x y", "a/b", [], [1], [0], [32, 64], ["a"], [1.5], {}, {"a": 1},
    {"name": "sgd"}, {"name": "adam", "learning_rate": 0.1}, [{"units": 3}], [{"layer": "Flatten"}],
    [{"layer": "Dense", "units": 3}], [{"layer": "Dense", "units": 0}], [{"layer": "Dropout"}],
]  # fmt: skip


@functools.cache
def validator(kind: str) -> Any:
    checker = pytest.importorskip("jsonschema", reason="jsonschema: make setup").Draft202012Validator
    rules = json.loads((ROOT / "schemas" / f"{kind}.json").read_text())
    checker.check_schema(rules)
    return checker(rules)


def load(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text())


@pytest.mark.parametrize("kind", FILES)
def test_a_committed_schema_is_that_of_the_code(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`make schemas` writes them."""
    assert main.main(["schema", kind]) == 0
    assert (ROOT / "schemas" / f"{kind}.json").read_text() == capsys.readouterr().out


def test_the_table_of_params_is_that_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    """`make schemas` writes it."""
    assert main.main(["schema", "table", "--params", str(SHIPPED)]) == 0
    table = capsys.readouterr().out
    assert (ROOT / "docs" / "params.md").read_text() == table
    rows = dict(re.findall(r"(?m)^\| `([a-z0-9_.]+)` \| `([^`]*)` \| .* \| .*\w.* \| [\w, ]+ \|$", table))
    shipped = dict(flatten(CheckedParams.model_validate_json(json.dumps(load(SHIPPED)))))
    assert rows.keys() == shipped.keys()


@pytest.mark.parametrize(("kind", "path"), PAIRS, ids=lambda one: getattr(one, "name", one))
def test_a_shipped_file_names_its_schema_and_is_good_by_it(kind: str, path: Path) -> None:
    first = path.read_text().partition("\n")[0]
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert named
    assert (path.parent / named[1]).resolve() == ROOT / "schemas" / f"{kind}.json"
    assert [error.message for error in validator(kind).iter_errors(load(path))] == []


def leaves(block: dict[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in block.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from leaves(value, (*prefix, key))


def changed(values: dict[str, Any], key: tuple[str, ...], value: Any) -> dict[str, Any]:
    inner = changed(values.get(key[0], {}), key[1:], value) if len(key) > 1 else value
    return {**values, key[0]: inner}


def of_one_key(error: ValidationError, key: tuple[str, ...], value: Any) -> bool:
    """Whether a refusal is of this value alone, and a schema could know it: no whole number with a decimal point, which
    is whole to JSON Schema."""
    found = error.errors(include_url=False)[0]
    at = [one for one in found["loc"] if one in key or isinstance(one, int)]
    return found["type"] != "value_error" and at[: len(key)] == list(key) and not re.search(r"\.0\b", json.dumps(value))


def refusal(values: dict[str, Any]) -> ValidationError | None:
    try:
        CheckedParams.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        return error
    return None


def test_what_the_schema_of_params_refuses_is_refused_and_of_one_key_the_other_way_round() -> None:
    shipped, chance, seen = load(SHIPPED), random.Random(1), Counter[str]()
    keys = [*leaves(shipped), ("train", "optimizer", "momentum"), ("train", "optimizer", "beta_1"), ("model", "more")]
    for key, value in chance.sample([(key, value) for key in keys for value in VALUES], 500):
        values = changed(shipped, key, value)
        by_schema = not validator("params").is_valid(values)
        error = refusal(values)
        if error is None:
            assert not by_schema, (key, value, next(validator("params").iter_errors(values)).message)
            seen["good"] += 1
        elif of_one_key(error, key, value):
            assert by_schema, (key, value, error)
            seen["both"] += 1
        else:
            seen["by the checker"] += not by_schema
    assert seen["both"] > 200
    assert seen["good"] > 20
    assert seen["by the checker"] > 5  # values that do not go together: no matter of a schema


@pytest.mark.parametrize("missing", ["seed", "fetch.dataset", "train.schedule.patience", "train.optimizer.name"])
def test_a_missing_key_is_refused_but_in_a_partial_file(missing: str) -> None:
    values = load(SHIPPED)
    *blocks, last = missing.split(".")
    del functools.reduce(lambda block, name: block[name], blocks, values)[last]
    assert not validator("params").is_valid(values)
    assert validator("partial").is_valid(values)


def write(path: Path, values: Any) -> Path:
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize("kind", ["partial", "study", "search"])
def test_what_the_schema_of_another_file_refuses_is_refused(kind: str, tmp_path: Path) -> None:
    shipped, chance, seen = load(SHIPPED), random.Random(2), Counter[bool]()
    keys = [key for key in leaves(shipped) if key[0] not in ("seed", "tracking")]
    keys += [("train", "optimizer", "momentum"), ("model", "more"), ("more",)]
    study = {"question": "Which?", "seeds": [1], "baseline": "a", "variants": {"a": {}, "b": {"model.l2": 0.5}}}
    search = {"goal": "Which?", "maximize": "val/accuracy", "trials": 2, "seed": 1, "seeds": [2, 3]}
    small = write(tmp_path / "params.yaml", changed(shipped, ("fetch", "dataset"), "digits"))
    for key, value in chance.sample([(key, value) for key in keys for value in VALUES], 60):
        dotted, path, place = ".".join(key), tmp_path / "asked.yaml", chance.choice(("fixed", "grid", "space"))
        if kind == "partial":
            values = changed({}, key, value)
        elif place == "fixed":
            values = {**(study if kind == "study" else search), "fixed": {dotted: value}}
        elif kind == "study":
            values = {**study, "grid": {dotted: [value]}}
        if kind == "search":
            values = {"space": {"model.dropout": {"low": 0.1, "high": 0.2}}, **values} if place == "fixed" else search
            values = values if place == "fixed" else {**search, "space": {dotted: {"choices": [value, 0.25]}}}
        refused = True
        try:
            {"partial": lay_over, "study": load_study, "search": load_search}[kind](write(path, values), small)
            refused = False
        except ParamsError:
            pass
        by_schema = not validator(kind).is_valid(values)
        assert refused or not by_schema, (values, next(validator(kind).iter_errors(values)).message)
        seen[by_schema] += 1
    assert seen[True] > 20


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("study", {"bad": 1}),
        ("study", {"fixed": {"train.epoch": 1}}),
        ("study", {"fixed": {"seed": 1}}),
        ("study", {"grid": {"train.epochs": []}}),
        ("study", {"variants": {"a": {"model.dropout": 2}}}),
        ("study", {"seeds": []}),
        ("search", {"bad": 1}),
        ("search", {"space": {"model.dropout": {"low": 0, "high": 1.5}}}),
        ("search", {"space": {"model.dropout": {"lowest": 0}}}),
        ("search", {"space": {"model.activation": {"choices": ["relu", "rely"]}}}),
        ("search", {"sampler": "grid"}),
    ],
)
def test_what_an_editor_tells(kind: str, more: dict[str, Any]) -> None:
    good = load(FILES[kind][0])
    assert validator(kind).is_valid(good)
    assert not validator(kind).is_valid({**good, **more})


def test_descriptions_say_who_uses_a_key() -> None:
    whole = schemas.params_schema()
    shipped = CheckedParams.model_validate_json(json.dumps(load(SHIPPED)))
    for key, rules in whole["$defs"]["CheckedModel"]["properties"].items():
        users, _ = schemas.split_users(f"model.{key}", rules["description"])
        if key in ("architecture", "output_activation"):
            assert users == []
        else:
            assert set(users) == {name for name in ARCHITECTURES if uses(name, key, shipped)}, key
    train = whole["$defs"]["CheckedTrain"]["properties"]
    for key in ("devices", "workers"):
        users, _ = schemas.split_users(f"train.{key}", train[key]["description"])
        assert set(users) == {name for name, row in STRATEGIES.items() if getattr(row, key)}


def uses(architecture: str, key: str, params: Params) -> bool:
    other: dict[str, Any] = {
        "hidden_units": (7,), "filters": (3,), "global_average_pooling": True,
        "activation": "tanh", "dropout": 0.1, "batch_normalization": False,
        "l2": 0.5, "layers": (Flatten(),),
    }  # fmt: skip
    before = params.model.model_copy(update={"architecture": architecture})
    return hidden_layers(before) != hidden_layers(before.model_copy(update={key: other[key]}))


def test_every_key_of_a_file_is_described() -> None:
    for make in schemas.SCHEMAS.values():
        rules = make()
        for name, block in [("", rules), *rules["$defs"].items()]:
            if name.startswith("Checked") or name in ("", "Schedule", "Augmentation", "EarlyStopping", "Evaluate"):
                assert all({"description", "$ref"} & one.keys() for one in block.get("properties", {}).values()), name

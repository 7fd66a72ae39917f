"""JSON Schemas (draft 2020-12) of what people write, and the table of params: from the models that check the files.

Descriptions are the docstrings of the fields. What only several values together get wrong is no matter of a schema:
`params check` says it.
"""

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from keras_pipeline.strict_yaml import reader
from keras_pipeline.strict_yaml.edits import flow_text
from keras_pipeline.strict_yaml.faults import Block, allowed_values

Rules = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def params_schema() -> Rules:
    """Of params.yaml."""
    from keras_pipeline.checks.params import CheckedParams

    return _document(CheckedParams, "params.yaml of keras-pipeline")


def partial_schema() -> Rules:
    """Of a partial params file, for `params use`: any part of params.yaml; items of lists are whole."""
    found = params_schema()
    found["title"] = "a partial params file of keras-pipeline"
    for name, rules in [("", found), *found["$defs"].items()]:
        if not _is_layer(found["$defs"].get(name, {})):
            rules.pop("required", None)
    return {**found, "minProperties": 1}


def study_schema() -> Rules:
    """Of studies/NAME.yaml."""
    from keras_pipeline.studies.study import StudyFile

    found = _document(StudyFile, "a study of keras-pipeline")
    properties = found["properties"]
    _add_values(found)
    properties["fixed"] = {"$ref": "#/$defs/Values", "description": properties["fixed"]["description"]}
    names = {"minLength": 1, "maxLength": 80}  # of all languages' letters, for which patterns have no common words
    del properties["variants"]["patternProperties"]
    properties["variants"] |= {"propertyNames": names, "additionalProperties": {"$ref": "#/$defs/Values"}}
    for block in ("grid", "tuned"):
        several = {"type": "array", "minItems": 1, "maxItems": 100}
        properties[block] |= {
            "additionalProperties": False,
            "properties": {key: {**several, "items": one} for key, one in _values(found)},
        }
    return found


def search_schema() -> Rules:
    """Of searches/NAME.yaml."""
    from keras_pipeline.searches.search import SearchFile

    found = _document(SearchFile, "a search of keras-pipeline")
    properties = found["properties"]
    _add_values(found)
    properties["fixed"] = {"$ref": "#/$defs/Values", "description": properties["fixed"]["description"]}
    properties["space"] |= {
        "additionalProperties": False,
        "properties": {
            key: {
                "$ref": "#/$defs/Dimension",
                "properties": {"low": one, "high": one, "choices": {"items": one}},
            }
            for key, one in _values(found)
        },
    }
    return found


def dataset_schema() -> Rules:
    """Of datasets/NAME.yaml: one of the kinds."""
    from keras_pipeline.sources.dataset_file import KINDS

    definitions: Rules = {}
    for kind in KINDS:
        own = _mended(kind.model_json_schema(schema_generator=_Described))
        for name, rules in own.get("$defs", {}).items():
            if definitions.get(name, rules) != rules:  # another kind has another block of this name
                own = json.loads(json.dumps(own).replace(f'"#/$defs/{name}"', f'"#/$defs/{kind.__name__}{name}"'))
                own["$defs"][f"{kind.__name__}{name}"] = own["$defs"].pop(name)
        definitions |= own.pop("$defs", {})
        definitions[kind.__name__] = own
    one_of = [{"$ref": f"#/$defs/{kind.__name__}"} for kind in KINDS]
    return {"$schema": DIALECT, "title": "a dataset of keras-pipeline", "oneOf": one_of, "$defs": definitions}


SCHEMAS = {
    "params": params_schema,
    "partial": partial_schema,
    "study": study_schema,
    "search": search_schema,
    "dataset": dataset_schema,
}


def schema_text(kind: str) -> str:
    """The schema of a kind of file as JSON, a line for each key."""
    return _json(SCHEMAS[kind](), 4) + "\n"


def _json(value: Any, depth: int, indent: str = "\n") -> str:
    if not isinstance(value, dict) or not depth or not any(isinstance(one, dict) for one in value.values()):
        return json.dumps(value, ensure_ascii=False)
    inner = f"{indent} "
    lines = [f"{json.dumps(key)}: {_json(one, depth - 1, inner)}" for key, one in value.items()]
    return f"{{{inner}{f',{inner}'.join(lines)}{indent}}}"


def _add_values(found: Rules) -> None:
    """Put into a schema's definitions what may stand at each dotted key of params.yaml, as `Values`."""
    partial = partial_schema()
    found["$defs"] = found.get("$defs", {}) | partial["$defs"]
    values = dict(_dotted(partial, partial["$defs"]))
    found["$defs"]["Values"] = {"type": "object", "additionalProperties": False, "properties": values}


def _values(found: Rules) -> Iterator[tuple[str, Rules]]:
    """Each dotted key, and a reference to what may stand there."""
    for key in found["$defs"]["Values"]["properties"]:
        yield key, {"$ref": f"#/$defs/Values/properties/{key}"}


NOT_OF_A_STUDY = ("seed", "export", "tracking")
"""Blocks of params.yaml that a study or search has keys of its own for, or no use."""


def _dotted(rules: Rules, definitions: Rules, prefix: str = "") -> Iterator[tuple[str, Rules]]:
    """Every dotted key with its rules, blocks as well; where branches differ in them, any of theirs."""
    found: dict[str, list[Rules]] = {}
    for branch in rules.get("anyOf", [rules]):
        for name, inner in _target(branch, definitions).get("properties", {}).items():
            if prefix or name not in NOT_OF_A_STUDY:
                known = found.setdefault(name, [])
                known += [inner] if inner not in known else []
    for name, several in found.items():
        consts = [one["const"] for one in several if "const" in one]
        one: Rules = several[0] if len(several) == 1 else {"anyOf": several}
        if len(consts) == len(several) > 1:
            one = {"enum": consts}
        yield f"{prefix}{name}", one
        target = _target(one, definitions)
        if "properties" in target or _branches(target, definitions):
            yield from _dotted(target, definitions, f"{prefix}{name}.")


def _branches(rules: Rules, definitions: Rules) -> bool:
    return any("properties" in _target(one, definitions) for one in rules.get("anyOf", []))


def _target(rules: Rules, definitions: Rules) -> Rules:
    while "$ref" in rules:
        rules = definitions[rules["$ref"].rpartition("/")[2]]
    return rules


def _is_layer(rules: Rules) -> bool:
    return "layer" in rules.get("properties", {})


def _document(model: type[BaseModel], title: str) -> Rules:
    """The model's schema as a document of its own."""
    return {"$schema": DIALECT, "title": title, **_mended(model.model_json_schema(schema_generator=_Described))}


def _mended(rules: Any) -> Any:
    """A schema of pydantic's in the words of editors: no titles and no null, anchors that all readers know."""
    if isinstance(rules, list):
        return [_mended(one) for one in rules]
    if not isinstance(rules, dict):
        return rules
    rules = {key: value for key, value in rules.items() if key != "discriminator"}
    if "oneOf" in rules:
        rules["anyOf"] = rules.pop("oneOf")
    if "anyOf" in rules:
        branches = [one for one in rules.pop("anyOf") if one.get("type") != "null"]
        rules = {**branches[0], **rules} if len(branches) == 1 else {**rules, "anyOf": branches}
    if isinstance(rules.get("title"), str):
        del rules["title"]
    if "default" in rules and rules["default"] is None:
        del rules["default"]
    if isinstance(pattern := rules.get("pattern"), str):
        bare = pattern.removeprefix(r"\A").removesuffix(r"\z").removeprefix("^").removesuffix("$")
        rules["pattern"] = f"^{bare}$"
    return {key: _mended(value) for key, value in rules.items()}


class _Described(GenerateJsonSchema):
    """With the docstrings of fields, and the kind of a layer required, as the checker has it."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        rules, model = super().model_schema(schema), cast(type[BaseModel], schema["cls"])
        properties = rules.get("properties", {})
        for name, own in properties.items():
            if "pattern" in own:
                own["patternErrorMessage"] = own.pop("description", "")
            if text := field_descriptions(model).get(name):
                own["description"] = text
        if _is_layer(rules):
            rules["required"] = list(dict.fromkeys(["layer", *rules.get("required", [])]))
        if base := next((one for one in model.__mro__ if ".config." in one.__module__), None):
            rules["description"] = inspect.cleandoc(base.__doc__ or "")  # not that of what checks it
        return rules


@cache
def field_descriptions(model: type[BaseModel]) -> dict[str, str]:
    """The docstrings of a model's fields, its own and inherited ones."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, Block) and base.__module__ in sys.modules:
            found |= _docstrings(base.__module__).get(base.__name__, {})
    return found


@cache
def _docstrings(module: str) -> dict[str, dict[str, str]]:
    """Of each class in a module: the text below each of its fields."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    found: dict[str, dict[str, str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            own = found.setdefault(node.name, {})
            for field, text in zip(node.body, node.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    value = text.value if isinstance(text, ast.Expr) else None
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        own[field.target.id] = " ".join(value.value.split())
    return found


def params_table(path: Path) -> str:
    """docs/params.md: every key of params.yaml with its default, which is what the file at `path` has. Raises
    ParamsError where that is not good."""
    from keras_pipeline.checks.params import load_params

    load_params(path)  # its faults first
    whole, values = params_schema(), reader.parse_tree(reader.read_yaml_bytes(path)).plain()
    definitions = whole["$defs"]
    lines = [HEAD, "| key | default | type | range or allowed | description | used by |", "|---|---|---|---|---|---|"]
    for key, default, rules in _leaves(whole, values, definitions):
        users, description = split_users(key, rules.get("description", ""))
        description = re.sub(r"docs/([\w-]+)\.md", r"[\1.md](\1.md)", description)
        cells = [f"`{key}`", f"`{flow_text(default)}`", *_type_and_range(rules, definitions), description]
        lines.append(f"| {' | '.join([*cells, ', '.join(users) or 'all'])} |")
    branches = definitions["CheckedTrain"]["properties"]["optimizer"]["anyOf"]
    optimizers = {one["properties"]["name"]["const"]: one["properties"] for one in _targets(branches, definitions)}
    everywhere = set.intersection(*map(set, optimizers.values()))
    shared = {key: rules for key, rules in optimizers["sgd"].items() if key in everywhere - {"name", "learning_rate"}}
    apart = {
        name: {key: rules for key, rules in own.items() if key not in everywhere} for name, own in optimizers.items()
    }
    lines += [OPTIMIZERS, "| name | argument | type | range or allowed |", "|---|---|---|---|"]
    for name, own in {"any": shared, **apart}.items():
        for key, rules in own.items():
            lines.append(f"| {name} | `{key}` | {' | '.join(_type_and_range(rules, definitions))} |")
    lines += [LAYERS, "| layer | argument | default | type | range or allowed |", "|---|---|---|---|---|"]
    items = definitions["CheckedModel"]["properties"]["layers"]["items"]["anyOf"]
    for layer in _targets(items, definitions):
        name = layer["properties"]["layer"]["const"]
        arguments = {key: rules for key, rules in layer["properties"].items() if key != "layer"}
        lines += [f"| {name} | | | | |"] if not arguments else []
        for key, rules in arguments.items():
            default = f"`{flow_text(rules['default'])}`" if "default" in rules else ""
            lines.append(f"| {name} | `{key}` | {default} | {' | '.join(_type_and_range(rules, definitions))} |")
    return "\n".join(lines) + "\n"


HEAD = """\
# Parameters

Every key of [params.yaml](../params.yaml), made by `keras-pipeline schema table` from the models that check the file.
`dvc exp run -S KEY=VALUE` takes the same keys, as do `fixed`, `grid`, `variants`, `tuned` and `space` of studies and
searches. A mistake, of one value or of several together, is answered like this by `keras-pipeline params check`:

```
params.yaml:41:11: train.optimizer.name: 'adm' is not known. Allowed: adadelta, adafactor, adagrad, adam, …
```

An editor that knows YAML's language server shows a mistake in one value while you type, and completes keys and values,
by the JSON Schemas in [schemas/](../schemas) that the first lines of the shipped files name. A study, search or partial
file of your own gets that from the same line; `keras-pipeline schema` prints the schemas.
"""
OPTIMIZERS = """
## Arguments of optimizers

Beside `name` and `learning_rate`, any of these may stand in `train.optimizer`; one that is left out has
[Keras' default](https://keras.io/api/optimizers/).
"""
LAYERS = """
## Layers

What may stand in `model.layers`, with the arguments of [keras.layers](https://keras.io/api/layers/); `l2` is the factor
of the squared kernel in the loss. One without a default has to be given, but for `strides` of a pooling, which are its
window.
"""


def _targets(branches: list[Rules], definitions: Rules) -> Iterator[Rules]:
    for branch in branches:
        yield _target(branch, definitions)


def _leaves(rules: Rules, values: Rules, definitions: Rules, prefix: str = "") -> Iterator[tuple[str, Any, Rules]]:
    """Every key that holds a value, with that of params.yaml and its rules."""
    known = dict(_dotted(rules, definitions)) | rules.get("properties", {})
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(_target(known[key], definitions), value, definitions, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value, known[key]


def split_users(key: str, description: str) -> tuple[list[str], str]:
    """Which architectures, schedules or strategies alone use the key, by the beginning of its description; its rest."""
    from keras_pipeline.config.params import Schedule
    from keras_pipeline.distribution.strategies import STRATEGIES
    from keras_pipeline.models.architectures import ARCHITECTURES

    schedules = Schedule.model_json_schema()["properties"]["name"]["enum"]
    known = {"model": ARCHITECTURES, "train.schedule": schedules, "train": STRATEGIES}.get(key.rpartition(".")[0], ())
    names, _, rest = description.partition(": ")
    users = names.split(", ")
    return (users, rest) if all(name in known for name in users) else ([], description)


KINDS = {"integer": "whole number", "number": "number", "boolean": "true, false", "string": "text", "object": "block"}


def _type_and_range(rules: Rules, definitions: Rules) -> tuple[str, str]:
    rules = {**_target(rules, definitions), **{key: one for key, one in rules.items() if key != "$ref"}}
    if names := allowed_values(rules):
        return "name", ", ".join(f"`{name}`" for name in names)
    if "anyOf" in rules and "type" not in rules:
        found = [_type_and_range(one, definitions) for one in rules["anyOf"]]
        return " or ".join(dict.fromkeys(kind for kind, _ in found)), " or ".join(text for _, text in found)
    if rules.get("type") == "array":
        items = _target(rules["items"], definitions)
        if "anyOf" in items and "type" not in items:
            return "list of layers", f"{_bounds(rules, 'Items')} of them; see below"
        kind, text = _type_and_range(items, definitions)
        return f"list of {kind}s", f"{text}; {_bounds(rules, 'Items')} of them"
    said = rules.get("patternErrorMessage", rules.get("description", "") if "pattern" in rules else "")
    return KINDS[rules.get("type", "object")], said or _bounds(rules)


def _bounds(rules: Rules, of: str = "") -> str:
    """`0 … 10`, or `above 0, 1 at most`."""
    low, high = rules.get(f"min{of or 'imum'}"), rules.get(f"max{of or 'imum'}")
    above, below = rules.get("exclusiveMinimum"), rules.get("exclusiveMaximum")
    if high is not None and (low is not None or of):
        return f"{low or 0:.15g} … {high:.15g}"
    words = [f"{low:.15g} at least" if low is not None else "", f"above {above:.15g}" if above is not None else ""]
    words += [f"{high:.15g} at most" if high is not None else "", f"below {below:.15g}" if below is not None else ""]
    return ", ".join(filter(None, words))

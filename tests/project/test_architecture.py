"""What the structure promises, held against the source: dvc.yaml, params.yaml, imports, and what is never done."""

import ast
import functools
import graphlib
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from keras_pipeline.cli import main
from keras_pipeline.records import provenance
from places import ROOT

PACKAGE = ROOT / "src" / "keras_pipeline"
SOURCES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
PACKAGES = {module for module, path in SOURCES.items() if path.name == "__init__.py"}


def read_yaml(name: str) -> Any:
    return YAML(typ="safe", pure=True).load((ROOT / name).read_text())


DVC = read_yaml("dvc.yaml")
PARAMS = read_yaml("params.yaml")
STAGES: dict[str, Any] = DVC["stages"]
LOCK = read_yaml("dvc.lock")["stages"] if (ROOT / "dvc.lock").exists() else {}
OF_ALL_PARAMS = {
    *(f"stages.{stage}" for stage in STAGES), "debugging.modes", "runs.together", "runs.folders", "checks.params",
    "training.training", "training.recorded_training", "records.record", "tracking.mirror", "tracking.tags",
    "cli.overviews.status", "checks.partial_params",
}  # fmt: skip
"""The modules whose functions may be given all params; every other one is given single blocks."""
PART_OF_STAGE = {
    "track": ["stages.track", "tracking.mirror", "tracking.tags"],
    "train": ["stages.train", "training.training", "training.recorded_training", "records.record"],
}
"""Which modules' reads of params are a stage's, where it is not its own module alone."""
ORDER = [
    line.split()[0]
    for line in (ast.get_docstring(ast.parse((PACKAGE / "__init__.py").read_text())) or "").splitlines()[2:]
]
"""The packages, in the order of the list in the top docstring: each imports only those below it."""
HEAVY: dict[str, set[str]] = {
    "tensorflow": {"debugging", "distribution", "export", "models", "training"},
    "jax": {"debugging", "models", "training"},
    "torch": {"debugging", "distribution", "models"},
    "keras": {"debugging", "distribution", "export", "models", "runs", "tracking", "training"},
    "ai_edge_litert": {"export"},
    "mlflow": {"notebook", "registry", "runs", "tracking"},
    "matplotlib": {"comparison", "evaluation", "export", "runs", "searches", "studies"},
    "vl_convert": {"comparison"},
    "sklearn": {"evaluation", "inspection", "sources"},
    "optuna": {"searches"},
    "scipy": {"comparison", "evaluation", "studies"},
    "statsmodels": {"comparison"},
    "dvc": set(),
    "onnx": {"export"},
    "onnxruntime": {"export", "serving"},
    "py_mini_racer": {"export"},
}  # fmt: skip
"""The only packages that import each of these, at whatever place in their source."""
AT_ONCE = {
    "comparison.figures", "comparison.find_run", "comparison.page", "comparison.report", "comparison.statistics",
    "comparison.two_runs",
    "debugging.profiling", "distribution.fit_loop", "distribution.tensorflow_replicas", "distribution.torch_replicas",
    "evaluation.binary", "evaluation.many_classes", "evaluation.multiclass", "evaluation.figures",
    "evaluation.regression", "evaluation.reports",
    "export.agreement", "export.figures", "export.tensorflow_formats",
    "models.losses", "models.model_file", "registry.card", "registry.promotion",
    "registry.versions", "runs.forkserver", "searches.report", "searches.runner", "stages.export",
    "studies.figures", "studies.report", "studies.results", "studies.runner", "tracking.served",
    "training.augmentation", "training.batches", "training.compilation", "training.divergence",
    "training.engines.fused", "training.engines.fused_jax", "training.engines.fused_tensorflow",
    "training.engines.looped", "training.engines.numpy_engine", "training.engines.vectorized", "training.fit",
    "training.state",
}  # fmt: skip
"""The modules that import one of them as soon as they are imported; the others do so where they need it."""
TESTS = ROOT / "tests"
BESIDE_PACKAGES = {"support", "stories", "proofs", "faults", "project", "benchmarks"}
"""The folders of tests that are about no package."""
OF_NO_MODULE = {
    "comparison/test_compare", "sources/test_documented_datasets", "sources/test_shipped_datasets",
    "sources/kinds/test_any_bytes",
}  # fmt: skip
"""The files of tests that are about a package as a whole, with or without `_slow`."""
KNOW_TRACKING = {"cli", "notebook", "prediction", "registry", "runs", "serving", "stages"}
"""The packages that import `tracking`."""


@functools.cache
def tree(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text())


def short(module: str) -> str:
    return module.removeprefix("keras_pipeline.")


@functools.cache
def imports(module: str, *, types: bool = True) -> frozenset[str]:
    """The dotted names that a module imports, also inside its functions; `types`: also for type checkers only."""
    skipped = set() if types else for_types_only(module)
    found: list[str] = []
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import) and node not in skipped:
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node not in skipped:
            assert node.level == 0, f"{module}: an import without the full name is not followed"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if name in SOURCES else str(node.module) for name in names]
    return frozenset(found)


def for_types_only(module: str) -> set[ast.AST]:
    """The nodes under `if TYPE_CHECKING:`, which never run."""
    blocks = [node for node in ast.walk(tree(module)) if isinstance(node, ast.If)]
    blocks = [node for node in blocks if ast.unparse(node.test) == "TYPE_CHECKING"]
    return {node for block in blocks for statement in block.body for node in ast.walk(statement)}


def own_imports(module: str) -> set[str]:
    return {name for name in imports(module) if name.split(".")[0] == "keras_pipeline"}


def closure(module: str) -> set[str]:
    """A module and all that it imports of this package, directly or not."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += own_imports(name)
    return found


def importers(matching: str) -> set[str]:
    return {short(module) for module in SOURCES if any(re.match(matching, name) for name in own_imports(module))}


def leaves(key: str) -> set[str]:
    """The keys of params.yaml that are `key` or stand in the block `key`."""
    return {leaf for leaf in keys_of(PARAMS) if leaf == key or leaf.startswith(f"{key}.")}


def keys_of(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield from keys_of(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [f"{prefix}{key}"]


def package(module: str) -> str:
    """The package that holds a module: the first part behind keras_pipeline; its own name above all packages."""
    return short(module).split(".")[0]


def code(stage: str) -> set[str]:
    """The folders and files of code in a stage's deps."""
    return {path for path in STAGES[stage].get("deps", []) if path.startswith("src/")}


def data_files(stage: str) -> set[str]:
    return set(STAGES[stage].get("deps", [])) - code(stage)


def outputs(stage: str) -> set[str]:
    entries = [*STAGES[stage].get("outs", []), *STAGES[stage].get("metrics", [])]
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}


# dvc.yaml against the source.


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_each_package_that_it_imports_and_no_other(stage: str) -> None:
    """`strict_yaml` gives the values of params.yaml, which DVC follows, or none; `track` looks every time."""
    imported = {package(module) for module in closure(f"keras_pipeline.stages.{stage}")} - {"strict_yaml", "stages"}
    needed = {f"src/keras_pipeline/{name}" for name in imported} | {f"src/keras_pipeline/stages/{stage}.py"}
    if STAGES[stage].get("always_changed"):
        needed = set()
    assert sorted(needed - code(stage)) == [], f"to be added to the deps of {stage} in dvc.yaml"
    assert sorted(code(stage) - needed) == [], f"to be removed from the deps of {stage} in dvc.yaml"


def test_provenance_follows_the_same_imports() -> None:
    for module in ("keras_pipeline.stages.train", "keras_pipeline.stages.track", "keras_pipeline.cli.main"):
        assert provenance.imported_modules(module) == closure(module)


def test_every_module_is_used() -> None:
    forked = closure("keras_pipeline.runs.forkserver")  # which `local` names to the process that forks
    entries = closure("keras_pipeline.cli.main") | closure("keras_pipeline")  # the command line, and `import`
    entries |= closure("keras_pipeline.__main__")  # the command line by another name
    entries |= closure("keras_pipeline.serving.page.pictures")  # until the service is there
    assert entries | forked | PACKAGES == set(SOURCES)


def test_every_param_is_listed_by_a_stage_and_every_listed_one_exists() -> None:
    listed = {key for stage in STAGES.values() for key in stage["params"]}
    assert all(leaves(key) for key in listed)
    assert set(keys_of(PARAMS)) - {leaf for key in listed for leaf in leaves(key)} == set()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_the_params_that_it_lists_and_no_other(stage: str) -> None:
    modules = PART_OF_STAGE.get(stage, [f"stages.{stage}"])
    read = {leaf for module in modules for leaf in params_read(tree(f"keras_pipeline.{module}"))}
    listed = {leaf for key in STAGES[stage]["params"] for leaf in leaves(key)}
    assert sorted(read - listed) == [], f"to be added to the params of {stage} in dvc.yaml"
    assert sorted(listed - read) == [], f"to be removed from the params of {stage} in dvc.yaml"


def params_read(source: ast.AST) -> set[str]:
    """The keys of params.yaml that source code reads from a variable `params`."""
    found = set()
    for chain in dotted_names(source):
        first, _, key = chain.partition(".")
        if first == "params":
            while not leaves(key):  # a method of a block or of a value
                key, _, last = key.rpartition(".")
                assert key, f"params.{last} is not in params.yaml"
            found |= leaves(key)
    return found


def dotted_names(node: ast.AST) -> Iterator[str]:
    """Every a.b.c, whole."""
    for child in ast.iter_child_nodes(node):
        text = ast.unparse(child) if isinstance(child, ast.Attribute) else ""
        if re.fullmatch(r"\w+(\.\w+)+", text):
            yield text
        else:
            yield from dotted_names(child)


def test_reads_of_params_are_found() -> None:
    source = "def f(params):\n    g(params.seed, h(params.train.loss).x, [params.train.schedule.name.upper()])\n"
    assert params_read(ast.parse(source)) == {"seed", "train.loss", "train.schedule.name"}
    assert params_read(ast.parse("params.fetch")) == leaves("fetch")


def test_all_params_go_to_stages_only_and_by_one_name() -> None:
    takers = set()
    for module in SOURCES:
        for function in ast.walk(tree(module)):
            if isinstance(function, ast.FunctionDef):
                kinds = {one.arg: ast.unparse(one.annotation).strip("'") for one in arguments(function)}
                names = {name for name, kind in kinds.items() if kind in ("Params", "params.Params")}
                assert names <= {"params"}, f"{module}.{function.name}: name the argument params"
                takers |= {short(module)} if names else set()
    assert takers == OF_ALL_PARAMS
    assert importers(r"keras_pipeline\.tracking\.mirror$") == {"stages.track", "tracking.waiting"}  # of kept params


def arguments(function: ast.FunctionDef) -> list[Any]:
    every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return [argument for argument in every if argument.annotation]


@pytest.mark.parametrize("stage", STAGES)
def test_the_command_of_a_stage_uses_the_paths_of_dvc_yaml(stage: str) -> None:
    options = vars(main.make_parser().parse_args([stage]))
    folders = {name: str(path) for name, path in options.items() if isinstance(path, Path)}
    assert folders.pop("params") == "params.yaml"  # DVC follows its values, by stage
    folders.pop("downloads", None)  # kept for the next time; nothing is made of them that the digests do not fix
    folders.pop("checkpoints", None)  # of interrupted trainings; nothing is made of them that the others do not fix
    known = data_files(stage) | outputs(stage)
    for path in known:
        assert any(path == folder or path.startswith(f"{folder}/") for folder in folders.values()), path
    for name, folder in folders.items():
        assert any(path == folder or path.startswith(f"{folder}/") for path in known), f"--{name}"


@pytest.mark.parametrize("stage", ["train", "evaluate", "export"])
def test_a_stage_names_the_files_of_dvc_yaml_and_no_other(stage: str) -> None:
    options = vars(main.make_parser().parse_args([stage]))
    named = set()
    for node in ast.walk(tree(f"keras_pipeline.stages.{stage}")):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant):
            folder = ast.unparse(node.left)
            if folder in ("models", "reports"):
                named.add(f"{options[folder]}/{node.right.value}")
    in_whole_folders = {"data/normalized"}
    assert named == (data_files(stage) | outputs(stage)) - in_whole_folders


def test_stages_hand_on_files_and_track_sees_every_report() -> None:
    made = {path for stage in STAGES for path in outputs(stage)}
    for stage in STAGES:
        assert data_files(stage) <= made
    reported = {path for stage in ("normalize", "evaluate", "export") for path in outputs(stage)}
    tracked = {path for path in data_files("track") if path.startswith("reports/")}
    assert tracked == {path for path in reported if path.startswith("reports/")}
    for plot in DVC["plots"]:
        (definition,) = plot.values()
        assert {path if path in made else str(Path(path).parent) for path in definition["y"]} <= made


@pytest.mark.parametrize("stage", STAGES)
def test_no_value_of_params_reaches_a_shell(stage: str) -> None:
    assert STAGES[stage]["cmd"] == f"keras-pipeline {stage}"


def test_dvc_yaml_computes_nothing() -> None:
    assert "${" not in (ROOT / "dvc.yaml").read_text()
    assert set(DVC) == {"stages", "plots"}


def digest_of_dvc(path: Path) -> str:
    """As in dvc.lock: of a file its MD5; of a folder that of the list of its files as JSON, with .dir behind it."""
    if path.is_file():
        return hashlib.md5(path.read_bytes()).hexdigest()
    paths = sorted(one for one in path.rglob("*") if one.is_file() and "__pycache__" not in one.parts)
    listed = [{"md5": digest_of_dvc(one), "relpath": str(one.relative_to(path))} for one in paths]
    return hashlib.md5(json.dumps(sorted(listed, key=lambda one: one["relpath"])).encode()).hexdigest() + ".dir"


@pytest.mark.skipif(not LOCK, reason="nothing was run here yet")
@pytest.mark.parametrize("stage", STAGES)
def test_dvc_lock_was_made_by_this_code_with_these_params(stage: str) -> None:
    assert stage in LOCK, "run dvc repro and commit dvc.lock"
    locked = LOCK[stage]
    digests = {entry["path"]: entry["md5"] for entry in locked.get("deps", [])}
    differing = {"cmd"} if locked["cmd"] != STAGES[stage]["cmd"] else set()
    differing |= set(digests) ^ set(STAGES[stage].get("deps", []))
    differing |= {entry["path"] for entry in locked.get("outs", [])} ^ outputs(stage)
    for path in code(stage):
        if digest_of_dvc(ROOT / path) != digests.get(path):
            differing.add(path)
    for key in STAGES[stage]["params"]:
        value = functools.reduce(lambda block, part: block[part], key.split("."), PARAMS)
        if locked["params"]["params.yaml"].get(key) != value:
            differing.add(key)
    assert sorted(differing) == [], "run dvc repro and commit dvc.lock"


# Imports point one way.


def test_imports_have_no_cycle() -> None:
    graphlib.TopologicalSorter({module: own_imports(module) for module in SOURCES}).prepare()


def test_the_top_docstring_lists_every_package_and_imports_point_down_its_list() -> None:
    assert sorted(ORDER) == sorted(short(module) for module in PACKAGES if module.count(".") == 1)
    for module in SOURCES:
        if module.count(".") > 1:
            upwards = [
                name for name in own_imports(module) if ORDER.index(package(name)) < ORDER.index(package(module))
            ]
            assert upwards == [], f"{module} imports what stands above it in the top docstring"


@pytest.mark.parametrize("module", sorted(PACKAGES - {"keras_pipeline"}))
def test_a_package_says_what_to_open_first_and_has_no_more_modules_than_a_reader_can_hold(module: str) -> None:
    named = re.findall(r"Open first: (.*)", ast.get_docstring(tree(module)) or "")
    modules = {name for name in SOURCES if name.rpartition(".")[0] == module}
    assert named
    assert {f"{module}.{name}" for name in re.findall(r"`(\w+)`", named[0])} <= modules
    assert len(modules) <= 10


def test_nothing_but_the_command_line_imports_its_verbs() -> None:
    assert {name.split(".")[0] for name in importers(r"keras_pipeline\.cli")} == {"cli"}
    assert importers(r"keras_pipeline\.cli\.(checks|datasets|pipeline|registry|runs|serving|studies)$") == {"cli.main"}


def test_a_message_of_the_checks_is_part_of_no_stage() -> None:
    for stage in STAGES:
        if not STAGES[stage].get("always_changed"):
            assert not {"checks", "cli"} & {package(module) for module in closure(f"keras_pipeline.stages.{stage}")}


def test_only_these_know_of_tracking() -> None:
    outside = {name.split(".")[0] for name in importers(r"keras_pipeline\.tracking")} - {"tracking"}
    assert outside == KNOW_TRACKING


@pytest.mark.parametrize("library", HEAVY)
def test_a_heavy_library_is_imported_in_its_packages_only(library: str) -> None:
    found = {
        package(module)
        for module in SOURCES
        if any(name.split(".")[0] == library for name in imports(module, types=False))
    }
    assert found == HEAVY[library]


def test_importing_a_module_loads_no_heavy_library_where_it_need_not() -> None:
    light = sorted(module for module in SOURCES if short(module) not in AT_ONCE)
    program = f"import sys, json, {', '.join(light)}; print(json.dumps([n.split('.')[0] for n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) & set(HEAVY) == set()


@pytest.mark.parametrize("stage", ["fetch", "normalize"])
def test_fetch_and_normalize_reach_no_framework(stage: str) -> None:
    libraries = {name.split(".")[0] for module in closure(f"keras_pipeline.stages.{stage}") for name in imports(module)}
    assert libraries & set(HEAVY) == ({"sklearn"} if stage == "fetch" else set())  # for the digits inside it


# What is never done.


FORBIDDEN_CALLS = {
    "load_model", "eval", "exec", "__import__", "import_module", "mktemp", "os.system", "os.popen",
    # These of Keras give wrong numbers under a strategy, or go on where they should not, without a word.
    "train_on_batch", "predict_on_batch", "test_on_batch", "BackupAndRestore", "TerminateOnNaN",
}  # fmt: skip
FORBIDDEN_KEYWORDS = {"allow_pickle": True, "shell": True, "safe_mode": False, "verify": False}
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "joblib", "dill", "cloudpickle", "marshal", "shelve", "yaml", "importlib"}


def forbidden(source: ast.AST) -> Iterator[str]:
    """What runs foreign code, trusts what it should not, or vanishes under `python -O`."""
    for node in ast.walk(source):
        match node:
            case ast.Assert():
                yield f"line {node.lineno}: assert"
            case ast.Call():
                name = ast.unparse(node.func)
                if FORBIDDEN_CALLS & {name, name.split(".")[-1]}:
                    yield f"line {node.lineno}: {name}()"
                for keyword in node.keywords:
                    value = getattr(keyword.value, "value", None)
                    if keyword.arg in FORBIDDEN_KEYWORDS and value is FORBIDDEN_KEYWORDS[keyword.arg]:
                        yield f"line {node.lineno}: {keyword.arg}={value}"
            case ast.Import() | ast.ImportFrom():
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names]
                for name in names:
                    if name.split(".")[0] in FORBIDDEN_IMPORTS and name != "importlib.metadata":
                        yield f"line {node.lineno}: import {name}"


@pytest.mark.parametrize(
    "line",
    [
        "keras.models.load_model(path)", "eval(text)", "exec(text)", "__import__(name)", "os.system(text)",
        "np.load(path, allow_pickle=True)", "subprocess.run(text, shell=True)", "requests.get(url, verify=False)",
        "keras.saving.deserialize_keras_object(x, safe_mode=False)", "assert x", "import pickle",
        "model.train_on_batch(x)", "keras.callbacks.BackupAndRestore(path)",
        "from joblib import load", "import yaml", "import importlib", "def f():\n    import dill",
    ],
)  # fmt: skip
def test_what_is_forbidden_is_found(line: str) -> None:
    assert len(list(forbidden(ast.parse(line)))) == 1


@pytest.mark.parametrize("module", SOURCES)
def test_nothing_forbidden_is_done(module: str) -> None:
    allowed = {
        "training.divergence": "train_on_batch",  # of a copy of the network, on one device
        "export.runtimes": "engine.eval()",  # of JavaScript, by V8
        "tracking.served": "load_model",  # of a file beside this code, which whoever loads the folder runs anyway
    }
    exception = allowed.get(short(module), "nothing")
    assert [one for one in forbidden(tree(module)) if exception not in one] == []


def test_every_python_that_is_started_knows_no_modules_in_the_current_folder() -> None:
    """By `process.python` alone; the benchmarks start their own programs, but no module, by themselves."""
    users = {module for module in SOURCES if "sys.executable" in ast.unparse(tree(module))}
    assert {short(module) for module in users} == {"core.process"}
    for path in (ROOT / "benchmarks").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.List) and "sys.executable" in [ast.unparse(one) for one in node.elts]:
                assert not {"'-m'", "'-c'"} & {ast.unparse(one) for one in node.elts}, path
    assert isinstance(tree("keras_pipeline.cli.main").body[1], ast.ImportFrom)
    assert ast.unparse(tree("keras_pipeline.cli.main").body[1]) == "from keras_pipeline.core import interpreter"


def test_a_framework_is_started_in_one_place() -> None:
    """`frameworks.start_framework`, after which modules import it; the process that forks runs looks for no devices."""
    for module in SOURCES:
        settled = "KERAS_BACKEND" in SOURCES[module].read_text()
        assert settled == (short(module) in {"models.settings", "tracking.served"}), module
    assert importers(r"keras_pipeline\.models\.settings$") == {
        "cli.overviews.doctor", "models.frameworks", "records.record", "runs.forkserver", "standby.address",
    }  # fmt: skip


@pytest.mark.parametrize("module", sorted(PACKAGES))
def test_a_package_holds_nothing_but_its_docstring(module: str) -> None:
    assert ast.get_docstring(tree(module))
    # What `from keras_pipeline import Project` needs, which imports nothing for anybody else.
    late = [node.name for node in tree(module).body[1:] if isinstance(node, ast.FunctionDef)]
    assert late == (["__getattr__"] if module == "keras_pipeline" else [])
    assert len(tree(module).body) == 1 + len(late)


@pytest.mark.parametrize("module", SOURCES)
def test_what_is_public_has_a_docstring(module: str) -> None:
    assert [name for name, node in public(tree(module)) if not ast.get_docstring(node)] == []


def public(node: Any, name: str = "the module") -> Iterator[tuple[str, Any]]:
    """The module, its public functions and classes, and their public methods that no base class has described."""
    yield name, node
    for child in node.body if not isinstance(node, ast.FunctionDef) else []:
        named = isinstance(child, ast.ClassDef | ast.FunctionDef) and not child.name.startswith("_")
        if named and "override" not in map(ast.unparse, child.decorator_list):
            yield from public(child, child.name)


def test_a_test_without_its_mark_sees_no_optional_package() -> None:
    """Nor does a process that it starts; not even where the package is installed, as pytest is here."""
    program = (
        "from importlib.metadata import distributions, version; from importlib.util import find_spec\n"
        "assert find_spec('pytest') is None\n"
        "assert 'pytest' not in [one.metadata['Name'] for one in distributions()]\n"
        "try:\n import pytest.version\nexcept ModuleNotFoundError: print('hidden', version('mlflow'))\n"
    )
    environment = {**os.environ, "HIDDEN_PACKAGES": "pytest"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("hidden ")
    assert set(os.environ["HIDDEN_PACKAGES"].split()) == {"torch", "jax", "jaxlib"}


# Where tests are.


def of_a_package(path: Path) -> bool:
    """Whether this is in a folder that mirrors a package, not in one beside them."""
    return path.parent != TESTS and path.relative_to(TESTS).parts[0] not in BESIDE_PACKAGES


def test_every_folder_of_tests_is_a_package_or_one_beside_them() -> None:
    folders = {path.parent.relative_to(TESTS) for path in TESTS.rglob("*.py") if of_a_package(path)}
    assert [str(folder) for folder in folders if not (PACKAGE / folder / "__init__.py").exists()] == []
    assert list(TESTS.glob("test_*.py")) == []


def test_every_file_of_tests_is_named_after_a_module_of_its_package() -> None:
    files = {path.relative_to(TESTS).with_suffix("") for path in TESTS.rglob("test_*.py") if of_a_package(path)}
    named = {str(file).removesuffix("_slow"): file for file in files}
    modules = {
        name: PACKAGE / file.parent / f"{Path(name).name.removeprefix('test_')}.py" for name, file in named.items()
    }
    assert {name for name, module in modules.items() if not module.exists()} == OF_NO_MODULE


def marks(node: ast.AST, mark: str) -> int:
    return sum(isinstance(one, ast.Attribute) and ast.unparse(one).endswith(f"mark.{mark}") for one in ast.walk(node))


@pytest.mark.parametrize("mark", ["slow", "proof"])
def test_fast_and_slow_tests_and_proofs_share_no_file(mark: str) -> None:
    """A file whose name ends in _slow, or a file of tests/proofs, is marked as a whole, and nothing else is."""
    for path in TESTS.rglob("*.py"):
        body = ast.parse(path.read_text()).body
        of_file = [one for one in body if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "pytestmark"]
        proof = path.parent.name == "proofs" and path.stem.startswith("test_")
        expected = int(proof if mark == "proof" else path.stem.endswith("_slow"))
        assert [sum(marks(one, mark) for one in some) for some in (of_file, body)] == [expected, expected], path

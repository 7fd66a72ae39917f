"""The digest of the code that is imported, and the versions."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from keras_pipeline.checks.params import load_params
from keras_pipeline.records import provenance
from places import ROOT

PARAMS_MODULES = {
    f"keras_pipeline.{name}"
    for name in (
        "config.layers", "config.optimizers", "config.params", "core.errors",
        "core.temporary", "core.terminal", "strict_yaml.faults", "strict_yaml.nodes",
    )
}  # fmt: skip


def test_imports_are_followed_to_the_end() -> None:
    assert provenance.imported_modules("keras_pipeline.core.temporary") == {"keras_pipeline.core.temporary"}
    assert provenance.imported_modules("keras_pipeline.core.files") == {
        "keras_pipeline.core.files",
        "keras_pipeline.core.errors",
        "keras_pipeline.core.limits",
        "keras_pipeline.core.temporary",
    }
    assert provenance.imported_modules("keras_pipeline.config.params") == PARAMS_MODULES


def test_imports_inside_functions_and_under_type_checking_count() -> None:
    found = provenance.imported_modules("keras_pipeline.stages.train")
    assert {"keras_pipeline.training.batches", "keras_pipeline.models.model_file"} <= found
    assert "keras_pipeline.stages" not in found
    assert not any(name.startswith("keras_pipeline.tracking") for name in found)


def test_a_package_is_its_init_file() -> None:
    assert provenance.source_file("keras_pipeline.tracking").name == "__init__.py"
    assert provenance.source_file("keras_pipeline.stages.train") == ROOT / "src/keras_pipeline/stages/train.py"
    assert not provenance.source_file("keras_pipeline.nothing").exists()


CASES = {
    "a": "from keras_pipeline import b\nimport keras_pipeline.c as other, json\n",
    "b": "from keras_pipeline.d import name\n",
    "c": "def f():\n    from keras_pipeline.sub import e\n",
    "d": "name = 'keras_pipeline.unused'\nfrom keras_pipeline import a  # round and round\n",
    "sub.e": "import keras_pipeline.sub\n",
    "sub.__init__": "",
    "unused": "",
}
PROGRAM = """\
CHANGE = "changed = 1\\n"
import json, sys
from pathlib import Path
from keras_pipeline.records import provenance
modules = sorted(provenance.imported_modules("keras_pipeline.a"))
digests = [provenance.code_digest("keras_pipeline.a")]
for name in sys.argv[1:]:
    path = provenance.source_file(f"keras_pipeline.{name}")
    before = path.read_text()
    path.write_text(before + CHANGE)
    digests.append(provenance.code_digest("keras_pipeline.a"))
    path.write_text(before)
digests.append(provenance.code_digest("keras_pipeline.a"))
print(json.dumps([modules, digests]))
"""


def test_the_code_digest_is_that_of_what_is_imported(tmp_path: Path) -> None:
    package = tmp_path / "keras_pipeline"
    shutil.copytree(ROOT / "src" / "keras_pipeline", package)
    (package / "sub").mkdir()
    for name, source in CASES.items():
        (package / f"{name.replace('.', '/')}.py").write_text(source)

    changed = ["a", "sub.e", "d", "unused"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *changed],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    modules, (first, *others, last) = json.loads(done.stdout)
    assert modules == [f"keras_pipeline.{name}" for name in ("a", "b", "c", "d", "sub", "sub.e")]
    assert first == last == others[changed.index("unused")]
    assert len({first, *others}) == 4


WORDS = {
    "a comment": ("x = 1\n", "# why\nx = 1  # so\n"),
    "docstrings": (
        'def f():\n    return "a"\n\n\nclass A:\n    b = 1\n',
        '"""M."""\ndef f():\n    """F."""\n    return "a"\n\n\nclass A:\n    """A."""\n\n    b = 1\n    """B."""\n',
    ),
    "layout": ("x = [1, 2]\n", "x = [\n    1,\n    2,\n]\n"),
}


@pytest.mark.parametrize("name", WORDS)
def test_words_leave_the_code_digest_as_it_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for source in (*WORDS[name], WORDS[name][0] + "y = 2\n"):
        (tmp_path / "module.py").write_text(source)
        monkeypatch.setattr(provenance, "source_file", lambda module: tmp_path / "module.py")
        digests.append(provenance.code_digest("keras_pipeline.module"))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(("package", "counts"), [("strict_yaml", False), ("core", True)])
def test_the_reader_of_yaml_is_no_code_of_a_training(
    package: str, counts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, before = provenance.source_file, provenance.code_digest(provenance.TRAINING)

    def changed(module: str) -> Path:
        if not (module.startswith(f"keras_pipeline.{package}.") and original(module).is_file()):
            return original(module)
        path = tmp_path / f"{module}.py"
        path.write_text(original(module).read_text() + "\nCHANGED = True\n")
        return path

    monkeypatch.setattr(provenance, "source_file", changed)
    assert (provenance.code_digest(provenance.TRAINING) != before) == counts


def test_a_message_of_params_is_no_code_of_a_training() -> None:
    found = provenance.imported_modules("keras_pipeline.stages.train")
    assert not any(name.startswith(("keras_pipeline.checks", "keras_pipeline.cli")) for name in found)


def test_flat_params_of_blocks_and_single_values() -> None:
    shipped = load_params(ROOT / "params.yaml")
    values = provenance.flat_params({"seed": shipped.seed, "fetch": shipped.fetch, "train": shipped.train})
    assert values["seed"] == shipped.seed
    assert values["fetch.dataset"] == shipped.fetch.dataset
    assert values["train.optimizer.name"] == shipped.train.optimizer.name
    assert not any(key.startswith("model") for key in values)


def test_the_params_digest_is_of_the_values_and_not_of_their_order() -> None:
    values = {"seed": 1, "train.epochs": 15, "model.l2": 1e-5}
    digest = provenance.params_digest(values)
    assert digest == provenance.params_digest(dict(reversed(values.items())))
    assert len(digest) == 64
    for key, value in (("seed", 2), ("train.epochs", "15"), ("model.l2", 2e-5), ("seed", True), ("new", 1)):
        assert digest != provenance.params_digest({**values, key: value})


def test_versions_are_those_of_this_interpreter() -> None:
    versions = provenance.library_versions()
    assert versions["python"] == platform.python_version()
    assert versions["numpy"] == importlib.metadata.version("numpy")
    assert set(provenance.LIBRARIES) - {"jax", "torch"} == set(versions) - {"python", "system"}


@pytest.mark.parametrize(
    "library",
    [pytest.param("jax", marks=pytest.mark.needs_jax), pytest.param("torch", marks=pytest.mark.needs_torch)],
)
def test_an_optional_library_is_among_the_versions_where_it_is_installed(library: str) -> None:
    assert provenance.library_versions()[library] == importlib.metadata.version(library)


def test_the_environment_is_written_as_requirements() -> None:
    environment = provenance.installed_packages()
    assert environment == sorted(set(environment))
    assert f"numpy=={importlib.metadata.version('numpy')}" in environment
    assert all(line.count("==") == 1 and line == line.strip() for line in environment)


def test_remains_of_a_package_a_second_one_and_where_one_is_from_are_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "~umpy-1.0.dist-info").mkdir()
    for name, metadata in {
        "empty": b"", "half": b"Name: half\n", "numpy": b"Name: numpy\nVersion: 1.0\n",
        "direct": b"Metadata-Version: 2.1\nName: Direct\nVersion: 3\n",
    }.items():  # fmt: skip
        folder = tmp_path / f"{name}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_bytes(metadata)
    (folder / "direct_url.json").write_text('{"url": "https://somebody:hunter2@example.org/direct.whl"}')
    before = provenance.installed_packages(), provenance.library_versions()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert set(provenance.installed_packages()) == {*before[0], "direct==3", "numpy==1.0"}
    assert provenance.library_versions() == before[1]


def test_the_module_whose_code_counts_is_the_one_that_train_records() -> None:
    assert provenance.source_file(provenance.TRAINING) == ROOT / "src" / "keras_pipeline" / "stages" / "train.py"

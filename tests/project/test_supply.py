"""What is installed is what is meant: pinned, with digests, under its right name; and none of it runs unasked."""

import os
import re
import site
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from places import ROOT

LOCKS = sorted(ROOT.glob("requirements*.lock"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MAKEFILE = (ROOT / "Makefile").read_text()
ENTRY = re.compile(r"([A-Za-z0-9._-]+)==([^\s;]+)( ; [^\n\\]+)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)")
NOT_LOCKED = {"cuda", "notebook", "postgresql", "torch"}
"""Extras that no lock holds: which packages they are is the machine's matter."""
VIEWERS = {"tensorboard", "xprof", "torch-tb-profiler"}
"""Programs that show a profile; no run needs them."""
STARTED = {
    "distutils-precedence.pth": "setuptools: its own distutils instead of the one that Python 3.12 took away",
    "_virtualenv.pth": "virtualenv, which somebody may use instead of venv: mends distutils' settings",
    "a1_coverage.pth": "coverage, if somebody installs it: does nothing unless COVERAGE_PROCESS_START is set",
}
"""Files by which a package may run code whenever Python starts, each with the reason."""


def locked(lock: Path) -> dict[str, Version]:
    """The versions that a lock names; every line of it is an entry with digests, or a comment."""
    text = "".join(line for line in lock.read_text().splitlines(keepends=True) if not line.startswith("#"))
    found = {canonicalize_name(one[1]): Version(one[2]) for one in ENTRY.finditer(text)}
    assert ENTRY.sub("", text).strip() == ""
    assert found
    return found


def told(text: str) -> set[str]:
    """The packages, and extras of this project in brackets, that a text tells people to install by pip from outside."""
    found = set[str]()
    for command in re.findall(
        r"pip3? install((?: (?:-[\w-]+|'?\.(?:\[\w+\]')?|[A-Za-z][\w.=<>-]*)(?=[\s`;,\"')]|$))+)", text
    ):
        words = re.sub(r" -r \S+\.lock\b| \.$", "", command).split()  # a lock, and this project itself
        if "-e" in words:
            found |= set(re.findall(r"\[\w+\]", " ".join(words[words.index("-e") + 1 :][:1])))
        elif "--no-index" not in words:
            found |= {canonicalize_name(re.split("[=<>]", word)[0]) for word in words if not word.startswith("-")}
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_every_package_of_a_lock_is_pinned_with_its_digests(lock: Path) -> None:
    part = set(lock.read_text().splitlines()[1:]) <= set((ROOT / "requirements.lock").read_text().splitlines())
    # Released a week before, a part of such a list, or named by hand.
    assert "--exclude-newer" in lock.read_text() or part or len(locked(lock)) == 2


@pytest.mark.parametrize(
    "line",
    ["keras\n", "keras>=3\n", "keras==3.15.1\n", "-e .\n", "--index-url http://x\n", "keras @ file:///x.whl\n"],
)
def test_what_is_not_pinned_is_found(tmp_path: Path, line: str) -> None:
    lock = tmp_path / "a.lock"
    lock.write_text(line + LOCKS[0].read_text())
    with pytest.raises(AssertionError):
        locked(lock)


def test_the_lock_has_what_the_project_asks_for_and_no_older_version() -> None:
    versions = locked(ROOT / "requirements.lock") | locked(ROOT / "requirements-jax.lock")
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *extras["dev"], *extras["jax"], *extras["serve"]]
    wrong = [
        one
        for one in map(Requirement, asked)
        if not one.specifier.contains(versions.get(canonicalize_name(one.name), Version("0")), prereleases=True)
    ]
    assert wrong == []
    assert extras.keys() == {"dev", "jax", "serve", *NOT_LOCKED}


def test_the_lock_of_the_service_has_what_it_asks_for_and_no_framework() -> None:
    versions = locked(ROOT / "requirements-serve.lock")
    asked = {canonicalize_name(Requirement(one).name) for one in PROJECT["optional-dependencies"]["serve"]}
    assert asked <= versions.keys()
    needed = [
        Requirement(one)
        for name in versions.keys() - {"colorama"}  # which click needs on Windows
        for one in metadata.requires(name) or []
    ]
    lacking = [
        one.name
        for one in needed
        if canonicalize_name(one.name) not in versions and (one.marker is None or one.marker.evaluate({"extra": ""}))
    ]
    assert lacking == []
    assert not {"tensorflow", "keras", "mlflow", "dvc", "pandas"} & versions.keys()


def test_the_makefile_installs_by_digest() -> None:
    installs = re.findall(r"(?:pip install|\$\(INSTALL\)) ([^\n&]*)", MAKEFILE.replace("\\\n", " "))
    without = [one for one in installs if "--require-hashes -r " not in one]
    assert len(installs) - len(without) == len(LOCKS) - 3  # for CI alone, for uv, for the service alone
    for one in without:  # this project itself, and torch
        assert re.search(r" -e (\.|'\.\[torch\]')", one), one
    assert "--index-url" not in MAKEFILE
    assert "--trusted-host" not in MAKEFILE


def test_what_people_are_told_to_install_is_this_project_or_in_the_lock() -> None:
    known = {*locked(ROOT / "requirements.lock"), *locked(ROOT / "requirements-jax.lock"), *VIEWERS}
    known |= {f"[{extra}]" for extra in PROJECT["optional-dependencies"]}
    texts = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("src/**/*.py")]
    found = set[str]().union(*(told(path.read_text()) for path in texts))
    assert found - known == set()
    assert found >= {"[cuda]", "[dev]", "xprof"}


def test_what_people_are_told_is_found() -> None:
    text = (
        "`pip install kerras==3.1`, or pip install -e '.[cuda]'; pip install a b; pip install -e . in an environment; "
    )
    text += "pip install --require-hashes -r requirements-serve.lock; pip install --no-deps ."
    assert told(text) == {"kerras", "[cuda]", "a", "b"}


def packages() -> list[Path]:
    """Where the packages of this interpreter are, and those of its user."""
    return [Path(folder) for folder in {*site.getsitepackages(), site.getusersitepackages()} if Path(folder).is_dir()]


def test_no_package_runs_code_when_python_starts() -> None:
    running = [
        file.name
        for folder in packages()
        for file in folder.glob("*.pth")
        if any(line.startswith(("import ", "import\t")) for line in file.read_text().splitlines())
    ]
    assert [name for name in running if name not in STARTED] == []
    for name in ("sitecustomize", "usercustomize"):
        assert [file for folder in packages() for file in folder.glob(f"{name}*")] == []


def test_nothing_but_that_is_loaded_when_python_starts() -> None:
    code = "import sys; print(*(m.__spec__.origin for m in list(sys.modules.values()) if getattr(m, '__spec__', None)))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    loaded = {Path(word) for word in done.stdout.split() if any(word.startswith(str(one)) for one in packages())}
    assert {path.parent.name if path.stem == "__init__" else path.stem for path in loaded} <= {
        "_distutils_hack", "_virtualenv",
    }  # fmt: skip

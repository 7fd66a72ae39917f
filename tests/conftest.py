"""What holds for every test: what it may need beside `make setup`, which signals reach it, and when its turn is.

A test that needs something optional carries the mark that says so and is skipped, with the reason, where it is lacking.
From every other test, and from the processes that it starts, optional packages are hidden: it sees what a new user's
environment has, also where more is installed.
"""

import os
import shutil
import signal
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from hidden import sitecustomize as hidden
from hidden import warm

PACKAGES = {"needs_torch": ("torch",), "needs_jax": ("jax", "jaxlib")}
"""What each mark lets a test see."""
ADVICE = {
    "needs_torch": "PyTorch is not installed: make torch",
    "needs_jax": "JAX is not installed: make jax",
    "needs_browser": "no Chromium on this machine: make browser",
    "needs_mxnet": "MXNet is not installed: make mxnet",
}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SUPPORT = Path(__file__).parent / "support"
LONGEST = [
    Path(__file__).parent / f"{name}_slow.py"
    for name in (
        "stories/test_pipeline",
        "studies/test_runner",
        "searches/test_searcher",
        "stories/test_resume",
        "runs/test_together",
        "training/engines/test_numpy_engine",
        "tracking/test_store",
        "audit/test_certify",
        "stories/test_tasks",
        "audit/test_conformance",
    )
]

WARM = (
    "audit", "comparison", "debugging", "faults", "models", "notebook", "project", "proofs", "runs", "searches",
    "stories", "studies", "training",
)  # fmt: skip
"""The folders whose slow tests start programs that are forked from one that has imported TensorFlow, but for tests
marked `own_processes`; none where the variable OWN_PROCESSES is set, to see what that changes."""
WARM_FILES = ("distribution/test_strategies_slow.py",)
OWNER = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
"""The process with which the servers end: all of pytest's share them."""
SERVERS = Path(tempfile.gettempdir(), f"warm-{OWNER}")

# A failed assertion of a helper tells its values, as one of a test does.
pytest.register_assert_rewrite(*(path.stem for path in SUPPORT.glob("*.py")))


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


INSTALLED = {mark: all(map(_installed, packages)) for mark, packages in PACKAGES.items()}
INSTALLED["needs_browser"] = CHROMIUM is not None
INSTALLED["needs_mxnet"] = Path(__file__).parents[1].joinpath(".venv-mxnet", ".ready").exists()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", type=Path, metavar="FILE", help="write the results into this page, as docs/proofs.md")
    parser.addoption(
        "--faults", type=Path, metavar="FILE", help="only what proves the catalogue of faults, into docs/faults.md"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--record") or config.getoption("--faults"):
        import recorder

        config.pluginmanager.register(recorder.Recorder(config))
    folders = (str(Path(hidden.__file__).parent), os.environ.get("PYTHONPATH"))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, folders))
    # A process that is started with a signal ignored, as by nohup or in the background of a script, ignores it, and so
    # do all that it starts. What is handled here is not ignored there.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)
    SERVERS.mkdir(mode=0o700, exist_ok=True)


def pytest_unconfigure() -> None:
    if os.getpid() == OWNER:
        shutil.rmtree(SERVERS, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those of the longest files first, so that processes that share the files end together."""
    items.sort(key=lambda item: LONGEST.index(item.path) if item.path in LONGEST else len(LONGEST))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    marks = {mark.name for mark in item.iter_markers()}
    for mark in marks & ADVICE.keys():
        if not INSTALLED[mark]:
            pytest.skip(ADVICE[mark])
    # What DVC or a user sets, and MLflow and the command line for the processes that they start: no test, and no
    # fixture of a session, sees what an earlier test left.
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_EXP_NAME", "DVC_STAGE", "PYTHONSAFEPATH"):
        os.environ.pop(name, None)
    os.environ["KERAS_PIPELINE_STANDBY"] = "off"  # no process outlives a test, but where it is about that
    absent = [name for mark, packages in PACKAGES.items() if mark not in marks for name in packages]
    os.environ[hidden.VARIABLE] = " ".join(absent)
    file = item.path.relative_to(SUPPORT.parent)
    if (
        (file.parts[0] in WARM or str(file) in WARM_FILES)
        and marks & {"slow", "proof"}
        and not {"own_processes", "needs_jax", "needs_torch"} & marks
        and not os.environ.get("OWN_PROCESSES")
    ):
        os.environ[warm.VARIABLE] = f"{OWNER}:{SERVERS}"
    else:
        os.environ.pop(warm.VARIABLE, None)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The packages that count as installed: those of all backends, unless a test takes one out."""
    packages = {"tensorflow", "jax", "torch"}

    def only_these(name: str) -> str:
        if name not in packages:
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr("importlib.metadata.version", only_these)
    return packages


@pytest.fixture(scope="session")
def chromium() -> str:
    """The program, for tests marked `needs_browser`."""
    assert CHROMIUM
    return CHROMIUM

"""Harm done to a finished pipeline, real processes, and what they make of it: full and read-only disks, limits."""

import shutil
from pathlib import Path

import pytest

import fault_catalogue
import finished_pipeline
import harmed
from fault_catalogue import Row, Try

pytestmark = pytest.mark.slow

TRIES = list(fault_catalogue.tries("process"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For copying only; it is where it is worked on, so that every path of its store is right."""
    root: Path = tmp_path_factory.mktemp("finished") / "checkout"
    finished_pipeline.by_its_stages(root)
    return root.rename(root.with_name("kept"))


@pytest.mark.parametrize(("row", "one"), [(row, one) for _, row, one in TRIES], ids=[name for name, _, _ in TRIES])
def test_harm(
    row: Row,
    one: Try,
    finished: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if one.mount and not harmed.can_mount():
        pytest.skip("this machine lets nobody mount: unshare -rm")
    root = finished.with_name("checkout")
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(finished, root, symlinks=True)
    monkeypatch.chdir(root)
    try:
        harmed.check(one, root, tmp_path, harmed.in_a_process(finished_pipeline.environment(root, tmp_path)))
    except harmed.ProblemError as problem:
        request.node.user_properties.append(("problem", problem.kind))
        raise

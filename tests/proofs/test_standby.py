"""Stages that a process which stands by does, and stages that import for themselves."""

import re
from pathlib import Path

import psutil
import pytest

import kill_loop
from keras_pipeline.standby import address

pytestmark = [pytest.mark.proof, pytest.mark.own_processes]


def imports(output: str) -> list[str]:
    """The stages that tell of a time for imports."""
    return re.findall(r"^(\w+): [\d.]+ s: .*\bimport [\d.]+", output, re.MULTILINE)


def test_what_a_process_that_stands_by_does_leaves_the_same_bytes(tmp_path: Path) -> None:
    """Two `dvc repro` whose later stages are done by the process that the first training left, and two whose stages
    import for themselves, leave the same bytes and the same runs in MLflow."""
    alone = kill_loop.template(tmp_path)
    served = alone.copy(tmp_path / "served" / "checkout")
    variables = {address.SWITCH: "on", "TMPDIR": str(tmp_path / "temporary")}
    (tmp_path / "temporary").mkdir()

    def both(seed: int) -> tuple[str, str]:
        for place in (alone, served):
            place.set(seed=seed)
        said = alone.good("dvc repro", **{address.SWITCH: "off"}), served.good("dvc repro", **variables)
        assert kill_loop.bytes_of(alone) == kill_loop.bytes_of(served)
        return said

    try:
        first = both(1)
        assert imports(first[0]) == ["train", "evaluate", "export", "track"]
        assert imports(first[1]) == ["train"]
        second = both(2)
        assert imports(second[0]) == ["train", "evaluate", "export", "track"]
        assert imports(second[1]) == []
        ours = [(run.status, run.epochs, run.metrics.keys()) for run in alone.runs()]
        assert ours == [(run.status, run.epochs, run.metrics.keys()) for run in served.runs()]
        assert [status for status, *_ in ours] == ["FINISHED", "FINISHED"]
    finally:
        for one in standing_by(variables["TMPDIR"]):
            one.kill()


def standing_by(temporary: str) -> list[psutil.Process]:
    """The processes that stand by with this folder for temporary files."""
    found = []
    for one in psutil.process_iter(["name"]):
        try:
            if one.info["name"] == "keras-standby" and one.environ().get("TMPDIR") == temporary:
                found.append(one)
        except psutil.Error:
            continue
    return found

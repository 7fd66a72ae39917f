"""The stages without a framework, killed at each of their writes, and run again."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import small
from harmed import digests
from keras_pipeline.stages import fetch, normalize
from small_tasks import LINE

pytestmark = pytest.mark.slow

CALLS = ("fsync", "replace", "unlink")


def killed(number: int, stage: Callable[[], object]) -> bool:
    """Whether the stage, in a process of its own, was killed at this one of its flushes and changes of a name."""
    process = os.fork()
    if not process:
        count = 0

        def counted(call: Callable[..., object]) -> Callable[..., object]:
            def hit(*arguments: object, **named: object) -> object:
                nonlocal count
                count += 1
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments, **named)

            return hit

        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.fsync = counted(os.fsync)  # type: ignore[assignment]
        for name in CALLS[1:]:
            setattr(Path, name, counted(getattr(Path, name)))
        stage()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


@pytest.mark.parametrize(
    ("name", "changes"),
    [("fetch", LINE), ("normalize", LINE)],
    ids=["fetch", "normalize"],
)
def test_a_stage_killed_at_any_write_succeeds_when_it_is_run_again(
    name: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    chosen, folder = small.params(changes), tmp_path / "data"
    stages = {
        "fetch": lambda: fetch.fetch_dataset(chosen, folder / "raw", folder / "downloads"),
        "normalize": lambda: normalize.normalize_dataset(chosen, folder / "raw", folder / "normalized"),
    }
    stages["fetch"]()
    stages["normalize"]()
    whole, own = digests(folder), folder / {"fetch": "raw", "normalize": "normalized"}[name]
    manifest = own / {"fetch": "dataset.json", "normalize": "statistics.json"}[name]
    number = 1
    while True:
        for path in own.iterdir():  # as DVC removes what a stage writes before it runs it
            path.unlink()
        if not killed(number, stages[name]):
            break
        assert not manifest.exists() or digests(folder) == whole
        stages[name]()
        assert digests(folder) == whole, number
        number += 1
    assert digests(folder) == whole
    assert number >= 8

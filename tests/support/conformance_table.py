"""The table of `keras-pipeline conformance`, and what it has to say of the strategies of a backend."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import small
from keras_pipeline.audit.conformance import FEATURES, PLACEMENTS
from places import PROGRAM

CHECKED = ("plain", "dropout", "synchronized", "per_replica", "one_more")
Table = dict[str, dict[str, str]]
"""The cells by the title of a feature and the name of a placement."""


def train(folder: Path, strategies: Sequence[str], features: Sequence[str], epochs: int = 3) -> Table:
    """The table of these strategies and features, or of all, where each training has so many epochs."""
    (folder / "params.yaml").write_bytes(small.params_text({}))
    options = [option for name in features for option in ("--feature", name)]
    options += [option for name in strategies for option in ("--strategy", name)]
    done = subprocess.run(
        [PROGRAM, "conformance", "--epochs", str(epochs), *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return read(done.stdout, len(features or FEATURES))


def read(text: str, count: int) -> Table:
    """The table, of so many features, in what the command prints."""
    head, _, *rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return {row[0]: dict(zip(head[2:], row[2:], strict=True)) for row in rows[:count]}


def check_strategies(folder: Path, backend: str, *only: str) -> None:
    """Each strategy of the backend, or `only` these, is equal to one device, refused, or differs where it must.

    The other backends are hidden: their cells say so, and cost no training.
    """
    strategies = only or list(dict.fromkeys(place.strategy for place in PLACEMENTS if place.backend == backend))
    table = train(folder, strategies, CHECKED)
    assert set(table) == {FEATURES[name].title for name in CHECKED}
    for place in PLACEMENTS:
        if place.strategy not in strategies:
            assert not any(place.name in row for row in table.values())
            continue
        plain, dropout, synchronized, per_replica, one_more = (
            table[FEATURES[name].title][place.name] for name in CHECKED
        )
        if place.backend not in (backend, "tensorflow"):
            assert {plain, dropout} == {f"not installed: pip install -e '.[{place.backend}]'"}
            continue
        assert plain.startswith("equal")
        assert synchronized.startswith("refused" if place.strategy == "ddp" else "equal")
        alike = place.replicas == 1 or place.strategy == "data_parallel"
        assert dropout.startswith("equal" if alike else "differs, as it must")
        if place.strategy == "one_device":
            assert {plain, dropout, synchronized, per_replica, one_more} == {"equal 0 · 0 · 0"}
        elif place.fused:
            assert per_replica.startswith("equal")
            assert one_more.startswith("equal")
        else:
            assert per_replica.startswith("refused" if place.strategy == "data_parallel" else "differs, as it must")
            assert one_more.startswith("refused")

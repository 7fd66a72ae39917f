"""Run as a program with a folder and a backend: runs `debug` in the scenarios and keeps what became of it."""

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

import small
from keras_pipeline.cli import main as command_line
from keras_pipeline.core import json_files
from keras_pipeline.data.splits import Split, read_split
from keras_pipeline.debugging import modes

SGD = {"name": "sgd", "learning_rate": 1000.0}
SCENARIOS: dict[str, dict[str, tuple[list[str], dict[str, Any]]]] = {
    "tensorflow": {
        "one-batch": (["one-batch"], {}),
        # None of these is there while it learns by heart: with them it could not.
        "learned": (
            ["overfit"],
            {"model.dropout": 0.9, "model.l2": 1.0, "train.early_stopping.patience": 1, "train.epochs": 2},
        ),
        "narrow": (
            ["overfit"],
            {"model.hidden_units": [1], "model.batch_normalization": False, "train.batch_size": "full"},
        ),
        "limited": (["limited", "--share", "0.25"], {"train.epochs": 3}),
        "diverging": (
            ["limited"],
            {"model.activation": "exponential", "model.batch_normalization": False, "train.optimizer": SGD},
        ),
        "profile": (["profile"], {}),
    },
    "jax": {"profile": (["profile"], {"train.backend": "jax"})},
    "torch": {"profile": (["profile"], {"train.backend": "torch"})},
}
UNREACHABLE = {"limited": "http://127.0.0.1:9"}
"""Where the store of a scenario does not answer."""


def ran(folder: Path, scenario: str, arguments: list[str], changes: dict[str, Any]) -> dict[str, Any]:
    """The command in a folder of its own."""
    own = folder / f"{changes.get('train.backend', 'tensorflow')} {scenario}"
    own.mkdir()
    (own / "dvc.yaml").write_text("stages: {}\n")
    (own / "params.yaml").write_bytes(small.params_text({**small.QUICK, **changes}))
    os.environ |= {"MLFLOW_TRACKING_URI": UNREACHABLE.get(scenario, "")}
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.chdir(own), contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = command_line.main(["debug", "--normalized", str(folder / "normalized"), *arguments])
    return {"code": code, "out": out.getvalue().splitlines(), "errors": errors.getvalue().splitlines()}


def cuts(normalized: Path) -> dict[str, Any]:
    """Which images each mode looks at, of those in data/normalized, by their places."""
    statistics = json_files.parse_json((normalized / "statistics.json").read_bytes())
    splits: list[Split] = []
    for name in ("train", "validation"):
        labels = read_split(normalized, name, statistics).targets
        splits.append(Split(np.arange(len(labels), dtype=np.float32), labels))
    images = {"train": 400, "validation": 100}
    found = {}
    for mode in modes.MODES:
        training, validation = modes._cut(mode, splits, images, seed=1)
        for cut, whole in ((training, splits[0]), (validation, splits[0 if mode == "overfit" else 1])):
            np.testing.assert_array_equal(cut.targets, whole.targets[cut.inputs.astype(int)])
        found[mode] = [training.inputs.tolist(), validation.inputs.tolist()]
    return found


def steps_of_plane(trace: Path) -> list[int]:
    """The numbers of the steps in TensorFlow's trace, which only TensorFlow can read."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    (path,) = trace.glob("plugins/profile/*/*.xplane.pb")
    steps = []
    for plane in xplane_pb2.XSpace.FromString(path.read_bytes()).planes:
        events = [event for line in plane.lines for event in line.events]
        for event in events:
            if plane.event_metadata[event.metadata_id].name == "train":
                stats = {plane.stat_metadata[one.metadata_id].name: one.int64_value for one in event.stats}
                steps.append(stats["step_num"])
    return sorted(steps)


def main(folder: Path, backend: str) -> None:
    result: dict[str, Any] = {}
    for scenario, values in SCENARIOS[backend].items():
        result[scenario] = ran(folder, scenario, *values)
    if backend == "tensorflow":
        result["steps"] = steps_of_plane(folder / "tensorflow profile" / "debug" / "profile" / "trace")
        result["cuts"] = cuts(folder / "normalized")
    (folder / f"{backend}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

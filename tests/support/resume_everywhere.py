"""Run as a program with params as JSON changes: trains once, keeping every step, then again from each step kept.

Prints "N positions, the same bytes" where each training ended with the same bytes as the whole one.
"""

import dataclasses
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import small
from keras_pipeline.core import json_files
from keras_pipeline.data.splits import read_split
from keras_pipeline.distribution import strategies
from keras_pipeline.models import frameworks
from keras_pipeline.records.observer import Observer
from keras_pipeline.training.training import Training, prepare_training

IMAGES = 70


def main(normalized: Path, changes: dict[str, Any]) -> None:
    chosen = small.params({"normalize.training_images": IMAGES, **changes})
    statistics = json_files.parse_json((normalized / "statistics.json").read_bytes())
    splits = [read_split(normalized, name, statistics) for name in ("train", "validation")]
    few = [split.part(slice(IMAGES)) for split in splits]
    plan = strategies.plan_training(chosen.train, {"train": IMAGES, "validation": len(few[1].targets)}, os.environ)
    with strategies.open_strategy(plan) as strategy:
        unit = {"name": "unit", "offset": 0.0, "divisor": 255.0}
        repeat(prepare_training(chosen, plan, strategy, few, small.TEN_CLASSES, unit))


def repeat(first: Training) -> None:
    import keras

    from keras_pipeline.training import fit
    from keras_pipeline.training.state import state_of

    chosen, data, place = first.params, first.data, first.strategy

    def trained(progress: fit.Progress, state: Any, *observers: Observer) -> str:
        # Another seed for whatever is not drawn from ours: nothing of the result may come from there.
        training = first.begun_anew(place)
        model = training.model
        frameworks.seed_everything(len(keeper.kept) + 17, chosen.train.precision)
        fit.fit_network(training, progress, state, observers, quiet=True)
        digest = hashlib.sha256(json.dumps([{**row, "time": 0} for row in progress.history]).encode())
        state = state_of(model, place)
        state = {name: array for name, array in state.items() if not name.startswith("own/metrics")}
        for array in state.values():
            digest.update(array.tobytes())
        steps = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
        updates = (
            data.steps
            * len(progress.history)
            // (getattr(chosen.train.optimizer, "gradient_accumulation_steps", None) or 1)
        )
        assert steps == updates, f"{steps} steps instead of {updates}: a phantom or a lost one"
        return digest.hexdigest()

    keeper = small.Keeper()
    whole = trained(fit.Progress(), None, keeper)
    positions = list(keeper.kept)
    every = int(sys.argv[3])
    for state, progress in positions[::every]:
        again = trained(fit.Progress(**json.loads(json.dumps(progress))), state)
        assert again == whole, f"from epoch {progress['epoch']} step {progress['step']}: other bytes"
    assert dataclasses.asdict(fit.Progress()) == {"epoch": 0, "step": 0, "seconds": 0.0, "history": []}
    print(f"{len(positions[::every])} positions of {len(positions)}, the same bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))

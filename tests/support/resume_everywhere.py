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
from keras_pipeline.core import files
from keras_pipeline.data.splits import Split, read_split
from keras_pipeline.distribution import strategies
from keras_pipeline.models import frameworks

IMAGES = 70


def main(normalized: Path, changes: dict[str, Any]) -> None:
    chosen = small.params({"normalize.training_images": IMAGES, **changes})
    statistics = files.read_json(normalized / "statistics.json", "normalize")
    splits = [read_split(normalized, name, statistics) for name in ("train", "validation")]
    few = [Split(split.inputs[:IMAGES], split.targets[:IMAGES]) for split in splits]
    images = {"train": IMAGES, "validation": len(few[1].targets)}
    plan = strategies.plan_training(chosen.train, images, os.environ)
    strategies.set_environment(plan)
    place = strategies.open_strategy(plan)
    import keras

    from keras_pipeline.training import batches, compilation, fit
    from keras_pipeline.training.state import state_of

    weights = batches.class_weights(few[0].targets, 10, chosen.train.class_weights)
    data = batches.Data(few[0], few[1], weights, chosen.seed, plan.batch_size, plan.validation_batch)

    def trained(progress: fit.Progress, state: Any, watcher: fit.FitHooks) -> str:
        # Another seed for whatever is not drawn from ours: nothing of the result may come from there.
        model = compilation.new_network(chosen.model, chosen.train, chosen.seed, place, data.steps, small.TEN_CLASSES)
        frameworks.seed_everything(len(kept) + 17, chosen.train.precision)
        fit.fit_network(model, place, data, chosen.train, watcher, progress, state)
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

    kept: list[tuple[Any, dict[str, Any]]] = []
    watcher = fit.FitHooks(save=lambda state, progress: kept.append((state, progress)), quiet=True)
    whole = trained(fit.Progress(), None, watcher)
    positions = list(kept)
    every = int(sys.argv[3])
    for state, progress in positions[::every]:
        again = trained(fit.Progress(**json.loads(json.dumps(progress))), state, fit.FitHooks(quiet=True))
        assert again == whole, f"from epoch {progress['epoch']} step {progress['step']}: other bytes"
    assert dataclasses.asdict(fit.Progress()) == {"epoch": 0, "step": 0, "seconds": 0.0, "history": []}
    print(f"{len(positions[::every])} positions of {len(positions)}, the same bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))

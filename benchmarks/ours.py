"""The pipeline's own training of the same network: with validation after each epoch, and a checkpoint of it.

python benchmarks/ours.py [784-128-10 | regularized | default | cnn] [--batch 128] [--epochs 5]
    [--stepwise | --augmented]
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import networks

stepwise, augmented = (option in sys.argv for option in ("--stepwise", "--augmented"))
sys.argv = [one for one in sys.argv if one not in ("--stepwise", "--augmented")]
arguments = networks.arguments(__doc__)

from keras_pipeline.checks.params import load_params
from keras_pipeline.data.splits import Split
from keras_pipeline.data.task_spec import TaskSpec
from keras_pipeline.distribution import strategies
from keras_pipeline.records.observer import Observer
from keras_pipeline.training import fit
from keras_pipeline.training.checkpoints import Checkpoints
from keras_pipeline.training.training import prepare_training

AUGMENTED = {"shift": 1.0, "rotation": 10.0, "scale": 0.1, "elastic": 1.0}
shipped = load_params(Path("params.yaml"))
model = shipped.model.model_copy(
    update={
        "architecture": "cnn" if arguments.filters else "mlp",
        "filters": arguments.filters,
        "hidden_units": arguments.units,
        "batch_normalization": arguments.regularized,
        "dropout": arguments.dropout if arguments.regularized else 0.0,
        "l2": arguments.l2 if arguments.regularized else 0.0,
    }
)
train = shipped.train.model_copy(
    update={
        "epochs": arguments.epochs,
        "batch_size": arguments.batch,
        "optimizer": shipped.train.optimizer.model_copy(update={"learning_rate": 0.001}),
        "schedule": shipped.train.schedule.model_copy(update={"name": "constant"}),
        "fused": not stepwise,
        "augmentation": shipped.train.augmentation.model_copy(update=AUGMENTED if augmented else {}),
    }
)
(x_train, y_train), (x_test, y_test) = networks.mnist(arguments)
training_split, validation = (
    Split(x_train, y_train),
    Split(x_test[: networks.VALIDATION], y_test[: networks.VALIDATION]),
)
clock = networks.Clock()


class Keeper(Observer):
    """Keeps checkpoints, and tells the clock of each epoch."""

    def __init__(self, folder: str) -> None:
        self.kept = Checkpoints(Path(folder), {})

    def checkpoint(self, state: Any, progress: Any) -> None:
        self.kept.save(state, progress)

    def epoch(self, row: dict[str, float]) -> None:
        clock.epoch()


params = shipped.model_copy(update={"seed": 1, "model": model, "train": train})
plan = strategies.plan_training(train, {"train": len(y_train), "validation": len(validation.targets)}, os.environ)
with strategies.open_strategy(plan) as strategy, tempfile.TemporaryDirectory(dir=".") as folder:
    unit, ten_classes = {"name": "unit", "offset": 0.0, "divisor": 255.0}, TaskSpec("classes", (28, 28, 1), 10)
    training = prepare_training(params, plan, strategy, [training_split, validation], ten_classes, unit)
    fit.fit_network(training, fit.Progress(), observers=[Keeper(folder)], quiet=True)
accuracy = (training.model.predict(x_test, batch_size=1000, verbose=0).argmax(1) == y_test).mean()
print(f"test accuracy {accuracy:.4f}")
clock.report()

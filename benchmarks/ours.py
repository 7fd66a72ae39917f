"""The pipeline's own training of the same network: with validation after each epoch, and a checkpoint of it.

python benchmarks/ours.py [784-128-10 | regularized | default] [--batch 128] [--epochs 5] [--stepwise | --augmented]
"""

import os
import sys
import tempfile
from pathlib import Path

import networks

stepwise, augmented = (option in sys.argv for option in ("--stepwise", "--augmented"))
sys.argv = [one for one in sys.argv if one not in ("--stepwise", "--augmented")]
arguments = networks.arguments(__doc__)

from keras_pipeline.checks.params import load_params
from keras_pipeline.config.datasets import IMAGE_SHAPE
from keras_pipeline.data.splits import Split
from keras_pipeline.data.task_spec import TaskSpec
from keras_pipeline.distribution import strategies
from keras_pipeline.training import augmentation, batches, compilation, fit
from keras_pipeline.training.checkpoints import Checkpoints

AUGMENTED = {"shift": 1.0, "rotation": 10.0, "scale": 0.1, "elastic": 1.0}
shipped = load_params(Path("params.yaml"))
model = shipped.model.model_copy(
    update={
        "architecture": "mlp",
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
plan = strategies.plan_training(train, {"train": len(y_train), "validation": len(validation.targets)}, os.environ)
strategies.set_environment(plan)
place = strategies.open_strategy(plan)


data = batches.Data(
    training_split,
    validation,
    batches.class_weights(y_train, 10, "none"),
    1,
    plan.batch_size,
    plan.validation_batch,
    augmentation.deformation_for(train.augmentation, 1, {"offset": 0.0, "divisor": 255.0}),
)
network = compilation.new_network(model, train, 1, place, data.steps, TaskSpec("classes", IMAGE_SHAPE, 10))
clock = networks.Clock()
with tempfile.TemporaryDirectory(dir=".") as folder:
    kept = Checkpoints(Path(folder), {})
    watcher = fit.FitHooks(kept.save, lambda row: clock.epoch(), quiet=True)
    fit.fit_network(network, place, data, train, watcher, fit.Progress())
accuracy = (network.predict(x_test, batch_size=1000, verbose=0).argmax(1) == y_test).mean()
print(f"test accuracy {accuracy:.4f}")
clock.report()

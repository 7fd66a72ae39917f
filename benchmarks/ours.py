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

from keras_pipeline import distribution, params
from keras_pipeline.checkpoints import Checkpoints
from keras_pipeline.datasets import IMAGE_SHAPE
from keras_pipeline.preprocessing import Question, Split

AUGMENTED = {"shift": 1.0, "rotation": 10.0, "scale": 0.1, "elastic": 1.0}
shipped = params.load(Path("params.yaml"))
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
plan = distribution.plan(train, {"train": len(y_train), "validation": len(validation.labels)}, os.environ)
distribution.prepare(plan)
place = distribution.open_distribution(plan)

from keras_pipeline import augmentation, fitting, training

data = training.Data(
    training_split,
    validation,
    training.class_weights(y_train, 10, "none"),
    1,
    plan.batch_size,
    plan.validation_batch,
    augmentation.of(train.augmentation, 1, {"offset": 0.0, "divisor": 255.0}),
)
network = training.new_network(model, train, 1, place, data.steps, Question("classes", IMAGE_SHAPE, 10))
clock = networks.Clock()
with tempfile.TemporaryDirectory(dir=".") as folder:
    kept = Checkpoints(Path(folder), {})
    watcher = fitting.Watcher(kept.save, lambda row: clock.epoch(), quiet=True)
    fitting.fit(network, place, data, train, watcher, fitting.Progress())
accuracy = (network.predict(x_test, batch_size=1000, verbose=0).argmax(1) == y_test).mean()
print(f"test accuracy {accuracy:.4f}")
clock.report()

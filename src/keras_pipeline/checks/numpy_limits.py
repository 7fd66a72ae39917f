"""What `train.engine: numpy` does not support, so that `params` refuses it at once. Imports no framework."""

import json
from collections.abc import Iterator
from operator import attrgetter

from keras_pipeline.strict_yaml.faults import Block, KeyedError

NUMPY_VALUES: dict[str, tuple[str | bool | float, ...]] = {
    "normalize.positive_class": ("none",),
    "model.architecture": ("softmax_regression", "mlp"),
    "model.activation": ("linear", "sigmoid", "tanh", "relu"),
    "model.dropout": (0.0,),
    "model.batch_normalization": (False,),
    "model.output_activation": ("softmax", "sigmoid"),
    "train.optimizer.name": ("sgd",),
    "train.loss": ("categorical_crossentropy", "mean_squared_error", "mean_absolute_error"),
    "train.class_weights": ("none",),
    "train.augmentation.shift": (0.0,),
    "train.augmentation.rotation": (0.0,),
    "train.augmentation.scale": (0.0,),
    "train.augmentation.elastic": (0.0,),
    "train.augmentation.horizontal_flip": (False,),
    "train.precision": ("float32",),
    "train.backend": ("tensorflow",),
    "train.strategy": ("none",),
    "train.device_type": ("auto", "cpu"),
}
"""The values that `from_scratch` knows, of each key of which it does not know all."""
OF_HIDDEN_LAYERS = ("model.activation", "model.dropout", "model.batch_normalization")
"""The keys that softmax_regression does not use."""
NUMPY_OPTIMIZER: dict[str, bool | None] = {"momentum": None, "nesterov": False}
"""The arguments of the optimizer that `from_scratch` knows, with the one value that it knows, if it is one."""


def numpy_faults(params: Block) -> Iterator[KeyedError]:
    """What of all params cannot be trained with `train.engine: numpy`."""
    task, loss, output = attrgetter("task", "train.loss", "model.output_activation")(params)
    fitting = {"train.loss": task.losses_for(output), "model.output_activation": task.output_activations_for(loss)}
    for key, allowed in NUMPY_VALUES.items():
        value = attrgetter(key)(params)
        waits = key in OF_HIDDEN_LAYERS and attrgetter("model.architecture")(params) == "softmax_regression"
        if value not in allowed and not waits:
            others = [_shown(one) for one in allowed if key not in fitting or one in fitting[key]]
            most = f"{', '.join(others[:-1])} or " if others[1:] else ""
            yield _fault(key, value, f"Use {most}{others[-1]}, or" if others else "Use")
    for name, value in attrgetter("train.optimizer")(params).arguments().items():
        if NUMPY_OPTIMIZER.get(name, value) not in (None, value):
            yield _fault(f"train.optimizer.{name}", value, f"Use {_shown(NUMPY_OPTIMIZER[name])}, or")
        elif name not in NUMPY_OPTIMIZER:
            yield _fault(f"train.optimizer.{name}", value, "Take it out, or use")


def _fault(key: str, value: object, way_out: str) -> KeyedError:
    return KeyedError(
        tuple(key.split(".")), f"{_shown(value)} does not work with train.engine: numpy. {way_out} train.engine: keras."
    )


def _shown(value: object) -> str:
    """As it is written in params.yaml."""
    return f"{value:g}" if isinstance(value, float) else json.dumps(value).strip('"')

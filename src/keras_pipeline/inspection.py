"""Where the numbers of a network stop being finite: its gradients, and a batch layer by layer, on one device."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from keras_pipeline.training import Batch

State = list[NDArray[Any]]
"""The variables of the network itself; where each replica has its own, those of the first."""
Gradients = dict[str, list[NDArray[Any]]]
"""By layer."""
GROWTH = 10.0
"""By what factor the gradient of a step must be larger than that of the first, to count as exploding."""
LARGE_WEIGHT = 1000.0
"""A weight beyond this has been driven there; the first ones stay below 1."""


@dataclass(frozen=True)
class Finding:
    """`where`: what is not finite first, or why there is no telling. Of an output: its activation and the layer's
    largest weight. `norms` of the gradient in the steps before; `unscaled`: whether the images are large."""

    where: str
    kind: Literal["unknown", "images", "weights", "output", "penalty", "loss", "precision"] = "unknown"
    activation: str = ""
    largest_weight: float = 0.0
    norms: dict[int, float] = field(default_factory=dict)
    unscaled: bool = False

    @property
    def exploding(self) -> bool:
        """Whether weights were driven far away, or the gradient grows."""
        norms = list(self.norms.values())
        return self.largest_weight > LARGE_WEIGHT or any(not norm <= GROWTH * norms[0] for norm in norms[1:])


def state_of(model: keras.Sequential) -> State:
    """A copy of all variables but the optimizer's and the metrics'."""
    return [np.array(keras.ops.convert_to_numpy(one)) for one in _variables(model)]


def all_finite(array: NDArray[Any]) -> bool:
    """Whether no number is NaN or infinite."""
    return bool(np.isfinite(array).all())


def for_gradients(model: keras.Sequential) -> keras.Sequential:
    """Make `model`, which is compiled, ready for `gradients`: with stochastic gradient descent in place of its
    optimizer. What it adds to a speed of zero, at a rate of 1, is the gradient, exactly."""
    model.compile(keras.optimizers.SGD(1.0, momentum=0.5), loss=model.loss)
    model.optimizer.build(model.trainable_variables)
    return model


def gradients(model: keras.Sequential, state: State, batch: Batch) -> Gradients:
    """Of the loss of a batch in training, for the weights and random numbers of `state`, as float32, not clipped."""
    _put(model, state)
    speeds = model.optimizer.momentums
    for speed in speeds:
        speed.assign(np.zeros(speed.shape))
    model.train_on_batch(*batch)
    found = {one.path: -_numbers(speed) for one, speed in zip(model.trainable_variables, speeds, strict=True)}
    return {layer.name: [found[one.path] for one in layer.trainable_variables] for layer in model.layers}


def norm(gradients: Gradients) -> float:
    """The Euclidean norm over all layers together."""
    return float(np.sqrt(sum(np.square(one, dtype=np.float64).sum() for parts in gradients.values() for one in parts)))


def of_update(model: keras.Sequential, state: State, gradients: Gradients) -> Finding:
    """Why an update led to `state`, which is not finite, although its loss was, and all on the way to it."""
    # Gradients are computed from the output backwards.
    for layer in reversed(model.layers):
        if not all(all_finite(one) for one in gradients[layer.name]):
            return Finding(f"the gradient of {_named(layer)}", "weights")
    _put(model, state)
    for layer in model.layers:
        if not all(all_finite(_numbers(one)) for one in layer.weights):
            return Finding(f"the weights of {_named(layer)} after the update by a finite gradient", "weights")
    return Finding("the state of a random generator", "weights")


def first_of(
    networks: list[keras.Sequential],
    state: State,
    batches: Iterator[tuple[Sequence[str], Batch]],
    *,
    training: bool = True,
) -> Finding | None:
    """What is not finite first in the first batch where anything is; None where all is finite.

    `networks`: as it trained, and, where this is not the same, with float32 throughout.
    """
    for names, batch in batches:
        sound = np.isfinite(batch[0]).reshape(len(batch[0]), -1).all(axis=1)
        if not sound.all():
            name = names[int(np.argmin(sound))]
            return Finding(f"the input, image {name} (counted from 0)", "images")
        found = _first(networks[0], state, batch, training=training)
        if found and len(networks) > 1 and _first(networks[-1], state, batch, training=training) is None:
            return Finding(f"{found.where}; in float32 it would be finite", "precision")
        if found:
            return found
    return None


def _first(model: keras.Sequential, state: State, batch: Batch, *, training: bool) -> Finding | None:
    """What is not finite first on the way from finite images to the loss; None where all is finite."""
    _put(model, state)
    images, targets, weights = batch
    values: Any = images
    reach = float(np.abs(images).max())
    for layer in model.layers:
        values = layer(values, training=training)
        numbers = _numbers(values)
        if not all_finite(numbers):
            largest = max((float(np.abs(_numbers(one)).max()) for one in layer.weights), default=0.0)
            reached = f"its inputs reach {reach:.3g}" + (f", its weights {largest:.3g}" if largest else "")
            return Finding(f"the output of {_named(layer)}; {reached}", "output", _activation(layer), largest)
        reach = float(np.abs(numbers).max())
    if not all(all_finite(_numbers(one)) for one in model.losses):
        return Finding("the L2 penalty; what the layers give is finite", "penalty")
    # As it was computed when it was seen: compiled, it may overflow where it does not layer by layer.
    _put(model, state)
    model.reset_metrics()
    step = model.train_on_batch if training else model.test_on_batch
    loss = step(images, targets, weights, return_dict=True)["loss"]
    return None if all_finite(loss) else Finding("the loss itself; what the layers give is finite", "loss")


def _put(model: keras.Sequential, state: State) -> None:
    for variable, array in zip(_variables(model), state, strict=True):
        variable.assign(array)


def _variables(model: keras.Sequential) -> list[Any]:
    return [*model.trainable_variables, *model.non_trainable_variables]


def _activation(layer: keras.Layer) -> str:
    return str(getattr(getattr(layer, "activation", None), "__name__", "linear"))


def _named(layer: keras.Layer) -> str:
    kind = [type(layer).__name__, _activation(layer)]
    return f"{layer.name} ({', '.join(one for one in kind if one != 'linear')})"


def _numbers(tensor: Any) -> NDArray[Any]:
    """float32 on the host."""
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32")))

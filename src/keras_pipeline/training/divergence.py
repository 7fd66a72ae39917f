"""Why a training diverged: it is trained again up to the fault, which is then looked at layer by layer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from keras_pipeline.config.params import Train
from keras_pipeline.core.errors import StoppedError
from keras_pipeline.distribution.strategies import OpenedStrategy
from keras_pipeline.training import fit
from keras_pipeline.training.batches import Batch, Data, batch_order
from keras_pipeline.training.checkpoints import Checkpoints
from keras_pipeline.training.fit import NotFiniteError
from keras_pipeline.training.training import Training

NetworkState = list[NDArray[Any]]
"""The variables of the network itself; where each replica has its own, those of the first."""
Gradients = dict[str, list[NDArray[Any]]]
"""By layer."""
EXPLODING_FACTOR = 10.0
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
        return self.largest_weight > LARGE_WEIGHT or any(not norm <= EXPLODING_FACTOR * norms[0] for norm in norms[1:])


def copy_state(model: keras.Sequential) -> NetworkState:
    """A copy of all variables but the optimizer's and the metrics'."""
    return [np.array(keras.ops.convert_to_numpy(one)) for one in _variables(model)]


def all_finite(array: NDArray[Any]) -> bool:
    """Whether no number is NaN or infinite."""
    return bool(np.isfinite(array).all())


def prepare_for_gradients(model: keras.Sequential) -> keras.Sequential:
    """Make `model`, which is compiled, ready for `gradients`: with stochastic gradient descent in place of its
    optimizer. What it adds to a speed of zero, at a rate of 1, is the gradient, exactly."""
    model.compile(keras.optimizers.SGD(1.0, momentum=0.5), loss=model.loss)
    model.optimizer.build(model.trainable_variables)
    return model


def compute_gradients(model: keras.Sequential, state: NetworkState, batch: Batch) -> Gradients:
    """Of the loss of a batch in training, for the weights and random numbers of `state`, as float32, not clipped."""
    _put(model, state)
    speeds = model.optimizer.momentums
    for speed in speeds:
        speed.assign(np.zeros(speed.shape))
    model.train_on_batch(*batch)
    found = {one.path: -_numbers(speed) for one, speed in zip(model.trainable_variables, speeds, strict=True)}
    return {layer.name: [found[one.path] for one in layer.trainable_variables] for layer in model.layers}


def gradient_norm(gradients: Gradients) -> float:
    """The Euclidean norm over all layers together."""
    return float(np.sqrt(sum(np.square(one, dtype=np.float64).sum() for parts in gradients.values() for one in parts)))


def inspect_update(model: keras.Sequential, state: NetworkState, gradients: Gradients) -> Finding:
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


def find_first_fault(
    networks: list[keras.Sequential],
    state: NetworkState,
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
        finding = _first(networks[0], state, batch, training=training)
        if finding and len(networks) > 1 and _first(networks[-1], state, batch, training=training) is None:
            return Finding(f"{finding.where}; in float32 it would be finite", "precision")
        if finding:
            return finding
    return None


def _first(model: keras.Sequential, state: NetworkState, batch: Batch, *, training: bool) -> Finding | None:
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


def _put(model: keras.Sequential, state: NetworkState) -> None:
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


ONE_CPU = OpenedStrategy("none", ("/cpu:0",))
GOOD_STEPS = 3
"""How many steps with a finite loss tell their gradient: enough to see it grow."""
UNSCALED = 50.0
"""An input beyond this counts as not scaled: pixels reach 255, what the scalings make of them stays below 10."""


@dataclass(frozen=True)
class Diagnosis:
    """`cause`, one line; `message`: what was received, expected, found, and what may help."""

    cause: str
    message: str


def explain_divergence(fault: NotFiniteError, checkpoints: Checkpoints | None, training: Training) -> Diagnosis:
    """Look for the cause of `fault` in a training, whose strategy is closed.

    `checkpoints`: those of the training, if it keeps any. Trains again, in silence after one line, what came since the
    last one: less than an epoch. What cannot be found out is said in the message, so nothing is raised but an
    interruption. With several workers nothing is trained again.
    """
    train = training.params.train
    start = checkpoints.latest() if checkpoints else None
    epoch, step = (start[1]["epoch"], start[1]["step"]) if start else (0, 0)
    if training.strategy.workers > 1:
        finding = Finding("not looked for, because several workers trained; with train.workers: 1 it would be")
    elif epoch != fault.epoch - 1:
        finding = Finding("not looked for, because no checkpoint is there from which to train this epoch again")
    else:
        print(f"train: diverged at step {fault.step} of epoch {fault.epoch}; looking for the cause …", flush=True)
        try:
            with np.errstate(all="ignore"):
                finding = _search(fault, start, training)
        except Exception as error:  # a fault of the search must not hide the one that is searched
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            finding = Finding(f"not found, because the search failed ({type(error).__name__}: {reason})")
    lines = [fault.received, f"  cause: {finding.where}"]
    if finding.kind != "unknown":
        norms = ", ".join(f"{norm:.3g} in step {step}" for step, norm in finding.norms.items())
        lines.append(f"  gradient's norm: {norms or 'not known; no step before it since the checkpoint'}")
    lines += [f"  try: {'; '.join(_tries(finding, train))}", f"  {_kept(checkpoints, epoch, step)}"]
    return Diagnosis(
        f"{fault.name} {fault.value} at step {fault.step} of epoch {fault.epoch}: {finding.where}", "\n".join(lines)
    )


def _kept(checkpoints: Checkpoints | None, epoch: int, step: int) -> str:
    if checkpoints is None or not (epoch or step):
        return (
            "No checkpoint is kept: the same command starts again, and diverges again. Change a value of params.yaml."
        )
    at = f"step {step} of epoch {epoch + 1}" if step else f"epoch {epoch}"
    return (
        f"The last good checkpoint, after {at}, stays in {checkpoints.folder}/. The same command goes on from it and "
        "diverges again; change a value of params.yaml, and a new training begins."
    )


def _tries(finding: Finding, train: Train) -> list[str]:
    calmer = [f"train.optimizer.learning_rate: {train.optimizer.learning_rate / 10:g}"]
    if train.engine == "keras" and not any("clip" in name for name in train.optimizer.arguments()):
        calmer.append("train.optimizer.clipnorm: 1.0")
    if not (train.schedule.name == "cosine" and train.schedule.warmup_epochs):
        calmer.append("a warm-up (train.schedule: cosine, warmup_epochs: 1)")
    if "weight_decay" in train.optimizer.arguments():
        calmer.append("a smaller train.optimizer.weight_decay")
    scaled = ["normalize.scaling: standard"] if finding.unscaled else []
    own = {
        "images": ["dvc repro --force normalize, which writes the images again"],
        "precision": ["train.precision: mixed_bfloat16, which has the range of float32"],
        "penalty": ["a smaller model.l2"],
        "loss": ["another train.loss or model.output_activation"],
    }.get(finding.kind, scaled)
    if finding.kind in ("images", "precision"):
        return own
    if finding.activation == "exponential":
        own = [*own, "another activation than exponential"]
    return [*calmer, *own] if finding.exploding else [*own, *calmer]


def _search(fault: NotFiniteError, start: Any, training: Training) -> Finding:
    data, train = training.data, training.params.train
    keeper = _replayed(fault, start, training)
    training.strategy.close()  # what follows is computed on one device
    if keeper is None:
        return Finding(
            "not found: trained again, these steps stayed finite. This training does not repeat itself exactly "
            f"(train.reproducibility: {train.reproducibility})"
        )
    networks = [
        training.begun_anew(ONE_CPU, precision=kind).model for kind in dict.fromkeys([train.precision, "float32"])
    ]
    plain = prepare_for_gradients(networks[-1])
    gradients = {
        step: compute_gradients(plain, keeper.states[step - 1], next(data.batches(ONE_CPU, fault.epoch - 1, step - 1)))
        for step in range(keeper.step - GOOD_STEPS + 1, keeper.step + 1)
        if step - 1 in keeper.states
    }
    if keeper.spoiled:
        finding = find_first_fault(networks, keeper.states[keeper.step - 1], _training(data, fault.epoch, keeper.step))
        finding = finding or inspect_update(plain, keeper.states[keeper.step], gradients[keeper.step])
        finding = replace(finding, where=f"{finding.where}, in step {keeper.step}, whose loss was still finite")
    else:
        validated = fault.name == "val/loss"
        batches = _validation(data) if validated else _training(data, fault.epoch, fault.step)
        finding = find_first_fault(networks, keeper.states[keeper.step], batches, training=not validated)
        finding = finding or Finding("not found: on one device all values of its batch are finite")
    unscaled = float(np.abs(data.training.scaled(slice(data.batch_size))).max()) > UNSCALED
    return replace(finding, norms={step: gradient_norm(one) for step, one in gradients.items()}, unscaled=unscaled)


def _replayed(fault: NotFiniteError, start: Any, training: Training) -> "_Keeper | None":
    """The last steps before the fault, trained again; None where they go another way."""
    state, kept = start if start else (None, {"epoch": 0, "step": 0})
    keeper = _Keeper(kept["step"], fault)
    again = training.begun_anew(training.strategy, checkpoint_steps=0)
    try:
        fit.fit_network(again, fit.Progress(kept["epoch"], kept["step"]), state, callbacks=[keeper], quiet=True)
    except NotFiniteError as other:
        return keeper if (other.name, other.step) == (fault.name, fault.step) else None
    except StoppedError:
        return keeper if keeper.spoiled else None
    return None


class _Keeper(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps the states after the last steps, and ends the training when one is `spoiled`, or where the fault must
    have come. `step`: the last one whose loss was finite."""

    def __init__(self, step: int, fault: NotFiniteError) -> None:
        super().__init__()
        self.step, self.fault, self.spoiled = step, fault, False
        self.states: dict[int, NetworkState] = {}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._keep()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.step += 1
        self._keep()
        if self.spoiled or (self.step == self.fault.step and self.fault.name != "val/loss"):
            raise StoppedError("trained to the fault")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        raise StoppedError("trained to the fault")

    def _keep(self) -> None:
        state = copy_state(self.model)
        # A loss can stay finite for long: XLA's relu on a CPU gives 0 for a NaN.
        self.spoiled = not all(all_finite(one) for one in state)
        self.states[self.step] = state
        self.states.pop(self.step - GOOD_STEPS - 1, None)


def _training(data: Data, epoch: int, step: int) -> Iterator[tuple[Sequence[str], Batch]]:
    """The batch of a step, with the names of its images."""
    order = batch_order(len(data.training.targets), data.seed, epoch - 1)[(step - 1) * data.batch_size :]
    yield [f"{index} of the training split" for index in order], next(data.batches(ONE_CPU, epoch - 1, step - 1))


def _validation(data: Data) -> Iterator[tuple[Sequence[str], Batch]]:
    """All batches, with the names of their images."""
    validation_batches = data.validation_batches(ONE_CPU)
    for number in range(len(validation_batches)):
        at = number * data.validation_batch
        yield (
            [f"{index} of the validation split" for index in range(at, at + data.validation_batch)],
            validation_batches[number],
        )

"""Why a training diverged: it is trained again up to the fault, which is then looked at layer by layer.

When a loss is seen that is no finite number, the weights are spoiled already. But a training is a function of its
params, data and position, so what led there can be computed a second time, from the last checkpoint.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from keras_pipeline import fitting, inspection
from keras_pipeline.checkpoints import Checkpoints
from keras_pipeline.distribution import Distribution
from keras_pipeline.errors import StoppedError
from keras_pipeline.fitting import NotFiniteError
from keras_pipeline.inspection import Finding, State
from keras_pipeline.params import Train
from keras_pipeline.training import Batch, Data, batch_order

Build = Callable[[Train, Distribution], keras.Sequential]
ONE = Distribution("none", ("/cpu:0",))
GOOD_STEPS = 3
"""How many steps with a finite loss tell their gradient: enough to see it grow."""
UNSCALED = 50.0
"""An input beyond this counts as not scaled: pixels reach 255, what the scalings make of them stays below 10."""


@dataclass(frozen=True)
class Diagnosis:
    """`cause`, one line; `message`: what was received, expected, found, and what may help."""

    cause: str
    message: str


def explain(
    fault: NotFiniteError, kept: Checkpoints | None, build: Build, place: Distribution, data: Data, train: Train
) -> Diagnosis:
    """Look for the cause of `fault` in the training of `data` on `place`, which is closed.

    `build(train, place)` gives the network with its first weights, compiled; `kept`: the training's checkpoints, if
    it keeps any. Trains again, in silence after one line, what came since the last one: less than an epoch. What
    cannot be found out is said in the message, so nothing is raised but an interruption. With several workers
    nothing is trained again.
    """
    start = kept.latest() if kept else None
    epoch, step = (start[1]["epoch"], start[1]["step"]) if start else (0, 0)
    if place.workers > 1:
        found = Finding("not looked for, because several workers trained; with train.workers: 1 it would be")
    elif epoch != fault.epoch - 1:
        found = Finding("not looked for, because no checkpoint is there from which to train this epoch again")
    else:
        print(f"train: diverged at step {fault.step} of epoch {fault.epoch}; looking for the cause …", flush=True)
        try:
            with np.errstate(all="ignore"):
                found = _search(fault, start, build, place, data, train)
        except Exception as error:  # a fault of the search must not hide the one that is searched
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            found = Finding(f"not found, because the search failed ({type(error).__name__}: {reason})")
    lines = [fault.received, f"  cause: {found.where}"]
    if found.kind != "unknown":
        norms = ", ".join(f"{norm:.3g} in step {step}" for step, norm in found.norms.items())
        lines.append(f"  gradient's norm: {norms or 'not known; no step before it since the checkpoint'}")
    lines += [f"  try: {'; '.join(_tries(found, train))}", f"  {_kept(kept, epoch, step)}"]
    return Diagnosis(
        f"{fault.name} {fault.value} at step {fault.step} of epoch {fault.epoch}: {found.where}", "\n".join(lines)
    )


def _kept(kept: Checkpoints | None, epoch: int, step: int) -> str:
    if kept is None or not (epoch or step):
        return "No checkpoint is kept: the same command begins anew, and diverges again. Change a value of params.yaml."
    at = f"step {step} of epoch {epoch + 1}" if step else f"epoch {epoch}"
    return (
        f"The last good checkpoint, after {at}, stays in {kept.folder}/. The same command goes on from it and diverges "
        "again; change a value of params.yaml, and a new training begins."
    )


def _tries(found: Finding, train: Train) -> list[str]:
    calmer = [f"train.optimizer.learning_rate: {train.optimizer.learning_rate / 10:g}"]
    if train.engine == "keras" and not any("clip" in name for name in train.optimizer.arguments()):
        calmer.append("train.optimizer.clipnorm: 1.0")
    if not (train.schedule.name == "cosine" and train.schedule.warmup_epochs):
        calmer.append("a warm-up (train.schedule: cosine, warmup_epochs: 1)")
    if "weight_decay" in train.optimizer.arguments():
        calmer.append("a smaller train.optimizer.weight_decay")
    scaled = ["normalize.scaling: standard"] if found.unscaled else []
    own = {
        "images": ["dvc repro --force normalize, which writes the images again"],
        "precision": ["train.precision: mixed_bfloat16, which has the range of float32"],
        "penalty": ["a smaller model.l2"],
        "loss": ["another train.loss or model.output_activation"],
    }.get(found.kind, scaled)
    if found.kind in ("images", "precision"):
        return own
    if found.activation == "exponential":
        own = [*own, "another activation than exponential"]
    return [*calmer, *own] if found.exploding else [*own, *calmer]


def _search(fault: NotFiniteError, start: Any, build: Build, place: Distribution, data: Data, train: Train) -> Finding:
    keeper = _replayed(fault, start, build, place, data, train)
    place.close()  # what follows is computed on one device
    if keeper is None:
        return Finding(
            "not found: trained again, these steps stayed finite. This training does not repeat itself exactly "
            f"(train.reproducibility: {train.reproducibility})"
        )
    networks = [
        build(train.model_copy(update={"precision": kind}), ONE) for kind in dict.fromkeys([train.precision, "float32"])
    ]
    plain = inspection.for_gradients(networks[-1])
    gradients = {
        step: inspection.gradients(plain, keeper.states[step - 1], next(data.batches(ONE, fault.epoch - 1, step - 1)))
        for step in range(keeper.step - GOOD_STEPS + 1, keeper.step + 1)
        if step - 1 in keeper.states
    }
    if keeper.spoiled:
        found = inspection.first_of(networks, keeper.states[keeper.step - 1], _training(data, fault.epoch, keeper.step))
        found = found or inspection.of_update(plain, keeper.states[keeper.step], gradients[keeper.step])
        found = replace(found, where=f"{found.where}, in step {keeper.step}, whose loss was still finite")
    else:
        validated = fault.name == "val/loss"
        batches = _validation(data) if validated else _training(data, fault.epoch, fault.step)
        found = inspection.first_of(networks, keeper.states[keeper.step], batches, training=not validated)
        found = found or Finding("not found: on one device all values of its batch are finite")
    unscaled = float(np.abs(data.training.images[: data.batch_size]).max()) > UNSCALED
    return replace(found, norms={step: inspection.norm(one) for step, one in gradients.items()}, unscaled=unscaled)


def _replayed(
    fault: NotFiniteError, start: Any, build: Build, place: Distribution, data: Data, train: Train
) -> "_Keeper | None":
    """The last steps before the fault, trained again; None where they go another way."""
    state, progress = start if start else (None, {"epoch": 0, "step": 0})
    keeper = _Keeper(progress["step"], fault)

    stand = fitting.Progress(progress["epoch"], progress["step"])
    again = train.model_copy(update={"checkpoint_steps": 0})
    try:
        fitting.fit(
            build(train, place), place, data, again, fitting.Watcher(quiet=True), stand, state, callbacks=[keeper]
        )
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
        self.states: dict[int, State] = {}

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
        state = inspection.state_of(self.model)
        # A loss can stay finite for long: XLA's relu on a CPU gives 0 for a NaN.
        self.spoiled = not all(inspection.all_finite(one) for one in state)
        self.states[self.step] = state
        self.states.pop(self.step - GOOD_STEPS - 1, None)


def _training(data: Data, epoch: int, step: int) -> Iterator[tuple[Sequence[str], Batch]]:
    """The batch of a step, with the names of its images."""
    order = batch_order(len(data.training.labels), data.seed, epoch - 1)[(step - 1) * data.batch_size :]
    yield [f"{place} of the training split" for place in order], next(data.batches(ONE, epoch - 1, step - 1))


def _validation(data: Data) -> Iterator[tuple[Sequence[str], Batch]]:
    """All batches, with the names of their images."""
    held_out = data.held_out(ONE)
    for number in range(len(held_out)):
        at = number * data.validation_batch
        yield [f"{place} of the validation split" for place in range(at, at + data.validation_batch)], held_out[number]

"""Who looks on while a network trains, and what a run is in its study or search."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from keras_pipeline.records.record import RunRecord

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray


class Observer:
    """Looks on and does nothing. What one derived from it raises ends the training."""

    def started(self, run: RunRecord) -> None:
        """Training begins, or goes on where `resumed` says so; `run` is the record as far as it is known."""

    def checkpoint(self, state: "Mapping[str, NDArray[Any]]", progress: Mapping[str, Any]) -> None:
        """The training can go on from here: the arrays of `training.state` and the values of `fit.Progress`."""

    def epoch(self, row: dict[str, float]) -> None:
        """An epoch is done: the row of `fit.fit_network`."""

    def stop_requested(self) -> bool:
        """Whether the training is to end after this step, which is kept first."""
        return False

    def ended(self, status: str, run: RunRecord, model: "keras.Sequential | None") -> None:
        """Training is over: FINISHED with the network, or FAILED or KILLED without one."""


@dataclass(frozen=True)
class ChildRun:
    """What a run is in its study or search, `kind`; `tuned`: which of the tuned values it has, "" where none are."""

    kind: Literal["study", "search"]
    parent_name: str
    question: str
    variant: str
    tuned: str
    seed: int

    @property
    def name(self) -> str:
        """What the run is called."""
        return " ".join(filter(None, (self.variant, self.tuned, f"seed {self.seed}")))

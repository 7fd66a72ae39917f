"""Who looks on while a network trains, and what a run is in its study or search."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from keras_pipeline.records.record import RunRecord

if TYPE_CHECKING:
    import keras


class Observer:
    """Looks on and does nothing. Nothing that one derived from it does may raise or change the training."""

    def started(self, run: RunRecord) -> None:
        """Training begins, or goes on where `resumed` says so; `run` is the record as far as it is known."""

    def epoch(self, row: dict[str, float]) -> None:
        """An epoch is done: the row of `fit.fit_network`."""

    def ended(self, status: str, run: RunRecord, model: "keras.Sequential | None") -> None:
        """Training is over: FINISHED with the network, or FAILED or KILLED without one."""


@dataclass(frozen=True)
class ChildRun:
    """What a run is in its study or search, `kind`; `tuned`: which of the tuned values it has, "" where none are."""

    kind: Literal["study", "search"]
    whole: str
    question: str
    variant: str
    tuned: str
    seed: int

    @property
    def name(self) -> str:
        """What the run is called."""
        return " ".join(filter(None, (self.variant, self.tuned, f"seed {self.seed}")))

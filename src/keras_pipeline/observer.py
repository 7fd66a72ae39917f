"""Who looks on while a network trains."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


class Observer:
    """Looks on and does nothing. Nothing that one derived from it does may raise or change the training."""

    def started(self, run: dict[str, Any]) -> None:
        """Training begins, or goes on where `resumed` says so; `run` is the record as far as it is known."""

    def epoch(self, row: dict[str, float]) -> None:
        """An epoch is done: the row of `fitting.fit`."""

    def ended(self, status: str, run: dict[str, Any], model: "keras.Sequential | None") -> None:
        """Training is over: FINISHED with the network, or FAILED or KILLED without one."""

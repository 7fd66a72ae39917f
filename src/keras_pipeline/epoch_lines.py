"""What a user sees of a training while it goes on."""

import sys
import time
from typing import Any

from tqdm import tqdm

SPEED_STEPS = 20
"""After how many steps the time of an epoch is foretold; the first step compiles and is not counted."""


NOT_SCORES = ("epoch", "train/learning_rate")
"""What of an epoch's row is told in another way than a loss or a metric."""


class EpochLines:
    """A bar on a terminal, one line per epoch elsewhere, and, once, how long it will take. Prints where `shown`."""

    def __init__(self, epochs: int, steps: int, *, shown: bool) -> None:
        self.epochs, self.steps, self.shown = epochs, steps, shown
        self.terminal = sys.stdout is not None and sys.stdout.isatty()
        self.bar: Any = None
        self.foretold = not shown
        self.epoch = self.done = 0
        self.first: int | None = None
        self.began = self.warm = time.monotonic()

    def epoch_begins(self, epoch: int, step: int) -> None:
        """The epoch, counted from 1, goes on after so many steps."""
        self.epoch, self.done, self.first = epoch, step, None
        self.began = time.monotonic()
        if self.shown and self.terminal:
            name = f"Epoch {epoch}/{self.epochs}"
            self.bar = tqdm(total=self.steps, initial=step, desc=name, unit="step", leave=False, file=sys.stdout)

    def step(self, step: int, loss: float) -> None:
        """So many steps of the epoch are done."""
        if self.bar is not None:
            self.bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            self.bar.update(step - self.done)
        self.done = step
        if self.foretold:
            return
        if self.first is None:
            self.first, self.warm = step, time.monotonic()
        elif step >= self.first + SPEED_STEPS:
            self.foretold = True
            seconds = (time.monotonic() - self.warm) / (step - self.first) * self.steps
            left = self.epochs - self.epoch + 1
            self._print(f"train: about {seconds:.1f} s an epoch, {_minutes(seconds * left)} for {left} epochs")

    def epoch_ends(self, row: dict[str, float]) -> None:
        """The epoch is done: the row of `fitting.fit`, without its time."""
        self.close()
        values = "  ".join(f"{name} {value:.4f}" for name, value in row.items() if name not in NOT_SCORES)
        rate, seconds = row["train/learning_rate"], time.monotonic() - self.began
        self._print(f"Epoch {row['epoch']}/{self.epochs}: {values}  learning rate {rate:.3g}  {seconds:.1f} s")

    def close(self) -> None:
        """Take away the bar, if one is there."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _print(self, text: str) -> None:
        if self.shown:
            tqdm.write(text, file=sys.stdout) if self.bar is not None else print(text, flush=True)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"

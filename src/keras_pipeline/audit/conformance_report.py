"""The conformance check's verdicts: results against a reference, and the tables of them in Markdown."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_pipeline.audit.conformance_worker import Results
from keras_pipeline.core import files
from keras_pipeline.core.errors import ParamsError

LOSS_TOLERANCE = 1e-5
"""Up to what difference two losses of an epoch count as equal, in float32."""
WEIGHT_TOLERANCE = 1e-4
"""The same for a weight: where a gradient is nearly 0, Adam divides one rounding error by another."""
LEARNED = 0.5
"""What may differ must still learn: the last train/loss is at most this share of the first …"""
ACCURACY_TOLERANCE = 0.1
"""… and the last val/accuracy at most so far from one device's."""


@dataclass(frozen=True)
class Tolerance:
    """Up to what difference losses and weights count as equal."""

    losses: float = LOSS_TOLERANCE
    weights: float = WEIGHT_TOLERANCE

    @property
    def text(self) -> str:
        """Both as a table shows them."""
        return f"{_short(self.losses)}, {_short(self.weights)}"


@dataclass(frozen=True)
class Cell:
    """What a table says in one place; `wrong`: it is not as it must be; `note`: what is said below the table."""

    text: str
    wrong: bool = False
    note: str = ""


def compare_results(reference: Results, results: Results, tolerance: Tolerance, *, may_differ: bool) -> Cell:
    """The verdict: the largest differences of train/loss, val/loss, last weights and, where sought, best weights.

    `equal` needs the same learning rates and as many epochs, too. `may_differ`: other numbers are good as well,
    as long as they are finite and learn (`LEARNED`, `ACCURACY_TOLERANCE`).
    """
    groups = ["train/loss", "val/loss", "weights/", "best/"][: 4 if "best/0" in reference else 3]
    differences = [largest_difference(reference, results, group) for group in groups]
    rates = largest_difference(reference, results, "train/learning_rate") / max(reference["train/learning_rate"])
    shown = " · ".join(_short(one) for one in differences)
    if rates > LOSS_TOLERANCE:
        return Cell(f"**DIFFERS** {shown}, in its epochs or learning rates", wrong=True)
    if max(differences[:2]) <= tolerance.losses and max(differences[2:]) <= tolerance.weights:
        return Cell(f"equal {shown}")
    if may_differ and np.isfinite(differences).all():
        learned = results["train/loss"][-1] <= LEARNED * results["train/loss"][0]
        if learned and abs(results["val/accuracy"][-1] - reference["val/accuracy"][-1]) <= ACCURACY_TOLERANCE:
            return Cell(f"differs, as it must: {shown}")
    return Cell(f"**DIFFERS** {shown}", wrong=True)


def largest_difference(reference: Results, results: Results, group: str) -> float:
    """The largest absolute difference of the arrays whose names begin with `group`; infinite where there is none."""
    names = [name for name in reference if name.startswith(group)]
    if names != [name for name in results if name.startswith(group)]:
        return float("inf")
    worst = 0.0
    for name in names:
        if reference[name].shape != results[name].shape or not np.isfinite(results[name]).all():
            return float("inf")
        worst = max(worst, float(np.abs(reference[name].astype(float) - results[name]).max()))
    return worst


def agreement(one: Results, other: Results) -> str:
    """For how many epochs, from the first on, both losses are within `LOSS_TOLERANCE`, and by what they differ."""
    count = min(len(one["train/loss"]), len(other["train/loss"]))
    worst = np.maximum(*(np.abs(one[name][:count] - other[name][:count]) for name in ("train/loss", "val/loss")))
    agreed = int(np.argmax([*(worst > LOSS_TOLERANCE), True]))
    text = f"{agreed} of {count} epochs, {_short(worst[:agreed].max(initial=0))}"
    return text if agreed == count else f"{text}; then {_short(worst[agreed:].max())}"


def _short(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e+") if value else "0"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a Markdown table."""
    yield f"| {' | '.join(head)} |"
    yield f"{'|---' * len(head)}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def replace_section(path: Path, marker: str, text: str) -> None:
    """Replace what stands between the comments of this name in a Markdown file, and nothing else.

    Raises ParamsError where the file has not both of them.
    """
    begin, end = f"<!-- conformance: {marker} -->", f"<!-- end of conformance: {marker} -->"
    old = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, found, rest = old.partition(begin)
    _, also, after = rest.partition(end)
    if not found or not also:
        raise ParamsError(
            f"{path}: has no lines {begin!r} and {end!r}, between which the tables go. Expected: a Markdown file "
            "with both. Add them, or leave --output out."
        )
    files.write_atomically(path, f"{before}{begin}\n\n{text}\n\n{end}{after}".encode())

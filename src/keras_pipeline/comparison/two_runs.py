"""Two runs, A and B, held against each other: what differs in what they were made of, and in their answers."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.comparison import statistics
from keras_pipeline.comparison.find_run import FoundRun
from keras_pipeline.comparison.statistics import Comparison
from keras_pipeline.core.errors import DataError
from keras_pipeline.data.earlier import FACTS
from keras_pipeline.data.splits import Split, read_split, split_files
from keras_pipeline.data.statistics import is_table, read_statistics
from keras_pipeline.evaluation import multiclass
from keras_pipeline.records.git import describe_git
from keras_pipeline.records.provenance import short_param_name
from keras_pipeline.records.record import MACHINE_TITLES, RunRecord

Rows = list[tuple[str, str, str]]
"""What differs: its name, A's value, B's."""
LACKING = "–"
MOST_IN_A_NAME = 2
LONGEST_CONSTANTS = 100
SHOWN_CLASSES = 30
LONGEST_VALUE = 24


@dataclass(frozen=True)
class Flips:
    """only_a, only_b: which test images, int (n,), only that run has right, those that the other is surest of first;
    both, neither: how many images both have right, or none of the two."""

    only_a: NDArray[np.intp]
    only_b: NDArray[np.intp]
    both: int
    neither: int


@dataclass(frozen=True)
class AnswerComparison:
    """The answers of two runs to the same test images, or rows of a table: differences by metric, B minus A, that which
    the verdict is of first. Accuracy has McNemar's exact test, the others an interval only. `flips`: of classes;
    `recalls`: of the share of each class that is right, by its number, p corrected for so many classes by Holm's
    method."""

    compared: dict[str, Comparison]
    flips: Flips | None
    recalls: Mapping[int, Comparison] = field(default_factory=dict)
    things: str = "images"

    def verdict(self, b: str = "B") -> str:
        """In words, what of the difference other test images would not undo; points are hundredths of the images, `b`
        what B is called."""
        metric, found = next(iter(self.compared.items()))
        if not self.flips:
            real, better, things = not found.low <= 0 <= found.high, found.difference < 0, self.things
            amount, rest = f"{found.difference:+.4g}", f"[{found.low:+.4g}, {found.high:+.4g}] in {metric}"
        elif not len(self.flips.only_a) and not len(self.flips.only_b):
            return f"no difference: both have the same test {self.things} right"
        else:
            real, better, things = found.real, found.difference > 0, self.things
            amount = f"{100 * found.difference:+.2f}"
            rest = f"points [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"
            rest += f", McNemar's p {statistics.format_p(found.p)}"
        if real:
            return f"{b} is {'better' if better else 'worse'}: {amount} {rest}: larger than chance among test {things}"
        return f"no difference larger than chance among test {things}: {amount} {rest}"

    @property
    def worse(self) -> bool:
        """Whether B is worse, by more than chance among test images or rows: what the verdict says."""
        found = next(iter(self.compared.values()))
        return found.real and found.difference < 0 if self.flips else found.low > 0


def find_differences(a: RunRecord, b: RunRecord) -> dict[str, Rows]:
    """What the records `a` and `b` say otherwise, by kind: params, data, code, versions, machine; no kind where all is
    the same."""
    found = {}
    for (kind, ours), theirs in zip(_told(a).items(), _told(b).values(), strict=True):
        rows = [(name, ours.get(name, LACKING), theirs.get(name, LACKING)) for name in {**ours, **theirs}]
        if rows := [row for row in rows if row[1] != row[2]]:
            found[kind] = rows
    return found


def distinguishing_names(differing: Mapping[str, Rows]) -> tuple[str, str]:
    """What to call the two runs, by what differs: its params, else its commit; two empty names where neither does."""
    rows = differing.get("params", [])
    rows = [(short_param_name(key, (row[0] for row in rows)), a, b) for key, a, b in rows]
    if not rows:
        rows = [row for row in differing.get("code", []) if row[0] == "commit"]
    return _name(rows, 1), _name(rows, 2)


def _name(rows: Rows, column: int) -> str:
    """Those of a few params."""
    shown = [f"{row[0]}={row[column][:LONGEST_VALUE]}" for row in rows[:MOST_IN_A_NAME]]
    return ", ".join([*shown, "…"] if len(rows) > len(shown) else shown)


def _told(record: RunRecord) -> dict[str, dict[str, str]]:
    """All of a record that is compared, by kind and name."""
    dataset, git = record["dataset"], record["git"]
    return {
        "params": {key: str(value) for key, value in record["params"].items()},
        "data": {
            "dataset": dataset["dataset"],
            "content": dataset["source"]["sha256"][:12] if dataset["source"] else LACKING,
            "task": dataset.get("task", "classes"),
            **dataset["facts"],
            "classes": _named(dataset["class_names"]),
            "scaling": _scaling(dataset["scaling"]),
            "target's scaling": _scaling(dataset.get("target") or {}),
            **{f"{split} images": str(count) for split, count in dataset["images"].items()},
            **{name: digest[:12] for name, digest in dataset["sha256"].items()},
        },
        "code": {"digest": record["sha256"]["code"][:12], "commit": describe_git(git)},
        "versions": {**dict(line.split("==", 1) for line in record["environment"]), **record["versions"]},
        "machine": {
            **{title: record["machine"].get(name, LACKING) for name, title in MACHINE_TITLES.items()},
            "host": str(record.get("host", LACKING)),
            "devices": ", ".join(record["strategy"]["devices"]),
        },
    }


def _named(classes: Sequence[str]) -> str:
    """The names of some classes, or of many the first ones and what tells all of them from others."""
    if len(classes) <= SHOWN_CLASSES:
        return ", ".join(classes)
    digest = hashlib.sha256("\n".join(classes).encode()).hexdigest()
    return f"{', '.join(classes[:SHOWN_CLASSES])} and {len(classes) - SHOWN_CLASSES:,} more ({digest[:12]})"


def _scaling(constants: Mapping[str, Any]) -> str:
    """In words; of a table with many features the first constants, and what tells all of them from others."""
    texts = [f"{name} {value}" for name, value in constants.items()]
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]
    return ", ".join(
        text if len(text) <= LONGEST_CONSTANTS else f"{text[:LONGEST_CONSTANTS]}… ({digest})" for text in texts
    )


def have_same_test_images(a: RunRecord, b: RunRecord) -> bool:
    """Whether the runs of two records were tested on the same images or rows, and asked the same of them, be they
    scaled otherwise.

    No test image is left out, so where the digest of an array that was scaled tells nothing, the same source gives the
    same ones. Earlier versions recorded no source, but their datasets had one content each.
    """
    ours, theirs = a["dataset"], b["dataset"]
    files_of = [split_files(one, "test") for one in (ours, theirs)]
    if files_of[0] != files_of[1] or any(ours[name] != theirs[name] for name in ("dataset", "class_names")):
        return False
    earlier = [one["facts"] == FACTS for one in (ours, theirs)]
    one_source = any(earlier) or ours["source"] == theirs["source"]
    on_disk = [
        (old or is_table(one), one["target"] is not None) for old, one in zip(earlier, (ours, theirs), strict=True)
    ]
    for name, constants, *scaled in zip(files_of[0], ("scaling", "target"), *on_disk, strict=True):
        told = scaled == [False, False] or (scaled == [True, True] and ours.get(constants) == theirs.get(constants))
        if ours["sha256"][name] != theirs["sha256"][name] and (told or not one_source):
            return False
    return True


def compare_answers(a: FoundRun, b: FoundRun) -> AnswerComparison | None:
    """None where the runs were tested on other images, so that their answers cannot be paired. Raises DataError where
    the answers are not those of the records."""
    if not have_same_test_images(a.record, b.record):
        return None
    if not np.allclose(a.labels, b.labels, rtol=1e-5):
        raise DataError(
            f"{a.location} and {b.location}: by their records tested on the same images, but the labels beside their "
            "answers differ: one reports/predictions.npz is of another run. Run `dvc repro` there."
        )
    if a.task.name == "regression":
        off = [np.abs(run.outputs[:, 0] - run.labels) for run in (a, b)]
        return AnswerComparison(
            {"test/mean_absolute_error": statistics.compare_settings(off[1][None], off[0][None])}, None, things=a.things
        )
    right = [run.outputs.argmax(axis=1) == run.labels for run in (a, b)]
    losses = [multiclass.log_losses(run.outputs, run.labels) for run in (a, b)]
    return AnswerComparison(
        {
            "test/accuracy": statistics.compare_settings(right[1][None], right[0][None]),
            "test/log_loss": statistics.compare_settings(losses[1][None], losses[0][None]),
        },
        Flips(
            _surest(b, right[0] & ~right[1]),
            _surest(a, right[1] & ~right[0]),
            int(np.count_nonzero(right[0] & right[1])),
            int(np.count_nonzero(~right[0] & ~right[1])),
        ),
        _compare_recalls(right, a.labels),
        a.things,
    )


def _compare_recalls(right: Sequence[NDArray[np.bool_]], labels: NDArray[Any]) -> dict[int, Comparison]:
    found = {}
    for label in np.unique(labels).tolist():
        of_class = labels == label
        found[label] = statistics.compare_settings(right[1][None, of_class], right[0][None, of_class])
    adjusted = statistics.holm_adjusted([one.p for one in found.values()])
    return {label: replace(one, p_adjusted=p) for (label, one), p in zip(found.items(), adjusted, strict=True)}


def _surest(wrong: FoundRun, flipped: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Which images, those first to whose wrong answer that run gives most probability, equals by index."""
    chosen = np.flatnonzero(flipped)
    confidence = multiclass.of_each_image(wrong.outputs, wrong.labels).confidence
    return chosen[np.argsort(-confidence[chosen], kind="stable")]


def find_test_images(runs: Iterable[FoundRun], folders: Iterable[Path]) -> Split | None:
    """The test split of the first of the runs whose images a folder of normalized arrays has unaltered; None where none
    has."""
    described = [run.record["dataset"] for run in runs]
    wanted = {one["sha256"]["test_images.npy"] for one in described if not is_table(one)}
    for folder in folders:
        try:
            statistics = read_statistics(folder)
            if statistics["sha256"].get("test_images.npy") in wanted:
                return read_split(folder, "test", statistics)
        except DataError:  # not there, or not what was written
            continue
    return None

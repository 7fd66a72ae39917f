"""What the comparison of two runs says: a few lines, and a page for people."""

import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.comparison import page, statistics
from keras_pipeline.comparison.find_run import FoundRun
from keras_pipeline.comparison.two_runs import LACKING, AnswerComparison, Flips, Rows
from keras_pipeline.config.tasks import format_headline, format_score
from keras_pipeline.evaluation import figures, multiclass
from keras_pipeline.records.git import describe_git

NAME = "comparison"
MOST_PICTURES = 36
MOST_LINES = 8
ONE_SEED = "One run each says nothing of other seeds: the next seed may turn it (`keras-pipeline study` asks that)."
OTHER_IMAGES = (
    "A and B were tested on different images, or asked different things of them: their metrics stand side by side, and "
    "nothing says what of the difference is chance"
)
SAME_RUN = "A and B are one and the same run"


def report_name(a: FoundRun, b: FoundRun) -> str:
    """A-vs-B, as the name of a folder."""

    def safe(name: str) -> str:
        return re.sub(r"[^\w.=]+", "-", name).strip("-.")[:80] or "here"

    return f"{safe(a.requested_name)}-vs-{safe(b.requested_name)}"


def image_folders(a: FoundRun, b: FoundRun, normalized: Path) -> Iterator[Path]:
    """Where the test images of the runs may be: `normalized`, what belongs to their folders, what studies made."""
    yield normalized
    for run in (a, b):
        if run.folder:
            yield run.folder / "data" / "normalized"
            if run.folder.resolve().parent.name == "runs":  # of a study
                yield from sorted(run.folder.resolve().parents[1].glob("data/*/*"))
    yield from sorted(Path("studies", "data").glob("*/*"))


def summary_lines(
    a: FoundRun, b: FoundRun, differing: dict[str, Rows], answers: AnswerComparison | None
) -> Iterator[str]:
    """What differed, the accuracies, and the verdict, for a terminal."""
    for letter, run in (("A", a), ("B", b)):
        yield f"{letter}:        {run.record['name']}, key {run.record['key'][:12]}: {run.location}"
    yield "differs:  " + "\n          ".join(_differing(differing))
    for letter, run in (("A", a), ("B", b)):
        yield f"result:   {letter}: {format_headline(run.scores)} on {_tested(run)}"
    if answers and answers.flips:
        only_a, only_b = len(answers.flips.only_a), len(answers.flips.only_b)
        yield f"flipped:  only A has {only_a} test images right, only B {only_b}"
    yield f"verdict:  {_verdict(a, b, answers)}"
    if warning := _warning(a, b, answers):
        yield f"          {warning}"


def _tested(run: FoundRun) -> str:
    return f"{len(run.labels):,} test {run.task.things}"


def _differing(differing: dict[str, Rows]) -> Iterator[str]:
    if not differing:
        yield "nothing that is recorded"
    for kind, rows in differing.items():
        for what, of_a, of_b in rows[:MOST_LINES]:
            yield f"{kind}: {what} {of_a} \N{RIGHTWARDS ARROW} {of_b}"
        if len(rows) > MOST_LINES:
            yield f"{kind}: and {len(rows) - MOST_LINES} more, on the page"


def _verdict(a: FoundRun, b: FoundRun, answers: AnswerComparison | None) -> str:
    if a.record["key"] == b.record["key"]:
        return SAME_RUN
    return answers.verdict if answers else OTHER_IMAGES


def _warning(a: FoundRun, b: FoundRun, answers: AnswerComparison | None) -> str:
    return ONE_SEED if answers and a.record["key"] != b.record["key"] else ""


def write_report(
    a: FoundRun,
    b: FoundRun,
    differing: dict[str, Rows],
    answers: AnswerComparison | None,
    images: NDArray[np.float32] | None,
    folder: Path,
) -> list[Path]:
    """Write comparison.md, comparison.html and a picture for each direction in which test images flipped into `folder`;
    their paths. `images`: the test images, if they are at hand."""
    pictures: list[page.Picture] = []
    left_out = ""
    flips = answers.flips if answers else None
    if flips and images is None and len(flips.only_a) + len(flips.only_b):
        left_out = (
            "Their pictures are left out: the test images are in no folder of scaled arrays here that has them "
            "unaltered. `dvc repro normalize` writes data/normalized; `--normalized` names another folder."
        )
    elif flips and images is not None:
        pictures = list(_pictures(a, b, flips, images))
    for stale in folder.glob("only-*.png"):
        stale.unlink()
    content = {
        "a": a,
        "b": b,
        "verdict": _verdict(a, b, answers),
        "warning": _warning(a, b, answers),
        "runs": _runs(a, b),
        "differing": differing,
        "metrics": list(_metrics(a, b, answers)),
        "answers": answers,
        "flips": flips,
        "p": statistics.format_p(answers.compared["test/accuracy"].p) if answers and flips else "",
        "tested": _tested(a),
        "left_out": left_out,
    }
    return page.write_page(
        folder, NAME, f"{a.requested_name} against {b.requested_name}", content, pictures, of="compare"
    )


def _runs(a: FoundRun, b: FoundRun) -> Rows:
    """Which runs they are."""

    def told(run: FoundRun) -> dict[str, str]:
        record = run.record
        return {
            "run": record["name"],
            "found": run.location,
            "key": record["key"],
            "trained": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["started"])),
            "epochs": str(len(record["history"])),
            "training": f"{record['train_seconds']:.0f} s",
            "commit": describe_git(record["git"]),
            "result": format_headline(run.scores),
        }

    return [(name, of_a, of_b) for (name, of_a), of_b in zip(told(a).items(), told(b).values(), strict=True)]


def _metrics(a: FoundRun, b: FoundRun, answers: AnswerComparison | None) -> Iterator[dict[str, str]]:
    compared = answers.compared if answers else {}
    for metric in {**a.scores, **b.scores}:
        ours, theirs = a.scores.get(metric), b.scores.get(metric)
        found = compared.get(metric)
        yield {
            "name": metric,
            "a": LACKING if ours is None else format_score(ours),
            "b": LACKING if theirs is None else format_score(theirs),
            "difference": LACKING if ours is None or theirs is None else format_score(theirs - ours, "+"),
            "interval": f"[{found.low:+.4f}, {found.high:+.4f}]" if found else "",
        }


def _pictures(a: FoundRun, b: FoundRun, flips: Flips, images: NDArray[np.float32]) -> Iterator[page.Picture]:
    for letter, other, chosen in (("A", "B", flips.only_a), ("B", "A", flips.only_b)):
        if not len(chosen):
            continue
        shown = chosen[:MOST_PICTURES]
        count = f"{len(shown)} of {len(chosen)}" if len(shown) < len(chosen) else f"all {len(chosen)}"
        text = f"{letter} right, {other} wrong: {count}"
        order = f"those first that {other} is surest of"
        figure = figures.draw_flipped(
            images[shown],
            a.labels[shown].tolist(),
            {"A": _given(a, shown), "B": _given(b, shown)},
            a.record["dataset"]["class_names"],
            f"{text}\n{order}",
        )
        yield page.Picture(f"only-{letter}-right.png", f"{text}, {order}", figure)


def _given(run: FoundRun, shown: NDArray[np.intp]) -> tuple[Sequence[int], Sequence[float]]:
    """Of these images, what the run answered, and the probability that it gave that."""
    answered = run.outputs[shown].argmax(axis=1)
    probability: Any = multiclass.probabilities(run.outputs[shown])[np.arange(len(shown)), answered]
    return answered.tolist(), probability.tolist()

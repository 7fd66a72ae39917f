"""What the comparison of two runs says: a few lines, and a page for people."""

import re
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.comparison import figures as comparison_figures
from keras_pipeline.comparison import page, statistics, two_runs
from keras_pipeline.comparison.find_run import FoundRun
from keras_pipeline.comparison.statistics import Comparison
from keras_pipeline.comparison.two_runs import LACKING, AnswerComparison, Flips, Rows
from keras_pipeline.config.tasks import format_headline, format_score
from keras_pipeline.core import terminal
from keras_pipeline.data.splits import Split
from keras_pipeline.evaluation import figures, multiclass
from keras_pipeline.records.git import describe_git

NAME = "comparison"
MOST_PICTURES = 36
MOST_CLASSES = 40
MOST_LINES = 8
LONGEST_LINE = 50
"""Of the title of a small picture."""
ONE_SEED = "This is one run each. Another seed may turn it round: `keras-pipeline study` compares over several seeds."
OTHER_IMAGES = (
    "the two runs were tested on different images, or asked different things of them: their metrics are shown side by "
    "side, and nothing says how much of the difference is chance"
)
SAME_RUN = "the two are one and the same run"


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
                yield from _scaled(run.folder.resolve().parents[1] / "data")
    yield from _scaled(Path("studies", "data"))


def _scaled(data: Path) -> Iterator[Path]:
    """What studies made, by dataset; files and folders of other kinds are among them."""
    yield from sorted(path.parent for path in data.glob("*/*/statistics.json"))


def summary_lines(
    a: FoundRun, b: FoundRun, differing: dict[str, Rows], answers: AnswerComparison | None
) -> Iterator[str]:
    """What differed, the accuracies, and the verdict, for a terminal."""
    names = run_names(a, b, differing)
    for name, run in zip(names, (a, b), strict=True):
        yield f"run:      {name}: {run.record['name']}, key {run.record['key'][:12]}, {run.location}"
    yield "differs:  " + "\n          ".join(_differing(differing))
    for name, run in zip(names, (a, b), strict=True):
        yield f"result:   {name}: {format_headline(run.scores)} on {_tested(run)}"
    if answers and answers.flips:
        only_a, only_b = len(answers.flips.only_a), len(answers.flips.only_b)
        yield f"flipped:  only {names[0]} has {only_a} test {a.things} right, only {names[1]} {only_b}"
    verdict = _verdict(a, b, answers, names[1])
    for word, coloured in (f"{names[1]} is better", terminal.better), (f"{names[1]} is worse", terminal.worse):
        verdict = verdict.replace(word, coloured(word), 1)
    yield f"verdict:  {verdict}"
    if warning := _warning(a, b, answers):
        yield f"          {warning}"


def _tested(run: FoundRun) -> str:
    return f"{len(run.labels):,} test {run.things}"


def _differing(differing: dict[str, Rows]) -> Iterator[str]:
    if not differing:
        yield "nothing that is recorded"
    for kind, rows in differing.items():
        for what, of_a, of_b in rows[:MOST_LINES]:
            yield f"{kind}: {what} {of_a} \N{RIGHTWARDS ARROW} {of_b}"
        if len(rows) > MOST_LINES:
            yield f"{kind}: and {len(rows) - MOST_LINES} more, on the page"


def _verdict(a: FoundRun, b: FoundRun, answers: AnswerComparison | None, name_of_b: str) -> str:
    if a.record["key"] == b.record["key"]:
        return SAME_RUN
    return answers.verdict(name_of_b) if answers else OTHER_IMAGES


def _warning(a: FoundRun, b: FoundRun, answers: AnswerComparison | None) -> str:
    return ONE_SEED if answers and a.record["key"] != b.record["key"] else ""


def write_report(
    a: FoundRun,
    b: FoundRun,
    differing: dict[str, Rows],
    answers: AnswerComparison | None,
    images: Split | None,
    folder: Path,
) -> list[Path]:
    """Write comparison.html, comparison.md and their pictures into `folder`, instead of those of an
    earlier comparison there; their paths. `images`: the test split, if its images are at hand."""
    names = run_names(a, b, differing)
    flips = answers.flips if answers else None
    left_out = ""
    pictures = _result_pictures(a, b, answers, names)
    flipped: list[page.Picture] = []
    if flips and images is None and a.things == "images" and len(flips.only_a) + len(flips.only_b):
        left_out = (
            "Their pictures are left out: the test images are in no folder of normalized arrays here that has them "
            "unaltered. `dvc repro normalize` writes data/normalized; `--normalized` names another folder."
        )
    elif flips and images is not None:
        flipped = list(_flipped_pictures(a, b, flips, images, names))
    for stale in (*folder.glob("only-*.png"), folder / "curves.png", folder / "classes.png"):
        stale.unlink(missing_ok=True)
    verdict = _verdict(a, b, answers, names[1])
    content = {
        "command": f"keras-pipeline compare {a.requested_name} {b.requested_name}",
        "days": " and ".join(dict.fromkeys(_day(run, "%Y-%m-%d") for run in (a, b))),
        "commits": ", ".join(dict.fromkeys(describe_git(run.record["git"]) for run in (a, b))),
        "names": names,
        "verdict": page.capitalized(verdict),
        "warning": _warning(a, b, answers),
        "runs": _runs(a, b),
        "differing": differing,
        "metrics": list(_metrics(a, b, answers)),
        "answers": answers,
        "flips": flips,
        "flipped": flipped,
        "classes": list(_classes(a, answers)),
        "left_out_classes": len(answers.recalls) - len(_most_different(answers)) if answers else 0,
        "p": statistics.format_p(answers.compared["test/accuracy"].p) if answers and flips else "",
        "things": a.things,
        "tested": _tested(a),
        "left_out": left_out,
    }
    every = pictures | {picture.file: picture for picture in flipped}
    return page.write_page(folder, NAME, f"{names[0]} against {names[1]}", content, every, of="compare")


def run_names(a: FoundRun, b: FoundRun, differing: Mapping[str, Rows]) -> tuple[str, str]:
    """What the two are called: what tells them apart, else what they were asked for as, else A and B."""
    asked = a.requested_name, b.requested_name
    return next(pair for pair in (two_runs.distinguishing_names(differing), asked, ("A", "B")) if pair[0] != pair[1])


def _day(run: FoundRun, form: str) -> str:
    return time.strftime(form, time.localtime(run.record["started"]))


def _runs(a: FoundRun, b: FoundRun) -> Rows:
    """Which runs they are."""

    def told(run: FoundRun) -> dict[str, str]:
        record = run.record
        return {
            "run": record["name"],
            "where": run.location,
            "key": record["key"],
            "trained": _day(run, "%Y-%m-%d %H:%M:%S"),
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
            "interval": f"[{found.low:+.4f}, {found.high:+.4f}]" if found else LACKING,
        }


def _most_different(answers: AnswerComparison | None) -> Mapping[int, Comparison]:
    """The classes, by number; of many those whose recalls chance explains least, and then differ most."""
    recalls = answers.recalls if answers else {}
    if len(recalls) <= MOST_CLASSES:
        return recalls
    first = sorted(recalls, key=lambda label: (recalls[label].p_adjusted, -abs(recalls[label].difference)))
    return {label: recalls[label] for label in sorted(first[:MOST_CLASSES])}


def _classes(a: FoundRun, answers: AnswerComparison | None) -> Iterator[dict[str, str]]:
    names = a.record["dataset"]["class_names"]
    for label, found in _most_different(answers).items():
        only_a, only_b = found.flipped[0].only_baseline, found.flipped[0].only_variant
        yield {
            "name": names[label],
            "images": str(int(np.count_nonzero(a.labels == label))),
            "difference": f"{100 * found.difference:+.2f} [{100 * found.low:+.2f}, {100 * found.high:+.2f}]",
            "only_a": str(only_a),
            "only_b": str(only_b),
            "p": statistics.format_p(found.p_adjusted),
        }


def _result_pictures(
    a: FoundRun, b: FoundRun, answers: AnswerComparison | None, names: tuple[str, str]
) -> dict[str, page.Picture]:
    drawn = {}
    histories = {name: _history(run) for name, run in zip(names, (a, b), strict=True)}
    columns = [set(history) for history in histories.values()]
    metrics = [
        metric
        for metric in ("loss", "accuracy", "mean_absolute_error")
        if all({f"train/{metric}", f"val/{metric}"} <= one for one in columns)
    ]
    if metrics:
        figure = comparison_figures.draw_histories(histories, metrics)
        drawn["curves"] = page.Picture("curves.png", "Learning curves of both runs", figure)
    if answers and answers.recalls and a.record["key"] != b.record["key"]:
        class_names = a.record["dataset"]["class_names"]
        found = {
            f"{class_names[label]} ({np.count_nonzero(a.labels == label)} {a.things})": (
                one.difference, one.low, one.high, one.real,
            )
            for label, one in _most_different(answers).items()
        }  # fmt: skip
        quantity = f"recall of {names[1]} minus {names[0]}"
        figure = comparison_figures.draw_differences(found, quantity, "larger than chance")
        drawn["classes"] = page.Picture("classes.png", "Difference of the recall of each class", figure)
    return drawn


def _history(run: FoundRun) -> dict[str, list[float]]:
    rows = run.record["history"]
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else {})}


def _flipped_pictures(
    a: FoundRun, b: FoundRun, flips: Flips, images: Split, names: tuple[str, str]
) -> Iterator[page.Picture]:
    short = names
    if all(name.count("=") == 1 for name in names):
        short = names[0].partition("=")[2], names[1].partition("=")[2]
    if max(map(len, short)) > figures.LONGEST_NAME:
        short = "A", "B"
    explained = [f"{one}: {name}" for one, name in zip(short, names, strict=True) if short == ("A", "B") != names]
    for letter, (right, wrong), chosen in (("A", names, flips.only_a), ("B", names[::-1], flips.only_b)):
        if not len(chosen):
            continue
        shown = chosen[:MOST_PICTURES]
        count = f"{len(shown)} of {len(chosen)}" if len(shown) < len(chosen) else f"all {len(chosen)}"
        text = f"{right} right, {wrong} wrong: {count}, the most confident mistakes first"
        lines = [
            *textwrap.wrap(f"{right} right, {wrong} wrong", LONGEST_LINE),
            *explained,
            f"{count}, the most confident mistakes first",
        ]
        figure = figures.draw_flipped(
            [figures.thumbnail(images.scaled([index])[0]) for index in shown],
            a.labels[shown].tolist(),
            {name: _given(run, shown) for name, run in zip(short, (a, b), strict=True)},
            a.record["dataset"]["class_names"],
            "\n".join(lines),
        )
        yield page.Picture(f"only-{letter}-right.png", text, figure)


def _given(run: FoundRun, shown: NDArray[np.intp]) -> tuple[Sequence[int], Sequence[float]]:
    """Of these images, what the run answered, and the probability that it gave that."""
    answered = run.outputs[shown].argmax(axis=1)
    probability: Any = multiclass.probabilities(run.outputs[shown])[np.arange(len(shown)), answered]
    return answered.tolist(), probability.tolist()

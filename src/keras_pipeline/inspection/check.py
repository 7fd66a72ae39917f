"""All of a dataset read once, and what is wrong with it: findings with the names of the examples."""

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError
from keras_pipeline.core.terminal import Progress
from keras_pipeline.inspection.faults import tables
from keras_pipeline.inspection.faults.duplicates import equal_groups, near_groups
from keras_pipeline.inspection.faults.label_errors import find_label_errors
from keras_pipeline.inspection.faults.originals import Originals
from keras_pipeline.inspection.findings import Finding, counted, kept_findings, singles
from keras_pipeline.inspection.survey import Survey, survey_images
from keras_pipeline.sources.assignment import LEFT_OUT, SPLITS, assign, by_pixels, is_test_digest
from keras_pipeline.sources.dataset_file import definition_digest
from keras_pipeline.sources.files import scan
from keras_pipeline.sources.kinds.kind import Columns, Kind
from keras_pipeline.sources.picture_files.decoding import DecodedPictures
from keras_pipeline.sources.raw_writer import check_counts
from keras_pipeline.sources.source_files import SourceFiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEW = 10
"""Examples of a class: of fewer nothing is learnt, and hardly one is left for the validation and test splits."""


@dataclass
class Report:
    """What was found, and in `facts`, a line each, what was looked at and what was not."""

    findings: list[Finding] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """All of it for programs."""
        findings = [finding.plain() for finding in self.findings]
        return {"refused": self.refused, "facts": self.facts, "findings": findings}

    @property
    def refused(self) -> bool:
        """Whether `fetch` refuses the dataset."""
        return any(one.refused for one in self.findings)


@dataclass(frozen=True)
class Named:
    """The examples by what they are called: `places` (which may begin with `source`), `labels` and `assigned`, the
    index into SPLITS, of each; `thing`: image or row."""

    places: Sequence[str]
    labels: "NDArray[Any]"
    assigned: "NDArray[np.uint8]"
    class_names: Sequence[str]
    thing: str
    source: str = ""

    def place(self, index: int) -> str:
        """What an example is called."""
        return self.places[index].removeprefix(self.source)

    def label(self, index: int) -> str:
        """Its class, or its number."""
        return self.class_names[int(self.labels[index])] if self.class_names else f"{self.labels[index]:g}"

    def split(self, index: int) -> str:
        """Its split."""
        return str(SPLITS[self.assigned[index]])


def check_dataset(name: str, dataset: Kind, downloads: Path) -> Report:
    """Read the whole dataset once, with progress, and look for everything that is looked for in its kind.

    What the dataset would be refused for by `fetch` is a finding too. Raises DataError or DownloadError where its files
    are not here. The findings are kept among the `downloads`, for the page, until dataset or files change; and, until
    it ends, what was read of images, so that one that is interrupted goes on.
    """
    seen = scan.look(name, dataset, downloads)
    source = scan.open_files(name, dataset, seen, downloads)
    report = Report()
    of = {"definition": definition_digest(dataset), "source": seen.source}
    surveyed = downloads / f"{name}.survey"
    try:
        _check(name, dataset, source, report, surveyed, json.dumps(of))
    except DataError as error:
        report.findings.insert(0, Finding("refused", str(error), refused=True))
    files.write_json(kept_findings(name, downloads), {**of, **report.plain()})
    shutil.rmtree(surveyed, ignore_errors=True)
    return report


def _check(name: str, dataset: Kind, source: SourceFiles, report: Report, surveyed: Path, key: str) -> None:
    refused = getattr(dataset, "damaged", None) == "refuse"
    lenient = dataset.model_copy(update={"damaged": "skip"}) if refused else dataset
    examples = lenient.read(source)
    columns = examples.inputs if isinstance(examples.inputs, Columns) else None
    assigned = assign(dataset, examples, columns)
    thing = "row" if columns else "image"
    named = Named(examples.places, examples.labels, assigned, dataset.classes, thing, f"{source.name}: ")
    report.facts.append(f"{counted(len(assigned), thing)}{_classes(dataset)}")
    if columns is not None:
        check_rows(columns, named, report)
        check_counts(name, dataset, assigned)
        return
    originals = Originals()
    images: Any = examples.inputs
    if isinstance(images, DecodedPictures):
        images = originals.watch(images)
    progress = Progress(f"{name}: reading", len(assigned), "image")
    try:
        shape: Any = dataset.input_shape
        survey = survey_images(images, len(assigned), shape, progress.advance, surveyed, key)
    finally:
        progress.close()
    report.facts += originals.facts()
    if survey.known:
        only = "; formats and sizes are of those after them" if originals.sizes else ""
        report.facts.append(f"went on after {survey.known:,} images{only}")
    assigned[~survey.read] = LEFT_OUT
    if by_pixels(examples):
        for index in np.flatnonzero(assigned == 0).tolist():
            if is_test_digest(survey.digests[index].tobytes(), dataset.splits.test):
                assigned[index] = SPLITS.index("test")
    check_images(survey, named, report, damaged_refused=refused)
    check_counts(name, dataset, assigned)


def _classes(dataset: Kind) -> str:
    return f", {counted(len(dataset.classes), 'class')}" if dataset.classes else ""


def check_images(survey: Survey, named: Named, report: Report, *, damaged_refused: bool) -> None:
    """Everything that is looked for in images of which there is a survey. `damaged_refused`: whether `fetch` takes no
    dataset with one that cannot be read."""
    if survey.left_out:
        told = [[f"{named.place(index)} ({why})"] for index, why in survey.left_out.items()]
        way = "refused by fetch: mend or remove them, or write damaged: skip" if damaged_refused else "left out"
        what = f"{counted(len(told), 'image')} that cannot be read, {way}"
        report.findings.append(Finding("damaged", what, told, refused=damaged_refused))
    _count_classes(named, survey.read, report)
    blank = survey.read & (survey.small == survey.small[:, :1, :1]).all(axis=(1, 2, 3))
    if blank.any():
        names = singles(named.place(one) for one in np.flatnonzero(blank).tolist())
        report.findings.append(Finding("blank", f"{counted(len(names), 'image')} of one colour", names))
    groups = equal_groups(survey.digests, survey.read)
    report.findings += _copies(groups, named, "with the same pixels")
    first = survey.read & ~blank
    for group in groups:
        first[group[1:]] = False
    near, all_seen = near_groups(survey.hashes, survey.small, first)
    report.findings += _copies(near, named, "that are nearly the same", "near_")
    if not all_seen:
        report.facts.append("near duplicates: too many images look alike; not all pairs were compared")
    if named.class_names:
        some = np.flatnonzero(survey.read & ~blank)
        _look_at_labels(lambda chosen: survey.small[some[chosen]] / np.float32(255), some, named, report)


def check_rows(columns: Columns, named: Named, report: Report) -> None:
    """Everything that is looked for in a table."""
    values, count = columns.values, len(named.labels)
    _count_classes(named, np.ones(count, np.bool_), report)
    report.findings += tables.find_column_faults(values, named.labels, columns.target)
    shares = {name: float(np.mean(tables.missing(column))) for name, column in values.items()}
    if lacking := [f"{name} {share:.1%}" for name, share in shares.items() if share]:
        report.facts.append(f"missing values ({columns.missing}): {', '.join(lacking)}")
    # Rows that are alike but for their class are wrong, but for their number they are not.
    inputs = tables.row_digests(values if named.class_names else {**values, columns.target: named.labels}, count)
    report.findings += _copies(equal_groups(inputs, np.ones(count, np.bool_)), named, "with the same values")
    if named.class_names:
        _look_at_labels(lambda chosen: tables.encoded_columns(values, chosen), np.arange(count), named, report)


def _look_at_labels(
    features: "Callable[[NDArray[np.int64]], NDArray[Any]]", some: "NDArray[np.int64]", named: Named, report: Report
) -> None:
    findings, facts = find_label_errors(
        features,
        named.labels[some],
        [named.split(one) for one in some.tolist()],
        [named.place(one) for one in some.tolist()],
        named.class_names,
    )
    report.findings += findings
    report.facts += facts


def _count_classes(named: Named, read: "NDArray[np.bool_]", report: Report) -> None:
    """Classes of which there is too little, in all or in a split that the source gives."""
    if not named.class_names:
        return
    counts = np.bincount(named.labels[read], minlength=len(named.class_names))
    if few := [[f"{named.class_names[one]} ({counts[one]})"] for one in np.flatnonzero(counts < FEW).tolist()]:
        what = f"{counted(len(few), 'class')} of fewer than {FEW} {named.thing}s"
        hint = ""
        if not counts[0] and counts[1:].all():
            hint = f"; no label is 0, the class {named.class_names[0]}: do they count from 1?"
        report.findings.append(Finding("few_examples", what + hint, few))
    for index, split in enumerate(SPLITS):
        own = np.bincount(named.labels[read & (named.assigned == index)], minlength=len(counts))
        if own.any() and (lacking := np.flatnonzero((own == 0) & (counts > 0)).tolist()):
            what = f"{counted(len(lacking), 'class')} without any {named.thing} in the {split} split"
            report.findings.append(Finding("few_examples", what, singles(named.class_names[one] for one in lacking)))


def _copies(groups: "Iterable[NDArray[np.int64]]", named: Named, how: str, prefix: str = "") -> list[Finding]:
    """Groups of copies, by what is wrong with them: two labels, two splits, or that they are there twice."""
    kinds: dict[str, list[list[str]]] = {"two_labels": [], "train_and_test": [], "duplicates": []}
    sizes = dict.fromkeys(kinds, 0)
    for group in (part.tolist() for part in groups):
        labels = [f" ({named.label(one)})" for one in group] if named.class_names else [""]
        wrong = {"two_labels": labels, "train_and_test": [f" ({named.split(one)})" for one in group]}
        found = {kind: marks for kind, marks in wrong.items() if len(set(marks)) > 1}
        for kind, marks in (found or {"duplicates": [""] * len(group)}).items():
            kinds[kind].append([f"{named.place(one)}{mark}" for one, mark in zip(group, marks, strict=True)])
            sizes[kind] += len(group)
    where = {"two_labels": " under two labels", "train_and_test": " in two splits", "duplicates": ""}
    return [
        Finding(
            f"{prefix}{kind}",
            f"{counted(sizes[kind], named.thing)} {how}{where[kind]}, in {counted(len(told), 'group')}",
            told,
        )
        for kind, told in kinds.items()
        if told
    ]

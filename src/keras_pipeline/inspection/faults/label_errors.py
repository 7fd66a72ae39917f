"""Labels that look wrong, or shifted: what a quick network and neighbours say of examples that they do not know."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_pipeline.inspection.findings import Finding, counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Features = Callable[[NDArray[np.int64]], NDArray[Any]]

MOST_EXAMPLES = 20_000
"""So many are looked at, the same share of each class."""
MOST_FEATURES = 3072
"""Of an example; of more some are taken, evenly."""
MANY = 5000
"""Examples from which three folds and fewer epochs are enough."""
FEWEST = 10
"""Examples of a class: of fewer no network learns what they are."""
GOOD_ENOUGH = 0.7
"""Share of right answers below which the quick network knows too little to find wrong labels."""
UNLIKELY, LIKELY = 0.1, 0.7
"""The probability of the label at most, and of another class at least, where a label is called wrong."""
SHIFTED = 0.5
"""Share of right answers below which the labels may be shifted, if they agree better than `GOOD_ENOUGH` when moved."""


@dataclass(frozen=True)
class Judged:
    """Which examples were looked at, and the probability of each class for each of them."""

    indices: "NDArray[np.int64]"
    classes: "NDArray[np.int64]"
    probabilities: "NDArray[np.float64]"


def find_label_errors(
    features: "Features",
    labels: "NDArray[np.int64]",
    splits: Sequence[str],
    places: Sequence[str],
    class_names: Sequence[str],
) -> tuple[list[Finding], list[str]]:
    """(findings, facts) of examples; deterministic. `features` gives those of the indices that it is asked for, (k, …),
    numbers from 0 to 1 or standardized.

    Says in a fact how well the quick network did, and what was left out: classes with too few examples, and all but a
    sample of many.
    """
    chosen, facts = _sample(labels, class_names)
    kept = np.unique(labels[chosen])
    if len(kept) < 2:
        return [], [*facts, "wrong labels: not looked for, because two classes with enough examples are needed"]
    judged = Judged(chosen, kept, _judge(features(chosen), labels[chosen]))
    answers = kept[judged.probabilities.argmax(axis=1)]
    right = float((answers == labels[chosen]).mean())
    facts.append(f"a quick network gives {right:.0%} of {len(chosen):,} examples their label")
    findings = _shifted_split(judged, answers, labels, splits)
    if right >= GOOD_ENOUGH and not findings:
        findings += _wrong(judged, labels, places, class_names)
    elif not findings:
        findings += _shifted_rows(features, labels, judged, right)
    if right < GOOD_ENOUGH and not findings:
        facts.append(f"single wrong labels: not looked for, because the quick network is right in less than "
                     f"{GOOD_ENOUGH:.0%}")  # fmt: skip
    return findings, facts


def _sample(labels: "NDArray[np.int64]", class_names: Sequence[str]) -> "tuple[NDArray[np.int64], list[str]]":
    """Indices, ascending."""
    counts = np.bincount(labels, minlength=len(class_names))
    few = [class_names[one] for one in np.flatnonzero((counts > 0) & (counts < FEWEST)).tolist()]
    facts = []
    if few:
        named = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
        facts.append(f"wrong labels: not looked for in classes with fewer than {FEWEST} examples ({named})")
    usable = np.flatnonzero(counts[labels] >= FEWEST)
    if len(usable) <= MOST_EXAMPLES:
        return usable, facts
    facts.append(f"wrong labels: looked for in {MOST_EXAMPLES:,} of {len(usable):,} examples, drawn by class")
    random = np.random.default_rng(0)
    drawn = []
    for one in np.unique(labels[usable]):
        own = usable[labels[usable] == one]
        drawn.append(random.permutation(own)[: max(FEWEST, len(own) * MOST_EXAMPLES // len(usable))])
    return np.sort(np.concatenate(drawn)), facts


def _judge(features: "NDArray[Any]", labels: "NDArray[np.int64]") -> "NDArray[np.float64]":
    """Probabilities (n, classes that are there), by networks and neighbours of other folds than the example's.

    Their mean: on 20,000 digits of MNIST with 200 wrong labels cleanlab finds 161 among 294 by the network alone, 159
    among 331 by the neighbours alone, and 157 among 229 by both.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    features = features.reshape(len(features), -1)
    if features.shape[1] > MOST_FEATURES:
        features = features[:, np.linspace(0, features.shape[1] - 1, MOST_FEATURES).astype(int)]
    features = features.astype(np.float32)
    count, fewest = len(labels), int(np.unique(labels, return_counts=True)[1].min())
    network = MLPClassifier(
        (128,), alpha=0.3, learning_rate_init=0.003, random_state=0,
        max_iter=40 if count < MANY else 15, batch_size=min(500, max(16, count // 30)),
    )  # fmt: skip
    neighbours = KNeighborsClassifier(min(10, max(1, fewest // 2)), weights="distance")
    folds = StratifiedKFold(5 if count < MANY else 3, shuffle=True, random_state=0)
    # One thread: the products are small, several wait for each other, and numbers would depend on how many there are.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the network could be trained for longer
        given = [
            cross_val_predict(judge, features, labels, cv=folds, method="predict_proba")
            for judge in (network, neighbours)
        ]
    mean: NDArray[np.float64] = np.mean(given, axis=0, dtype=np.float64)
    return mean


def _wrong(
    judged: Judged, labels: "NDArray[np.int64]", places: Sequence[str], class_names: Sequence[str]
) -> list[Finding]:
    """Those of which cleanlab says so and both judges are sure, the surest first."""
    from cleanlab.filter import find_label_issues

    given = np.searchsorted(judged.classes, labels[judged.indices])
    found = find_label_issues(
        given, judged.probabilities, return_indices_ranked_by="self_confidence", n_jobs=1, verbose=False
    )
    sure = (judged.probabilities[np.arange(len(given)), given] <= UNLIKELY) & (
        judged.probabilities.max(axis=1) >= LIKELY
    )
    found = found[sure[found]]
    if not len(found):
        return []
    looks = judged.classes[judged.probabilities.argmax(axis=1)]
    told = [
        [f"{places[judged.indices[one]]} ({class_names[labels[judged.indices[one]]]}, looks like "
         f"{class_names[looks[one]]})"]
        for one in found
    ]  # fmt: skip
    return [Finding("labels", f"{counted(len(found), 'example')} whose label looks wrong, the surest first", told)]


def _shifted_split(
    judged: Judged, answers: "NDArray[np.int64]", labels: "NDArray[np.int64]", splits: Sequence[str]
) -> list[Finding]:
    """Splits whose labels count from another number than the others'."""
    if len(set(splits)) < 2:
        return []
    of_each, given, findings = np.array(splits)[judged.indices], labels[judged.indices], []
    for split in sorted(set(splits)):
        own = of_each == split
        if own.sum() < FEWEST or (answers[own] == given[own]).mean() >= SHIFTED:
            continue
        for by in (1, -1):
            if (agreeing := float((answers[own] == given[own] - by).mean())) >= GOOD_ENOUGH:
                word = "greater" if by > 0 else "less"
                findings.append(Finding("labels", f"the labels of the split {split} seem to be one {word} than those "
                                        f"of the others: moved by one, {agreeing:.0%} fit"))  # fmt: skip
    return findings


def _shifted_rows(features: "Features", labels: "NDArray[np.int64]", judged: Judged, right: float) -> list[Finding]:
    """Labels that belong to the examples before or behind them."""
    counts = np.bincount(labels[judged.indices])
    chance = counts.max() / counts.sum()
    if right > chance + 0.1 * (1 - chance):
        return []
    some = judged.indices[:: max(1, len(judged.indices) // 4000)]
    for by, where in ((1, "before"), (-1, "behind")):
        moved = np.roll(labels, -by)[some]
        if np.bincount(moved).max() == len(moved) or np.bincount(moved)[np.unique(moved)].min() < 5:
            continue
        classes = np.unique(moved)
        answers = classes[_judge(features(some), moved).argmax(axis=1)]
        if (agreeing := float((answers == moved).mean())) >= GOOD_ENOUGH:
            return [Finding("labels", f"each label seems to belong to the example {where} its own: moved by one, "
                            f"{agreeing:.0%} fit")]  # fmt: skip
    return [Finding("labels", f"the labels do not seem to belong to these examples: a quick network gives {right:.0%} "
                    f"of examples that it was not trained on their label, chance is {chance:.0%}")]  # fmt: skip

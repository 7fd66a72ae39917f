"""What is wrong with the columns of a table: constant, mostly empty, identifiers, or what gives the target away."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_pipeline.inspection.findings import Finding, counted, singles

if TYPE_CHECKING:
    from numpy.typing import NDArray

Column = Any
"""float64 (n,), NaN where a value is missing, or a list of texts, None where one is missing."""
MANY_MISSING = 0.5
"""Share of missing values from which a column is told of."""
ALL_DIFFERENT = 0.95
"""Share of different values from which texts are an identifier and no category."""
FEWEST_ROWS = 20
"""Of fewer rows nothing is said of identifiers or of what gives the target away."""
GIVES_AWAY = 0.99
"""Share of right answers, or of the variance of the target's ranks, by one column alone."""
MOST_ROWS = 20_000
MOST_CATEGORIES = 30
"""Of a column of texts for the quick network; the others are one."""


def find_column_faults(columns: Mapping[str, Column], labels: "NDArray[Any]", target: str) -> list[Finding]:
    """Findings about single columns. `labels`: int64 of classes or float64."""
    findings = []
    constant = [name for name, values in columns.items() if _distinct(values) <= 1]
    if constant:
        findings.append(Finding("constant_columns", _columns(constant, "has", "have") + " one value only, or none: "
                                "nothing can be learnt from it", singles(constant)))  # fmt: skip
    shares = {name: float(np.mean(missing(values))) for name, values in columns.items() if name not in constant}
    if many := {name: share for name, share in shares.items() if share >= MANY_MISSING}:
        told = [[f"{name} ({share:.0%})"] for name, share in many.items()]
        findings.append(
            Finding("missing_values", _columns(many, "lacks", "lack") + " half of the values or more", told)
        )
    if len(labels) < FEWEST_ROWS:
        return findings
    if names := [name for name, values in columns.items() if _is_identifier(values)]:
        findings.append(Finding("identifiers", _columns(names, "looks", "look") + " like an identifier: a value of its "
                                "own in each row, of which the network would learn single rows by heart. Leave it "
                                "out", singles(names)))  # fmt: skip
    if len(columns) > 1:
        for name in [name for name in columns if name not in {*constant, *names}]:
            if (share := _explained(columns[name], labels)) >= GIVES_AWAY:
                of_what = "of the rows their class" if labels.dtype.kind == "i" else "of the order of the rows by"
                what = f"the column {name} alone gives {share:.1%} {of_what} {target}: is it known when one asks?"
                findings.append(Finding("gives_target_away", what, [[name]]))
    return findings


def row_digests(columns: Mapping[str, Column], count: int) -> "NDArray[np.uint8]":
    """uint8 (n, 16): equal where all values of two rows are."""
    lists = [[repr(one) for one in values.tolist()] if isinstance(values, np.ndarray) else values
             for values in columns.values()]  # fmt: skip
    digests = np.zeros((count, 16), np.uint8)
    for index, row in enumerate(zip(*lists, strict=True)):
        content = "\x1f".join("\x00" if one is None else one for one in row).encode("utf-8", "surrogatepass")
        digests[index] = np.frombuffer(hashlib.sha256(content).digest()[:16], np.uint8)
    return digests


def encoded_columns(columns: Mapping[str, Column], chosen: "NDArray[np.int64]") -> "NDArray[np.float32]":
    """Of the rows with these indices (n, features) for a quick network, standardized: numbers with the median where one
    is missing, the frequent texts as 0 and 1."""
    made = []
    for column in columns.values():
        values = column[chosen] if isinstance(column, np.ndarray) else [column[one] for one in chosen.tolist()]
        if isinstance(values, np.ndarray):
            known = values[~np.isnan(values)]
            made.append(np.where(np.isnan(values), np.median(known) if len(known) else 0.0, values))
        else:
            codes = _codes(values)
            counts = np.bincount(codes)
            made += [codes == one for one in np.argsort(-counts, kind="stable")[:MOST_CATEGORIES]]
    features = np.stack(made, axis=1).astype(np.float64)
    features -= features.mean(axis=0)
    standardized: NDArray[np.float32] = (features / np.maximum(features.std(axis=0), 1e-12)).astype(np.float32)
    return standardized


def missing(values: Column) -> "NDArray[np.bool_]":
    """Of each value whether it is missing."""
    return np.isnan(values) if isinstance(values, np.ndarray) else np.array([one is None for one in values])


def _columns(names: Any, singular: str, plural: str) -> str:
    return f"{counted(len(names), 'column')} {singular if len(names) == 1 else plural}"


def _distinct(values: Column) -> int:
    if isinstance(values, np.ndarray):
        return len(np.unique(values[~np.isnan(values)]))
    return len({one for one in values if one is not None})


def _is_identifier(values: Column) -> bool:
    """Texts that are nearly all different, or whole numbers that count the rows."""
    if not isinstance(values, np.ndarray):
        return _distinct(values) >= ALL_DIFFERENT * len(values)
    whole = not np.isnan(values).any() and bool((values == np.rint(values)).all())
    ordered = np.sort(values)
    return whole and bool((np.diff(ordered) == 1).all())


def _codes(values: Sequence[str | None]) -> "NDArray[np.int64]":
    _, codes = np.unique(np.array(["" if one is None else f"={one}" for one in values]), return_inverse=True)
    return codes


def _explained(values: Column, labels: "NDArray[Any]") -> float:
    """The share of classes found, or of the variance of the target's ranks, in rows that were not learnt from; 0 where
    always giving the most frequent class is hardly worse."""
    from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    numbers = values if isinstance(values, np.ndarray) else _codes(values)
    if len(labels) > MOST_ROWS:
        some = np.sort(np.random.default_rng(0).permutation(len(labels))[:MOST_ROWS])
        numbers, labels = numbers[some], labels[some]
    # Of a tree, which takes float32, order alone matters; NaN is the greatest.
    column = np.unique(numbers, return_inverse=True)[1].reshape(-1, 1)
    if labels.dtype.kind != "i":
        labels = np.unique(labels, return_inverse=True)[1]  # its order alone: tails would hide what gives it away
        tree = DecisionTreeRegressor(min_samples_leaf=2, random_state=0)
        answers = cross_val_predict(tree, column, labels, cv=KFold(5, shuffle=True, random_state=0))
        variance = float(np.var(labels))
        return 1 - float(np.mean((labels - answers) ** 2)) / variance if variance else 0.0
    counts = np.bincount(labels)
    kept = counts[labels] >= 2
    column, labels = column[kept], labels[kept]
    if not len(labels) or counts.max() >= GIVES_AWAY * len(labels):
        return 0.0
    folds = StratifiedKFold(int(min(5, counts[counts >= 2].min())), shuffle=True, random_state=0)
    tree = DecisionTreeClassifier(max_leaf_nodes=max(64, 2 * len(counts)), random_state=0)
    share = float((cross_val_predict(tree, column, labels, cv=folds) == labels).mean())
    most = counts.max() / counts.sum()
    return share if share - most >= 0.9 * (1 - most) else 0.0

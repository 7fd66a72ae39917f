"""The tasks: one row each, with what a network for it must be, and how its metrics are called.

Which task it is follows from the dataset and `normalize.positive_class` alone; statistics.json carries its name on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from keras_pipeline.strict_yaml.faults import did_you_mean

Name = Literal["classes", "binary", "regression"]
SHOWN_CLASSES = 12
"""How many names of classes a message lists."""


@dataclass(frozen=True)
class Task:
    """What is allowed in params.yaml for it. `description`: it in words; `metric`: what is told of each epoch beside
    the loss, by Keras' name."""

    name: Name
    description: str
    metric: Literal["accuracy", "mean_absolute_error"]
    output_activations: tuple[str, ...]
    losses: tuple[str, ...]
    unsuitable_architectures: tuple[str, ...] = ()

    def output_activations_for(self, loss: str) -> list[str]:
        """Those that go with the loss, if the task has it."""
        return [one for one in self.output_activations if loss not in self.losses or (loss, one) not in WRONG_PAIRS]

    def losses_for(self, output_activation: str) -> list[str]:
        """Those that go with the output activation, if the task has it."""
        known = output_activation in self.output_activations
        return [one for one in self.losses if not known or (one, output_activation) not in WRONG_PAIRS]


WRONG_PAIRS = {
    ("categorical_crossentropy", "sigmoid"): "'sigmoid' gives values that are no probability distribution over the "
    "classes, which train.loss: categorical_crossentropy needs. Use softmax, or another loss.",
    ("binary_crossentropy", "softmax"): "'softmax' makes one answer of all outputs, where train.loss: "
    "binary_crossentropy judges each by itself. Use sigmoid, or another loss.",
}
"""Losses and output activations that a task may have and not together, with what is to be said of it."""
_ERRORS = ("mean_squared_error", "mean_absolute_error")
TASKS: dict[str, Task] = {
    row.name: row
    for row in (
        Task(
            "classes",
            "a choice of several classes",
            "accuracy",
            ("softmax", "sigmoid"),
            ("categorical_crossentropy", "binary_crossentropy", *_ERRORS),
        ),
        Task(
            "binary",
            "one class against the rest (normalize.positive_class)",
            "accuracy",
            ("sigmoid",),
            ("binary_crossentropy", *_ERRORS),
            unsuitable_architectures=("softmax_regression",),
        ),
        Task(
            "regression",
            "the prediction of a number",
            "mean_absolute_error",
            ("linear",),
            _ERRORS,
            unsuitable_architectures=("softmax_regression",),
        ),
    )
}
"""The rows by name."""


def find_class(class_names: Sequence[str], positive_class: int | str) -> int | None:
    """The class that is to be told from the rest, as an index; None for `none`, all of them.

    What stands in params.yaml is looked for as a name of a class, also where it is a number, then as an index. Raises
    ValueError, with the names that there are, for anything else.
    """
    name = str(positive_class)
    if name == "none":
        return None
    if name in class_names:
        return class_names.index(name)
    if isinstance(positive_class, int) and positive_class < len(class_names):
        return positive_class
    shown = [f"'{one}'" for one in class_names[:SHOWN_CLASSES]]
    more = [f"{len(class_names) - SHOWN_CLASSES:,} more"] if len(class_names) > SHOWN_CLASSES else []
    raise ValueError(
        f"'{name}' is no class of the dataset. Its {len(class_names):,} classes are {', '.join([*shown, *more])}. Use "
        f"one of them, its number 0 … {len(class_names) - 1}, or none.{did_you_mean(name, class_names)}"
    )


def select_task(class_names: Sequence[str], positive_class: int | str) -> Task:
    """The one place that decides: for a dataset with these classes (none: a table) and this params.yaml. Where there
    are two classes, the second is the one against the rest."""
    if not class_names:
        return TASKS["regression"]
    return TASKS["classes" if positive_class == "none" and len(class_names) > 2 else "binary"]


def format_score(value: float, sign: str = "") -> str:
    """A score or loss for people: four decimals, or of one that has exploded four digits; `sign`: "+" to show it
    always."""
    return f"{value:{sign}.4f}" if abs(value) < 1e6 else f"{value:{sign}.4g}"


HEADLINES = ("test/accuracy", "test/roc_auc", "test/r2", "test/mean_absolute_error")


NO_BETTER = "no better than a constant answer"
"""What is said of a network that does not beat the most common class, or the mean."""


def is_no_better_than_constant(scores: Mapping[str, float]) -> bool:
    """Whether, by reports/metrics.json, the test split does not show, at the level of 5 %, that the network is better
    than one that gives the same answer to everything."""
    return scores.get("test/p_no_better_than_constant", 0.0) > 0.05  # not computed by earlier versions


def describe_useless(results: Sequence[Mapping[str, float]]) -> str:
    """How many of the networks with these scores are no better than a constant answer, to be said behind the mean of
    the scores; "" where none is."""
    useless = sum(map(is_no_better_than_constant, results))
    if not useless:
        return ""
    return f", {NO_BETTER}" if useless == len(results) else f", {useless} of {len(results)} {NO_BETTER}"


def format_headline(scores: Mapping[str, float]) -> str:
    """What people look at first in reports/metrics.json, with its interval where it has one, and whether it is of no
    use."""
    parts = []
    for name in HEADLINES:
        if name in scores:
            interval = (
                f" [{scores[f'{name}_low']:.4f}, {scores[f'{name}_high']:.4f}]" if f"{name}_low" in scores else ""
            )
            parts.append(f"{name} {format_score(scores[name])}{interval}")
    return ", ".join([*parts, NO_BETTER] if is_no_better_than_constant(scores) else parts)


def metric_beside_loss(columns: Mapping[str, object]) -> str:
    """The metric that a row, or the columns, of a training's history has beside the loss: without its split."""
    return next(name for name in ("accuracy", "mean_absolute_error") if f"val/{name}" in columns)

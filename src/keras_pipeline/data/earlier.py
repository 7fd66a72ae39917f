"""What the records of earlier versions did not say: of a dataset, for they knew six of them, whose names said it, and
of the params of a network."""

from typing import Any

from keras_pipeline.data.encoding import number_columns

DATASETS = {
    "mnist": ("MNIST: handwritten digits (LeCun, Cortes, Burges)", "CC BY-SA 3.0"),
    "fashion_mnist": ("Fashion-MNIST: articles of clothing (Xiao, Rasul, Vollgraf; Zalando)", "MIT"),
    "kmnist": (
        "Kuzushiji-MNIST: cursive hiragana (ROIS-DS Center for Open Data in the Humanities)",
        "CC BY-SA 4.0",
    ),
    "digits": ("Handwritten digits (Alpaydin, Kaynak): the 8 x 8 ones inside scikit-learn, enlarged", "CC BY 4.0"),
    "line": ("The line y = 2x with a little noise", "CC0 1.0"),
    "diabetes": (
        "Diabetes: its progression after a year in 442 patients (Efron, Hastie, Johnstone, Tibshirani 2004)",
        "none stated; part of scikit-learn (BSD 3-Clause)",
    ),
}
"""Their titles and licences."""
COLUMNS = {
    "line": ("x", "y"),
    "diabetes": ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6", "progression"),
}
"""Of the tables, the target last."""
MODEL = {"global_average_pooling": False}
"""Of the params of a network, those that there were not, as they would have been."""
DRAWINGS: dict[str, dict[str, Any]] = {
    "mnist": {"box": 20, "centre": "mass", "dark_border": True},
    "kmnist": {"box": 26, "centre": "box", "dark_border": True},
    "digits": {"box": 28, "centre": "box", "dark_border": True},
    "fashion_mnist": {"box": 28, "centre": "box", "dark_border": False},
}
"""How the images of a dataset were made that a drawing is to look like."""
FIRST = {"task": "classes", "shape": [28, 28, 1], "target": None}
"""Of the first version, which knew nothing else."""
FACTS = {"arrays": "images are scaled on disk"}
"""What of theirs is no more so."""


def upgrade_description(dataset: dict[str, Any]) -> dict[str, Any]:
    """The description of a dataset in a record of an earlier version, with all that `statistics.DatasetDescription`
    has. What was none then is none now, and is refused by whoever checks it."""
    name = str(dataset.get("dataset"))
    title, licence = DATASETS.get(name, (name, "none stated"))
    shape = dataset.get("shape")
    given: dict[str, Any] = {"kind": "images", "shape": shape, "dtype": "|u1", "low": 0.0, "high": 255.0}
    if dataset.get("task") == "regression":
        *features, target = COLUMNS.get(name, ("target",))
        given = {**number_columns(features, target)}
    added = {"title": title, "licence": licence, "source": None, "facts": FACTS, "input": given}
    return {**added, "drawing": DRAWINGS.get(name), "preparation": None, **dataset}

"""What the page of a study is made of, by hand."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from keras_pipeline.comparison.page import Picture


def study_content(text: str) -> dict[str, Any]:
    """The content of a study's page with `text` wherever a user may have written something."""
    row = {"name": text, "accuracy": text, "interval": "", "seeds": "1", "seconds": "", "verdict": text}
    return {
        "study": {"name": text}, "question": text, "complete": True, "discussion": text, "baseline": text,
        "images": 10, "things": "images", "seeds": 1, "rows": [row], "tuned": "", "tuned_names": [],
        "comparisons": [], "made": text,
        "fixed": [(text, text)], "done": 1, "total": 1, "command": text, "days": text, "commits": text, "strong": 0,
    }  # fmt: skip


def pictures(text: str, plot: Mapping[str, Any] | None = None) -> dict[str, Picture]:
    """Small ones, told by `text`; the second is also this plot."""
    figure = Figure(figsize=(1, 1))
    return {
        "accuracy": Picture("report-accuracy.png", text, figure),
        "curves": Picture("report-curves.png", text, figure, plot),
    }

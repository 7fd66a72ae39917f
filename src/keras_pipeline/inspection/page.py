"""The page of a dataset: one HTML file that asks nothing of any other file or server, and runs nothing."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from keras_pipeline.core import files
from keras_pipeline.inspection.findings import Finding
from keras_pipeline.inspection.overview import Overview


def page_text(overview: Overview, findings: Sequence[Finding] | None = None) -> str:
    """The page. `findings`: what `dataset check` found; None where it did not look. The same input gives the same
    bytes."""
    environment = Environment(
        loader=PackageLoader("keras_pipeline.inspection"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    )
    return environment.get_template("dataset.html").render(overview=overview, findings=findings)


def write_page(path: Path, overview: Overview, findings: Sequence[Finding] | None = None) -> None:
    """Write the page, whole or not at all."""
    files.write_atomically(path, page_text(overview, findings).encode())

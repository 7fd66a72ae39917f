"""The verbs that use an export: page."""

import argparse
from collections.abc import Callable
from pathlib import Path

from keras_pipeline.cli import place

PAGE = """\
Writes a folder of static files that opens by double-click, without a server and without a network: draw a digit, or
choose a picture or type numbers, whichever the network takes, and see what it answers. The network inside is the export
as JavaScript, which the stage `export` makes (export.formats in params.yaml).
"""


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Give the parser this module's verbs; `add` is the function of `main.make_parser`."""
    command = add("page", page, "write a page to draw on, with the network inside, that needs no server", "models")
    command.description, command.formatter_class = PAGE, argparse.RawDescriptionHelpFormatter
    command.add_argument(
        "folder",
        nargs="?",
        type=place.user_path,
        default=Path("page"),
        metavar="FOLDER",
        help="where it is written (default: page)",
    )


def page(chosen: argparse.Namespace) -> None:
    """Write the page."""
    from keras_pipeline.serving.page_files import write_page

    written = write_page(chosen.models / "export", chosen.folder)
    size = sum(path.stat().st_size for path in written)
    print(f"page: {written[0]}, {len(written)} files, {size / 1e6:.1f} MB. Open it in a browser:")
    print(written[0].resolve().as_uri())

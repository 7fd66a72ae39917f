"""The verbs that put a trained network to use: predict, serve, page, edge."""

import argparse
from collections.abc import Callable
from pathlib import Path

from keras_pipeline.cli import place

PREDICT = """\
Asks the trained network about new inputs, without labels, and writes its answers as CSV: a row for each, with its file,
index or row number, its label and the probability of each class, or the number that is predicted, in its own units.

PATH is one of
  a picture, or a folder or an archive (.zip, .tar, .tar.gz) of pictures, however nested
  a .npy file, a .npz file or an array in one (arrays.npz/x_test), in the form of the dataset
  a CSV or Parquet file with the columns of the dataset, of a network that was trained on a table

Everything is prepared as it was for the training. MODEL is one of
  a run's folder, with models/ in it
  models:/NAME@champion or models:/NAME/VERSION, of MLflow's registry
  a run of MLflow's: its name, its key, or MLflow's id
  nothing: models/ of this project
"""
SERVE = """\
Answers what is asked of an exported network over HTTP: pixels as bytes, as JSON, as PNG or JPEG; the Open Inference
Protocol; metrics for Prometheus; and a page to draw on. See docs/serving.md.

MODEL is one of
  a folder with export.json, or the model.onnx in it
  models:/NAME@champion or models:/NAME/VERSION, of MLflow's registry: a changed alias is followed
  nothing: models/export of this checkout

Only this machine reaches it, unless --host says otherwise; then clients must send a token.
"""
PAGE = """\
Writes a folder of static files that opens by double-click, without a server and without a network: draw, choose
a picture or type numbers, whichever the network takes, and see what it answers. The network inside is the export as
JavaScript, which the stage `export` makes (export.formats in params.yaml).
"""

EDGE = """\
Runs each LiteRT export (export.formats in params.yaml) on one thread, one input at a time, as a small device would: how
long an answer takes, how much memory, by which operators. Writes the int8 one as a header in C for microcontrollers,
with what a program must know of its input and outputs; examples/edge/check_model.c reads it. See docs/edge.md.
"""
HEADER = Path("models/edge/model.h")


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Give the parser this module's verbs; `add` is the function of `main.make_parser`."""
    command = add("predict", predict, "ask the trained network about pictures, arrays or rows: a CSV of answers")
    command.description, command.formatter_class = PREDICT, argparse.RawDescriptionHelpFormatter
    command.add_argument("path", type=place.user_path, metavar="PATH", help="what it is asked about")
    command.add_argument("--model", metavar="MODEL", help="which network (default: models/ of this project)")
    command.add_argument(
        "--output",
        type=_output,
        metavar="PATH",
        help="the file to write, or - (default: standard output)",
    )
    command.add_argument(
        "--damaged",
        choices=["refuse", "skip"],
        default="refuse",
        help="what happens to pictures that cannot be read: an error, or they are left out and named",
    )
    command = add("serve", serve, "answer what is asked of an exported network over HTTP")
    command.description, command.formatter_class = SERVE, argparse.RawDescriptionHelpFormatter
    command.add_argument("model", nargs="?", metavar="MODEL", help="default: models/export")
    command.add_argument("--host", default="127.0.0.1", help="another than this machine's own needs a token")
    command.add_argument("--port", type=int, default=8000, help="0: any free one (default: 8000)")
    command.add_argument(
        "--address",
        action="append",
        default=[],
        metavar="URL",
        help="how clients also name the service, behind a proxy or of a container; may be repeated",
    )
    command.add_argument("--token-file", type=place.user_path, metavar="FILE", help="a file that holds the token")
    command.add_argument("--docs", action="store_true", help="also show /docs and /openapi.json")
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
    command = add("edge", edge, "what the LiteRT exports take on a small device, and one as a header in C", "models")
    command.description, command.formatter_class = EDGE, argparse.RawDescriptionHelpFormatter
    command.add_argument(
        "--output",
        type=place.user_path,
        default=HEADER,
        metavar="PATH",
        help=f"the header for microcontrollers (default: {HEADER})",
    )


def _output(text: str) -> Path | None:
    return None if text == "-" else place.user_path(text)


def predict(chosen: argparse.Namespace) -> None:
    """Write the answers."""
    from keras_pipeline.prediction.networks import REGISTERED
    from keras_pipeline.prediction.predict import predict

    model = chosen.model
    if model is not None and not model.startswith(REGISTERED) and place.user_path(model or ".").is_dir():
        model = str(place.user_path(model or "."))
    predict(chosen.path, model, chosen.output, chosen.damaged)


def serve(chosen: argparse.Namespace) -> None:
    """Answer until a signal asks for the end."""
    from keras_pipeline.serving.serve import REGISTERED, serve

    model = chosen.model
    if model is not None and not model.startswith(REGISTERED):
        model = str(place.user_path(model) if model else Path())
    serve(model, chosen.host, chosen.port, chosen.address, chosen.token_file, docs=chosen.docs)


def page(chosen: argparse.Namespace) -> None:
    """Write the page."""
    from keras_pipeline.serving.page.files import write_page

    written = write_page(chosen.models / "export", chosen.folder)
    size = sum(path.stat().st_size for path in written)
    print(f"page: {written[0]}, {len(written)} files, {size / 1e6:.1f} MB. Open it in a browser:")
    print(written[0].resolve().as_uri())


def edge(chosen: argparse.Namespace) -> None:
    """Say what each LiteRT export takes, and write the header."""
    from keras_pipeline.export.edge.report import check_edge

    check_edge(chosen.models / "export", chosen.output)

"""`keras-pipeline serve`: what it is asked for, brought together. A folder, an .onnx, a model of the registry."""

import os
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from keras_pipeline.core import files
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.serving.checkout import Checkout
from keras_pipeline.serving.http import openapi, server
from keras_pipeline.serving.http.answers import Answer
from keras_pipeline.serving.http.guard import SHORTEST_TOKEN, make_guard
from keras_pipeline.serving.network import Models, find_export, load_network
from keras_pipeline.serving.page.files import INDEX, KINDS, POLICY, page_files
from keras_pipeline.serving.registered.following import Following
from keras_pipeline.serving.service import Service

TOKEN = "KERAS_PIPELINE_SERVE_TOKEN"  # noqa: S105 - the variable's name
PAGE_HEADERS = (
    (b"content-security-policy", f"{POLICY}; frame-ancestors 'none'".encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
REGISTERED = "models:/"
DEFAULT = Path("models/export")


def serve(
    model: str | None, host: str, port: int, addresses: list[str], token_file: Path | None, *, docs: bool
) -> None:
    """Answer until a signal asks for the end. Raises ParamsError, MachineError, ModelFileError before the first."""
    token = read_token(token_file)
    make_guard(host, 0, addresses, token)
    following = Following(model, cache_folder()) if model and model.startswith(REGISTERED) else None
    models = following.models if following else Models(load_network(find_export(Path(model) if model else DEFAULT)))
    checkout = Checkout(Path("data/normalized"), Path("data/drawn")) if model is None else None
    listening = server.listen(host, port)
    port = listening.getsockname()[1]
    guard = make_guard(host, port, addresses, token)
    own = version("keras-pipeline")

    def make() -> Service:
        pages = _pages()
        service = Service(models, guard, pages, checkout, own)
        if docs:
            described = openapi.description(models.champion, service.paths, own, token is not None)
            pages.update(
                {
                    path: Answer(one.body, one.kind, headers=PAGE_HEADERS)
                    for path, one in openapi.documents(described).items()
                }
            )
        return service

    def started() -> None:
        told = models.champion.told()
        name = f"[{host}]" if ":" in host else host
        print(f"{told['name']}, version {told['version']}, run {told['run']}")
        print(f"It answers at http://{name}:{port}\nCtrl-C ends it.", flush=True)
        if token is not None:
            print(
                "The token goes unencrypted: for other machines put a proxy with TLS before it.",
                file=sys.stderr,
                flush=True,
            )

    try:
        server.serve(listening, make, started)
    finally:
        if following:
            following.close()


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where versions of the registry are kept that were served once: below the user's cache."""
    base = environment.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "keras-pipeline" / "served"


def _pages() -> dict[str, Answer]:
    """The files of the page, by their paths; index.html is at /."""
    return {
        "/" if name == INDEX else f"/{name}": Answer(content, KINDS[Path(name).suffix], headers=PAGE_HEADERS)
        for name, content in page_files().items()
    }


def read_token(path: Path | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """The token of the file or of the environment; None where neither names one."""
    if path is None:
        token, place = environment.get(TOKEN), TOKEN
    else:
        token, place = files.read_content(path, "serve", 4096).decode("ascii", "replace").strip(), str(path)
    if token is None:
        return None
    if len(token) < SHORTEST_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
        raise ParamsError(
            f"{place}: got {len(token)} characters. Expected: a token of {SHORTEST_TOKEN} or more letters, digits and "
            "signs of ASCII without spaces, such as `openssl rand -hex 32` makes."
        )
    return token

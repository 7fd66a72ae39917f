"""The page's files: served as they are, or written into a folder with an exported network beside them.

model.js says whether a network is beside it; where none is, the page asks the service that it comes from.
"""

import json
from pathlib import Path

from keras_pipeline.core import files
from keras_pipeline.export.manifest import read_format, read_manifest

FOLDER = Path(__file__).parent
INDEX, MODEL = "index.html", "model.js"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
"""The media types of its files, by how their names end."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
"""What the page may load and run, as index.html says itself; a server says so too, and that no other page frames it."""


def page_files() -> dict[str, bytes]:
    """The files of the page by their names, as the service gives them."""
    return {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.suffix in KINDS}


def write_page(exports: Path, folder: Path) -> list[Path]:
    """Write the page into `folder`, with the network of the folder `exports` inside, and give the paths, index.html
    first. It needs no server, and files of other names in `folder` stay.

    Raises ModelFileError where there is no export as JavaScript, or it is not the one that export.json names.
    """
    manifest = read_manifest(exports)
    network = read_format(exports, manifest, "javascript")
    about = {key: value for key, value in manifest.items() if key != "formats"}
    page = page_files()
    # A file's own origin is not 'self' in every browser.
    page[INDEX] = page[INDEX].replace(b"'self'", b"'self' file:")
    contents = {
        **page,
        **{Path(path).name: content for path, content in network.items()},
        MODEL: f'"use strict";\n\nglobalThis.model = {json.dumps(about, indent=2, allow_nan=False)};\n'.encode(),
    }
    for name, content in contents.items():
        files.write_atomically(folder / name, content)
    return [folder / name for name in sorted(contents, key=lambda name: name != INDEX)]

"""A report for people: Markdown with figures beside it, and HTML with all of it inside."""

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markdown_it import MarkdownIt
from markupsafe import Markup

from keras_pipeline import figures, files

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write(
    name: str, template: str, content: Mapping[str, Any], pictures: Mapping[str, tuple[str, "Figure"]], folder: Path
) -> str:
    """Write NAME.md, NAME.html and the figures NAME-KIND.png into `folder`; the text of NAME.md.

    `template`: of the Markdown, given the `content` and the list `figures` of files and texts; `pictures`: text and
    figure by kind. The HTML asks nothing of any other file or server.
    """
    shown = []
    for kind, (text, figure) in pictures.items():
        file = f"{name}-{kind}.png"
        figures.save(figure, folder / file)
        shown.append({"file": file, "text": text})
    environment = Environment(
        loader=PackageLoader("keras_pipeline"),
        undefined=StrictUndefined,
        trim_blocks=True,
        autoescape=select_autoescape(["html"]),
    )
    text = environment.get_template(template).render(figures=shown, **content)
    text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    files.write_atomically(folder / f"{name}.md", text.encode())
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    for one in shown:
        encoded = base64.b64encode((folder / one["file"]).read_bytes()).decode()
        body = body.replace(f'src="{one["file"]}"', f'src="data:image/png;base64,{encoded}"')
    html = environment.get_template("study.html").render(title=name, body=Markup(body))  # noqa: S704  # escaped by MarkdownIt
    files.write_atomically(folder / f"{name}.html", html.encode())
    return text

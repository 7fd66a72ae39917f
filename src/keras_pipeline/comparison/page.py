"""A page for people: a Jinja2 template as Markdown with figures beside it, and as HTML with all of it inside."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markdown_it import MarkdownIt
from markupsafe import Markup

from keras_pipeline.core import files
from keras_pipeline.evaluation import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure, the name of its PNG file beside the page, and what it shows in words."""

    file: str
    text: str
    figure: "Figure"


def write_page(
    folder: Path, name: str, title: str, content: Mapping[str, Any], pictures: Sequence[Picture], of: str
) -> list[Path]:
    """Write NAME.html, NAME.md and the pictures into `folder`; the paths of all, in this order.

    The template templates/{of}.md is given `content` and `pictures`, and has the filter `code`. The HTML asks nothing
    of any other file or server; no HTML is read from the Markdown.
    """
    for picture in pictures:
        figures.save_figure(picture.figure, folder / picture.file)
    environment = Environment(
        loader=PackageLoader("keras_pipeline.comparison"),
        undefined=StrictUndefined,
        trim_blocks=True,
        autoescape=select_autoescape(["html"]),
    )
    environment.filters |= {"code": markdown_code, "prose": markdown_prose}
    environment.finalize = markdown_text
    text = environment.get_template(f"{of}.md").render(pictures=pictures, **content)
    text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    files.write_atomically(folder / f"{name}.md", text.encode())
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    for picture in pictures:
        encoded = base64.b64encode((folder / picture.file).read_bytes()).decode()
        body = body.replace(f'src="{picture.file}"', f'src="data:image/png;base64,{encoded}"')
    environment.finalize = None
    page = environment.get_template("page.html").render(title=title, body=Markup(body))  # noqa: S704  # escaped by MarkdownIt
    files.write_atomically(folder / f"{name}.html", page.encode())
    return [folder / one for one in (f"{name}.html", f"{name}.md", *(picture.file for picture in pictures))]


def markdown_code(text: object) -> Markup:
    """`text` as Markdown's code, on one line, also in a table."""
    plain = " ".join(str(text).split()).replace("`", "'").replace("|", r"\|")
    return Markup(f"`{plain}`")  # noqa: S704  # nothing in code means anything


def markdown_prose(text: str) -> Markup:
    """Markdown that a user wrote, without its HTML and its pictures, which would be loaded from elsewhere."""
    return Markup(re.sub(r"<(?=[A-Za-z/!?])(?!https?://)|(?<=!)\[", r"\\\g<0>", text))  # noqa: S704


def markdown_text(value: object) -> object:
    """What a template shows of `value`: a text as `markdown_prose`, on one line and in one cell of a table; what is
    Markup, and no text, as it is."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return markdown_prose(re.sub(r"\s+", " ", value).replace("|", r"\|"))

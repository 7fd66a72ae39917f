"""A page for people: a Jinja2 template as Markdown with figures beside it, and as HTML with all of it inside."""

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from keras_pipeline.comparison import interactive
from keras_pipeline.core import files
from keras_pipeline.evaluation import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure, the name of its PNG file beside the page, what it shows in words, and the same as a Vega-Lite plot, if
    there is one, for the HTML."""

    file: str
    text: str
    figure: "Figure"
    plot: Mapping[str, Any] | None = None


def write_page(
    folder: Path, name: str, title: str, content: Mapping[str, Any], pictures: Mapping[str, Picture], of: str
) -> list[Path]:
    """Write NAME.html, NAME.md and the pictures into `folder`; the paths of all, in this order.

    The template templates/{of}.md is given `content` and `pictures`, and has the filters `code`, `prose` and `figure`.
    The HTML has its headings as a list of contents, and asks nothing of any other file or server; no HTML is read from
    the Markdown, and the one program that a page with a plot runs is named in its policy by its digest.
    """
    for picture in pictures.values():
        figures.save_figure(picture.figure, folder / picture.file)
    environment = Environment(
        loader=PackageLoader("keras_pipeline.comparison"),
        undefined=StrictUndefined,
        trim_blocks=True,
        autoescape=select_autoescape(["html"]),
    )
    environment.filters |= {"code": markdown_code, "prose": markdown_prose, "figure": markdown_figure}
    environment.finalize = markdown_text
    text = environment.get_template(f"{of}.md").render(pictures=pictures, **content)
    text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    files.write_atomically(folder / f"{name}.md", text.encode())
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    contents = list(_contents(tokens))
    body = markdown.renderer.render(tokens, markdown.options, {})
    for picture in pictures.values():
        body = re.sub(rf'<p>(<img src="){re.escape(picture.file)}(".*?/>)</p>', _embedding(folder, picture), body)
    script = interactive.start_script() if any(picture.plot for picture in pictures.values()) else Markup()
    environment.finalize = None
    page = environment.get_template("page.html").render(
        title=title,
        contents=contents,
        body=Markup(body),  # noqa: S704  # escaped by MarkdownIt
        script=script,
        policy=Markup(f"{interactive.policy(script)}; ") if script else "",  # noqa: S704  # a digest
    )
    files.write_atomically(folder / f"{name}.html", page.encode())
    return [folder / one for one in (f"{name}.html", f"{name}.md", *(picture.file for picture in pictures.values()))]


def _contents(tokens: Sequence[Token]) -> Iterator[tuple[str, str]]:
    """The headings of the second rank, each given an address: that and its text."""
    for number, (opening, inline) in enumerate(pairwise(tokens)):
        if opening.type == "heading_open" and opening.tag == "h2":
            opening.attrSet("id", f"part-{number}")
            yield f"part-{number}", "".join(one.content for one in inline.children or [])


def _embedding(folder: Path, picture: Picture) -> Callable[[re.Match[str]], str]:
    encoded = base64.b64encode((folder / picture.file).read_bytes()).decode()

    def embed(found: re.Match[str]) -> str:
        image = f"{found[1]}data:image/png;base64,{encoded}{found[2]}"
        return interactive.figure_element(picture.plot, image) if picture.plot else f"<figure>{image}</figure>"

    return embed


def capitalized(text: str) -> str:
    """A sentence of a text that begins with a small letter, if with a letter; a name, such as dropout=0.3, stays."""
    return text if re.match(r"\S*[=/.]", text) else text[:1].upper() + text[1:]


def markdown_figure(picture: Picture) -> Markup:
    """A picture as Markdown."""
    text = re.sub(r"[\\\[\]<`*]", r"\\\g<0>", " ".join(picture.text.split()))
    return Markup(f"![{text}]({picture.file})")  # noqa: S704  # an attribute, which MarkdownIt escapes


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

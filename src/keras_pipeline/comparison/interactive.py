"""Plots that answer the mouse, without a network: the page itself holds Vega-Lite's programs, as the package
vl-convert-python has them."""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

START = """\
for (const figure of document.querySelectorAll("figure.plot")) {
  const plot = JSON.parse(figure.lastElementChild.textContent);
  vegaEmbed(figure.firstElementChild, plot, {ast: true, actions: false, renderer: "svg"});
}
"""
"""`ast`: expressions are interpreted, so that a page need not allow programs that are made from texts."""
DVC_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
{refresh_tag}
<title>dvc plots</title>
<script>%s</script>
<body>
{plot_divs}
</body>
</html>
"""


def start_script() -> Markup:
    """The program, as a script element, that turns each `figure_element` of its page into a plot."""
    return Markup("<script>{}</script>").format(Markup(_bundle(START)))  # noqa: S704  # none of it is a user's


def policy(script: Markup) -> str:
    """What a Content-Security-Policy has to say for this one script element to run, and no other."""
    program = script.removeprefix("<script>").removesuffix("</script>")
    return f"script-src 'sha256-{base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()}'"


def figure_element(plot: Mapping[str, Any], image: str) -> str:
    """HTML that shows `image`, an element, until the page's script puts a Vega-Lite plot into its place."""
    text = json.dumps(plot, ensure_ascii=False, allow_nan=False).replace("<", r"\u003c")
    return f'<figure class="plot"><div>{image}</div><script type="application/json">{text}</script></figure>'


def dvc_page() -> str:
    """The template for `dvc plots`, by its setting plots.html_template: as DVC's own, and asks nobody for Vega."""
    return DVC_PAGE % _bundle("Object.assign(window, {vega, vegaLite, vegaEmbed});")


def _bundle(start: str) -> str:
    """Vega, Vega-Lite and Vega-Embed as one program, which ends with `start`; the same every time."""
    import vl_convert

    program = str(vl_convert.javascript_bundle(start))
    if "</script" in program or "<!--" in program:
        raise ValueError("Vega's program has a text that would end the script element that holds it")
    return program

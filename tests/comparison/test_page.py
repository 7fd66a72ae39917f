"""How the page of a comparison is written."""

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from compared_runs import Images
from keras_pipeline.comparison import page
from written_pages import pictures, study_content


def test_code_stays_code_in_a_table() -> None:
    assert page.markdown_code("a|b`c\n d") == "`a\\|b'c d`"
    html = (
        MarkdownIt("commonmark")
        .enable("table")
        .render(f"| x | y |\n|---|---|\n| {page.markdown_code('a|<b>')} | z |\n")
    )
    assert "<td><code>a|&lt;b&gt;</code></td>\n<td>z</td>" in html


HOSTILE = (
    "<script>alert(1)</script>", "<img src=http://evil.example/a onerror=alert(1)>", "![x](http://evil.example/b.png)",
    "![x][ref]", "[x](javascript:alert(1))", "<!-- a -->", "<a href='javascript:alert(1)'>x</a>", "a|b\nc", "`<b>`",
    "<svg/onload=alert(1)>", "</table></body>", "<?php ?>", "&lt;script&gt;",
)  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_a_user_wrote_is_text_on_the_page_and_loads_nothing(hostile: str, tmp_path: Path) -> None:
    """In the name, the question, the discussion and every cell: also where another program shows the Markdown."""
    paths = page.write_page(tmp_path, "report", hostile, study_content(hostile), pictures(hostile), of="study")
    html, markdown = (path.read_text(encoding="utf-8") for path in paths[:2])
    assert [source[:22] for source in Images(html).sources] == ["data:image/png;base64,"] * 2
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri" in html
    shown = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)
    assert Images(shown).sources == ["report-accuracy.png", "report-curves.png"]
    for tag in ("<svg", "<!--", "<?php", "<a "):
        assert tag not in shown
    assert shown.count("<tr>") == len([line for line in markdown.splitlines() if line.startswith("| ")])


def test_the_contents_are_the_headings(tmp_path: Path) -> None:
    html = page.write_page(tmp_path, "p", "p", study_content("x"), pictures("x"), of="study")[0].read_text()
    contents = re.findall(r'<a href="#([^"]+)">([^<]+)</a>', html)
    assert [text for _, text in contents] == ["Results", "Every seed", "Learning curves", "How it was run"]
    assert contents == re.findall(r'<h2 id="([^"]+)">([^<]+)</h2>', html)

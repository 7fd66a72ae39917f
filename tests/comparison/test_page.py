"""How the page of a comparison is written."""

from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from compared_runs import Images
from keras_pipeline.comparison import page


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
    row = {"name": hostile, "accuracy": hostile, "interval": "", "seeds": "1", "seconds": "", "verdict": hostile}
    content = {
        "study": {"name": hostile}, "question": hostile, "complete": True, "discussion": hostile, "baseline": hostile,
        "images": 10, "seeds": 1, "rows": [row], "tuned": "", "tuned_names": [], "comparisons": [], "made": hostile,
        "fixed": [(hostile, hostile)], "done": 1, "total": 1,
    }  # fmt: skip
    paths = page.write_page(tmp_path, "report", hostile, content, [], of="study")
    html, markdown = (path.read_text(encoding="utf-8") for path in paths)
    assert Images(html).sources == []
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in html
    shown = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)
    assert Images(shown).sources == []
    for tag in ("<img", "<svg", "<!--", "<?php", "<a "):
        assert tag not in shown
    assert shown.count("<tr>") == len([line for line in markdown.splitlines() if line.startswith("| ")])

"""How the page of a comparison is written."""

from keras_pipeline.comparison import page


def test_code_stays_code_in_a_table() -> None:
    assert page.markdown_code("a|b`c\n d") == "`a\\|b'c d`"
    from markdown_it import MarkdownIt

    html = (
        MarkdownIt("commonmark")
        .enable("table")
        .render(f"| x | y |\n|---|---|\n| {page.markdown_code('a|<b>')} | z |\n")
    )
    assert "<td><code>a|&lt;b&gt;</code></td>\n<td>z</td>" in html

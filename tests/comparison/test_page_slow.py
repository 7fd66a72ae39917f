"""A page with what a hostile user wrote, as Chromium shows it."""

from pathlib import Path

import pytest

from fault_server import FaultServer
from keras_pipeline.comparison import page

pytestmark = [pytest.mark.slow, pytest.mark.needs_browser]


def test_a_browser_shows_text_only_runs_nothing_and_asks_nobody(tmp_path: Path, chromium: str) -> None:
    """The same words as HTML of their own do both: else the test could not fail."""
    from playwright.sync_api import sync_playwright

    with FaultServer({}) as server, sync_playwright() as playwright:
        hostile = (
            f"<img src={server.url}/a onerror=\"document.title='run'\"> ![x]({server.url}/b) "
            f"<svg/onload=\"document.title='run'\"> <link rel=stylesheet href={server.url}/c> "
            f"[x](javascript:alert(1)) <iframe src={server.url}/d>"
        )
        row = {"name": hostile, "accuracy": hostile, "interval": "", "seeds": "1", "seconds": "", "verdict": hostile}
        content = {
            "study": {"name": hostile}, "question": hostile, "complete": True, "discussion": hostile,
            "baseline": hostile, "images": 10, "seeds": 1, "rows": [row], "tuned": "", "tuned_names": [],
            "comparisons": [], "made": hostile, "fixed": [(hostile, hostile)], "done": 1, "total": 1,
        }  # fmt: skip
        html = page.write_page(tmp_path, "report", hostile, content, [], of="study")[0]
        (tmp_path / "unsafe.html").write_text(f"<title>x</title><body>{hostile}</body>")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        shown, asked = browser.new_page(), list[str]()
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto(html.as_uri(), wait_until="networkidle")
        assert asked == [html.as_uri()]
        assert shown.locator("img, svg, iframe, script, a, body link").count() == 0
        assert shown.locator("body").inner_text().count("onerror=") >= 5
        assert shown.title() != "run"
        assert server.requests == []
        shown.goto((tmp_path / "unsafe.html").as_uri(), wait_until="networkidle")
        assert shown.title() == "run"
        assert server.requests
        browser.close()

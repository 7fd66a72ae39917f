"""A page with what a hostile user wrote, as Chromium shows it."""

from pathlib import Path

import numpy as np
import pytest

from fault_server import FaultServer
from keras_pipeline.comparison import page
from keras_pipeline.studies import figures
from written_pages import pictures, study_content

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
        html = page.write_page(tmp_path, "report", hostile, study_content(hostile), pictures(hostile), of="study")[0]
        (tmp_path / "unsafe.html").write_text(f"<title>x</title><body>{hostile}</body>")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        shown, asked = browser.new_page(), list[str]()
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto(html.as_uri(), wait_until="networkidle")
        assert asked == [html.as_uri()]
        assert shown.locator("svg, iframe, script, main a, body link").count() == 0
        assert shown.locator("img").count() == 2
        assert shown.locator("body").inner_text().count("onerror=") >= 5
        assert shown.title() != "run"
        assert server.requests == []
        shown.goto((tmp_path / "unsafe.html").as_uri(), wait_until="networkidle")
        assert shown.title() == "run"
        assert server.requests
        browser.close()


def test_a_click_on_a_name_switches_its_curve_and_nothing_else_runs(tmp_path: Path, chromium: str) -> None:
    from playwright.sync_api import sync_playwright

    name = "<img src=http://127.0.0.1:9/a onerror=\"document.title='run'\">"
    curves = {"plain": np.array([[0.1, 0.2, 0.3]]), name: np.array([[0.2, 0.4, 0.6]])}
    plot = figures.plot_curves({"val/loss": curves, "val/accuracy": curves}, ["plain"])
    html = page.write_page(tmp_path, "report", "x", study_content("x"), pictures("x", plot), of="study")[0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        shown, asked, said = browser.new_page(), list[str](), list[str]()
        shown.on("request", lambda request: asked.append(request.url))
        shown.on("console", lambda message: said.append(message.text))
        shown.goto(html.as_uri(), wait_until="networkidle")
        shown.wait_for_selector("figure.plot svg")
        assert shown.locator("img").count() == 1  # the other one is a plot now
        lines = "path[aria-roledescription='line mark']"

        def colours() -> list[str | None]:
            return [line.get_attribute("stroke") for line in shown.locator(lines).all()]

        assert sorted(colours()) == sorted([figures.COLOURS[0], figures.FAINT] * 2)
        shown.locator("g.role-legend-label text", has_text="img src").click()
        assert sorted(colours()) == sorted([*figures.COLOURS[:2]] * 2)
        shown.locator("g.role-legend-label text", has_text="plain").click()
        assert sorted(colours()) == sorted([figures.COLOURS[1], figures.FAINT] * 2)
        shown.locator(lines).last.hover(force=True)
        assert said == []
        shown.evaluate(
            "const s = document.createElement('script'); s.text = 'document.title = 1'; document.body.append(s)"
        )
        assert shown.title() == "x"
        assert len(said) == 1  # the policy refused it
        assert "Content Security Policy" in said[0]
        assert [one for one in asked if not one.startswith("data:")] == [html.as_uri()]
        browser.close()

"""A page with what a hostile user wrote, as Chromium shows it."""

import os
import subprocess
import sys
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


def test_the_plots_of_dvc_are_shown_without_a_network(tmp_path: Path, chromium: str) -> None:
    """With DVC's own page nothing is: else the test could not fail."""
    from playwright.sync_api import sync_playwright

    from keras_pipeline.comparison import interactive

    (tmp_path / "history.csv").write_text("epoch,val/loss\n1,0.5\n2,0.4\n")
    (tmp_path / "dvc.yaml").write_text("plots:\n  - history.csv:\n      x: epoch\n      y: val/loss\n")
    (tmp_path / "page.html").write_text(interactive.dvc_page(), encoding="utf-8")
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(tmp_path / "site")}

    def dvc(*arguments: str) -> None:
        command = [sys.executable, "-m", "dvc", *arguments]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)

    dvc("init", "--no-scm", "--quiet")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        shown, errors = browser.new_context(offline=True).new_page(), list[str]()
        shown.on("pageerror", lambda error: errors.append(str(error)))
        dvc("plots", "show")
        shown.goto((tmp_path / "dvc_plots" / "index.html").as_uri(), wait_until="networkidle")
        assert errors == ["vegaEmbed is not defined"]
        dvc("plots", "show", "--html-template", str(tmp_path / "page.html"))
        shown.reload()
        shown.wait_for_selector("svg.marks")
        assert errors == ["vegaEmbed is not defined"]
        browser.close()

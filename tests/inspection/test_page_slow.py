"""The page of a dataset as Chromium shows it: it asks nobody, and fits on a narrow screen."""

from pathlib import Path

import pytest

from keras_pipeline.inspection.findings import Finding
from keras_pipeline.inspection.overview import overview_of_raw
from keras_pipeline.inspection.page import write_page
from made_images import clean_images
from raw_in_memory import raw_images, raw_table

pytestmark = [pytest.mark.slow, pytest.mark.needs_browser]


def test_a_browser_shows_all_of_it_and_asks_nobody(tmp_path: Path, chromium: str) -> None:
    from playwright.sync_api import sync_playwright

    hostile = '<img src=http://127.0.0.1:9/a onerror="document.title=1"> ' + "long" * 60
    pages = {
        "images": overview_of_raw(raw_images(*clean_images(20), [hostile, "square", "stripes"], title=hostile)),
        "table": overview_of_raw(raw_table()),
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, overview in pages.items():
            path = tmp_path / f"{name}.html"
            write_page(path, overview, [Finding("x", hostile, [[hostile, hostile]])])
            for width in (1100, 380):
                shown, asked, said = (
                    browser.new_page(viewport={"width": width, "height": 800}),
                    list[str](),
                    list[str](),
                )
                shown.on("request", lambda request, asked=asked: asked.append(request.url))
                shown.on("console", lambda message, said=said: said.append(message.text))
                shown.goto(path.as_uri(), wait_until="networkidle")
                assert [one for one in asked if not one.startswith("data:")] == [path.as_uri()]
                assert said == []
                assert shown.title() == "Dataset own"
                widest = shown.evaluate("document.documentElement.scrollWidth")
                assert widest <= width
                images = shown.locator("img").all()
                assert len(images) == (3 if name == "images" else 0)
                assert all(image.evaluate("one => one.complete && one.naturalWidth > 0") for image in images)
                bars = shown.locator("svg rect").all()
                assert bars
        browser.close()

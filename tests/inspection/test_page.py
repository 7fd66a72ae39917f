"""The page as a file: the same bytes each time, small, and nothing that a name could smuggle in."""

import re

import numpy as np

from keras_pipeline.inspection.findings import Finding
from keras_pipeline.inspection.overview import overview_of_raw
from keras_pipeline.inspection.page import page_text
from made_images import CLASSES, clean_images
from raw_in_memory import raw_images, raw_table

HOSTILE = '<img src=x onerror="document.title=1">'


def test_the_same_data_give_the_same_bytes() -> None:
    made = [page_text(overview_of_raw(raw_images(*clean_images(20), CLASSES))) for _ in range(2)]
    assert made[0] == made[1]
    assert page_text(overview_of_raw(raw_table())) == page_text(overview_of_raw(raw_table()))


def test_it_is_small_whatever_is_in_it() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4000, 64, 64, 3), np.uint8)
    page = page_text(overview_of_raw(raw_images(noise, np.arange(4000) % 400, [f"class {one}" for one in range(400)])))
    assert len(page.encode()) < 1_000_000


def test_names_and_findings_are_text() -> None:
    names = [HOSTILE, "a'b", "c&d"]
    raw = raw_images(*clean_images(12), names, title=HOSTILE, licence=HOSTILE, facts={HOSTILE: HOSTILE})
    page = page_text(overview_of_raw(raw), [Finding("x", HOSTILE, [[HOSTILE]])])
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x onerror=") >= 7
    assert len(re.findall(r"<img ", page)) == 3
    assert "Content-Security-Policy" in page


def test_what_was_not_looked_for_is_not_said_to_be_good() -> None:
    seen = overview_of_raw(raw_table())
    assert "Findings" not in page_text(seen)
    assert "Nothing was found to be wrong." in page_text(seen, [])
    assert "2 rows with the same values" in page_text(seen, [Finding("duplicates", "2 rows with the same values")])

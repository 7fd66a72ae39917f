"""Plots with their program inside: the page that holds one, and the one that DVC fills."""

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
from dvc_render.html import HTML
from dvc_render.vega import VegaRenderer

from keras_pipeline.comparison import interactive, page
from written_pages import pictures, study_content

pytestmark = pytest.mark.slow

PLOT = {"description": "</script><script>alert(1)</script><!--", "mark": "point", "data": {"values": []}}


def test_a_plot_is_data_and_one_program_whose_digest_the_page_names(tmp_path: Path) -> None:
    html = page.write_page(tmp_path, "p", "p", study_content("x"), pictures("x", PLOT), of="study")[0].read_text()
    scripts = re.findall(r"(?s)<script([^>]*)>(.*?)</script>", html)
    assert [attributes for attributes, _ in scripts] == [' type="application/json"', ""]
    assert json.loads(scripts[0][1]) == PLOT
    digest = base64.b64encode(hashlib.sha256(scripts[1][1].encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert f"script-src 'sha256-{digest}';" in policy
    assert policy.count("script-src") == 1
    assert "unsafe-eval" not in policy
    assert len(html) < 1_500_000
    for tag in ("<link", "<iframe", 'src="http'):
        assert tag not in html.replace(scripts[1][1], "")


def test_dvc_takes_the_page_and_it_asks_nobody() -> None:
    made = HTML(interactive.dvc_page()).with_scripts(VegaRenderer.SCRIPTS).with_element("<p>plots</p>").embed()
    assert "<p>plots</p>" in made
    assert "cdn.jsdelivr.net" not in re.sub(r"https://cdn.jsdelivr.net/npm/vega-datasets", "", made)
    assert not re.findall(r"{(scripts|plot_divs|refresh_tag)}", made)

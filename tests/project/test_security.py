"""SECURITY.md claims what is proven, and no more."""

import re

from fault_catalogue import FOLDER, Family, load_yaml
from places import ROOT

TEXT = (ROOT / "SECURITY.md").read_text()


def test_every_claim_names_rows_that_are_proven() -> None:
    rows = {key: row for path in FOLDER.glob("*.yaml") for key, row in load_yaml(path, Family).rows.items()}
    claims = re.findall(r"(?m)^\| ([A-Z`].+?) \| (.*) \|$", TEXT)
    assert len(claims) >= 7
    for claim, named in claims:
        assert named, claim
        assert [key for key in named.split(", ") if not (rows[key].proof or rows[key].tries)] == [], claim


def test_what_it_names_is_there() -> None:
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text()))
    assert set(re.findall(r"`make ([a-z]+)", TEXT)) <= targets
    assert [path for path in re.findall(r"\]\(([^)]+)\)", TEXT) if not (ROOT / path).exists()] == []
    assert len(TEXT.splitlines()) < 60

"""What the README says is so: its table is params.yaml, its commands exist, its pictures are there."""

import re

import pytest

from keras_pipeline.cli import main
from places import ROOT

README = (ROOT / "README.md").read_text()


def leaves(text: str) -> dict[str, str]:
    """Every value of params.yaml as it is written there, by dotted key."""
    found, path = {}, []
    for line in text.splitlines():
        if match := re.match(r"( *)([a-z0-9_]+):(?: +(.*?))?(?: +#.*)?$", line):
            indent, key, value = match.groups()
            path[len(indent) // 2 :] = [key]
            if value:
                found[".".join(path)] = value
    return found


def test_the_table_of_knobs_is_params_yaml() -> None:
    table = dict(re.findall(r"^\| `([a-z0-9_.]+)` \| `([^`]*)` \|", README, re.MULTILINE))
    assert table == leaves((ROOT / "params.yaml").read_text())


def test_each_command_of_ours_exists(capsys: pytest.CaptureFixture[str]) -> None:
    named = set(re.findall(r"keras-pipeline ([a-z]+)", README))
    assert {"params", "status", "completion", "ui", "doctor", "relocate"} <= named
    for verb in named:
        assert main.main([verb, "--help"]) == 0
    capsys.readouterr()


def test_each_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)", README)) <= targets


def test_each_file_that_is_linked_is_there() -> None:
    linked = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in target]
    assert len(linked) >= 3
    assert [target for target in linked if not (ROOT / target).exists()] == []


def test_each_exit_code_is_explained() -> None:
    explained = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    assert explained == {*main.EXIT_MEANING, 70}

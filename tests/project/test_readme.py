"""README.md and docs/ against the project: their commands exist, their links lead somewhere, no page is forgotten."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import commands_in_docs
from keras_pipeline.cli import main
from places import ROOT, leaves

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The names by which the headings of a page can be linked to."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_table_of_parameters_is_params_yaml() -> None:
    text = (ROOT / "docs" / "params.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| `([a-z0-9_.]+)` \| `([^`]*)` \|", text, re.MULTILINE))
    read = YAML(typ="safe").load
    shipped = dict(leaves(read((ROOT / "params.yaml").read_text(encoding="utf-8"))))
    assert {key: read(value) for key, value in table.items()} == shipped


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len(README.splitlines()) <= 160


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    for path, _, anchor in (link.partition("#") for link in links if "://" not in link):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_every_page_is_in_the_index_and_the_readme_names_the_index() -> None:
    assert "](docs/README.md)" in README
    assert {*commands_in_docs.pages()} == {page for page in PAGES if page.parent.name == "docs"} - {
        commands_in_docs.INDEX
    } | {ROOT / "README.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_command_exists(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {*re.findall(r"`make ([a-z-]+)", text), *re.findall(r"(?m)^make ([a-z-]+)", text)} <= targets
    for verb in {*re.findall(r"`keras-pipeline ([a-z]+)", text), *re.findall(r"(?m)^keras-pipeline ([a-z]+)", text)}:
        assert main.main([verb, "--help"]) == 0, verb
    capsys.readouterr()


def test_commands_are_run_as_written_or_say_why_not() -> None:
    found = [block for page in commands_in_docs.pages() for block in commands_in_docs.blocks(page)]
    assert len(found) > 20
    assert sum(block.reason is None for block in found) > 0.6 * len(found)
    for page in commands_in_docs.pages():
        fences = re.findall(r"(?m)^```(?:bash|sh|shell|console).*$", page.read_text(encoding="utf-8"))
        own = [block for block in commands_in_docs.blocks(page) if not block.hidden]
        assert len(fences) == len(own), page


def test_each_exit_code_is_explained() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    explained = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert explained == {*main.EXIT_MEANING, 70}


def test_the_version_is_the_same_everywhere() -> None:
    (version,) = re.findall(r'(?m)^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (cited,) = re.findall(r"(?m)^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    released = re.findall(r"(?m)^## \[(\d.*?)\] - ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert (cited, released[0]) == (version, version)


def test_the_workflow_and_the_hooks_call_what_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    workflow = (ROOT / ".github" / "workflows" / "test.yaml").read_text(encoding="utf-8")
    called = {target for line in re.findall(r"run: make (.+)", workflow) for target in re.findall(r"\b[a-z-]+\b", line)}
    assert called - {"python"} - {"matrix"} <= targets
    hooks = re.findall(r"entry: \.venv/bin/(\S+)", (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert set(hooks) == {"ruff", "mypy", "keras-pipeline"}

"""The project's files on any file system: where a and A are one, and where there are no links."""

import ast
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from places import ROOT

LINKS = {"symlink", "symlink_to", "link", "hardlink_to", "link_to"}


def test_no_two_names_differ_only_in_capitals_and_each_is_one_everywhere() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    names = {str(part) for path in listed for part in (Path(path), *Path(path).parents)} - {"."}
    assert len(names) > 300
    assert [name for name, count in Counter(map(str.lower, names)).items() if count > 1] == []
    assert [name for name in names if re.search(r'[<>:"\\|?*\x00-\x1f]|[. ]$', name)] == []
    assert max(len(name.encode()) for name in names) < 200


def links(source: ast.AST) -> list[str]:
    """The calls that make links."""
    return [
        ast.unparse(node)
        for node in ast.walk(source)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LINKS
    ]


@pytest.mark.parametrize("line", ["path.symlink_to(x)", "os.link(a, b)", "os.symlink(a, b)"])
def test_a_link_is_found(line: str) -> None:
    assert links(ast.parse(line)) == [line]


def test_the_pipeline_makes_no_link() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        assert links(ast.parse(path.read_text())) == [], path

"""No program knows a dataset: what it must know of one is in its file in datasets/, and in what is made of that.

Texts may give one as an example. Looked at is what programs compute with: the numbers of the shipped images, and names.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from places import SHIPPED

ROOT = SHIPPED.parent
SOURCE = ROOT / "src" / "keras_pipeline"
NAMES = {path.stem for path in (ROOT / "datasets").glob("*.yaml")}
SIZES = {28, 784}
"""Of the shipped images: a side, and all pixels."""
EXAMPLE = re.compile(r"such as mnist|models:/mnist|mnist-7")
"""How a text for people gives a name for a registered model."""
KNOWN = {
    "sources/kinds/made.py": "the programs that make these datasets",
    "data/earlier.py": "what the files of earlier versions did not say, because they knew six datasets",
    "tracking/tags.py": "the params of a fresh clone, which a test holds against params.yaml",
    "audit/conformance.py": "the images by which strategies are compared where no others are named",
    "cli/checks.py": "the same, as the name of a section",
}
WORDS = {"line"}
"""Names of datasets that programs use as words."""


def found_in(source: str) -> Iterator[str]:
    """Each number and name that a program has, with its line."""
    tree = ast.parse(source)
    apart: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):  # a docstring
            apart.add(id(node.value))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow | ast.LShift):  # a limit of bytes
            apart.add(id(node.right))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in apart:
            continue
        value = node.value
        if type(value) in (int, float) and value in SIZES:
            yield f"{node.lineno}: {value}"
        if isinstance(value, str) and (value in NAMES - WORDS or "mnist" in EXAMPLE.sub("", value).lower()):
            yield f"{node.lineno}: {value[:60]!r}"


def modules() -> list[str]:
    return sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py"))


def test_no_module_knows_a_dataset() -> None:
    found = {name: list(found_in((SOURCE / name).read_text(encoding="utf-8"))) for name in modules()}
    assert {name: lines for name, lines in found.items() if lines and name not in KNOWN} == {}
    assert {name for name in KNOWN if found.get(name)} == set(KNOWN)  # nothing is allowed that is not there


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.js")), ids=lambda path: path.name)
def test_nor_does_a_program_of_the_page_or_of_an_export(path: Path) -> None:
    code = re.sub(r"//.*", "", path.read_text(encoding="utf-8"))
    assert re.findall(rf"(?i)mnist|\b(?:{'|'.join(map(str, SIZES))})\b|\bdigit|\.dataset ===?", code) == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("shape = (28, 28, 1)", 2), ("x.reshape(-1, 784)", 1), ("most = 2**28", 0), ("most = 1 << 28", 0),
        ('"""Of images of 28 x 28, as MNIST."""', 0), ("if name == 'mnist':\n    pass", 1), ("pen = {'kmnist': 2}", 1),
        ("text = 'a name, such as mnist.'", 0), ("text = 'MNIST is drawn'", 1), ("x = 28.0", 1), ("x = 128", 0),
    ],
)  # fmt: skip
def test_what_is_found(source: str, count: int) -> None:
    assert len(list(found_in(source))) == count

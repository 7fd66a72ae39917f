"""The catalogue of faults is whole: each fault once, with a proof that exists or a reason, and the page says so."""

import ast
import functools
import re
import sys
from pathlib import Path

import pytest

import fault_catalogue
import harms
from keras_pipeline.cli import main
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.strict_yaml.reader import parse_yaml
from places import ROOT

SIZES = {
    "A": 25, "B": 22, "C": 29, "D": 22, "E": 16, "F": 10, "G": 25, "H": 12, "I": 10, "J": 20, "K": 26, "L": 14, "M": 10,
    "N": 14,
}  # fmt: skip
"""How many faults of each family are known at least. A row may be added, and none is taken out."""
ROWS = fault_catalogue.rows()


@functools.cache
def functions_in(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_no_fault_is_missing_and_each_stands_in_its_family() -> None:
    families = fault_catalogue.families()
    assert list(families) == list(SIZES)
    for letter, family in families.items():
        names = list(family.rows)
        assert names == [f"{letter}{number}" for number in range(1, len(names) + 1)]
        assert len(names) >= SIZES[letter]


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_proven_by_tests_that_exist(name: str) -> None:
    row = ROWS[name]
    assert len(set(row.proof)) == len(row.proof)
    for proof in row.proof:
        file, _, test = proof.partition("::")
        assert (ROOT / "tests" / file).is_file(), proof
        assert re.fullmatch(r"test_\w+", test)
        assert test in functions_in(ROOT / "tests" / file), proof


def test_what_is_said_is_more_than_a_letter() -> None:
    for name, row in ROWS.items():
        for one in row.tries:
            assert bool(one.said) == (one.codes != [0]) or 0 in one.codes, name
            for pattern in one.said:
                assert len(re.sub(r"[^\w ]", "", pattern)) >= 5, (name, pattern)
                assert not re.search(pattern, ""), (name, pattern)
            for harm in one.harm:
                assert harm.split()[0] in harms.WORDS, (name, harm)


def test_every_verb_of_the_command_line_is_tried() -> None:
    [commands] = [one for one in main.make_parser()._actions if one.dest == "verb"]
    tried = {one.run.split()[0] for row in ROWS.values() for one in row.tries}
    assert tried == set(commands.choices or ())


@pytest.fixture
def page(pytestconfig: pytest.Config) -> str:
    if pytestconfig.getoption("--faults"):
        pytest.skip("this run writes the page")
    return fault_catalogue.PAGE.read_text(encoding="utf-8")


def test_the_page_says_what_the_catalogue_says(page: str) -> None:
    """`pytest tests/faults/test_catalogue.py --faults docs/faults.md` writes the words of changed rows into it."""
    cells = fault_catalogue.read_cells(page)
    assert list(cells) == list(ROWS)
    lines = page.splitlines()
    for name, row in ROWS.items():
        assert fault_catalogue.line(name, row, cells[name]) in lines


def test_the_page_tells_of_no_problem(page: str) -> None:
    for name, cells in fault_catalogue.read_cells(page).items():
        assert set(cells[1:]) <= {"0", "–"}, name


def test_a_row_without_proof_or_reason_is_refused() -> None:
    for given in ("", ", proof: [one], open: two", ", tries: [{run: one}], later: two"):
        with pytest.raises(ParamsError, match="A proof or a try is expected, or else a reason"):
            parse_yaml(f"{{fault: abc, then: abc{given}}}".encode(), "row", fault_catalogue.Row)


def test_a_test_is_counted_for_the_rows_that_it_proves() -> None:
    rows = {
        "A1": fault_catalogue.Row(fault="x", then="y", proof=["sources/test_a.py::test_one"]),
        "B1": fault_catalogue.Row(fault="x", then="y", proof=["sources/test_a.py::test_one", "b.py::test_two[x]"]),
    }
    counted = functools.partial(fault_catalogue.proofs, known=rows)
    assert (
        counted("tests/sources/test_a.py::test_one[0]") == counted("tests/sources/test_a.py::test_one") == ["A1", "B1"]
    )
    assert counted("tests/sources/test_a.py::test_one_more") == []
    assert counted("tests/b.py::test_two[x]") == ["B1"]
    assert counted("tests/b.py::test_two[y]") == []
    assert counted("tests/faults/test_harm.py::test_harm[C12.3]") == ["C12"]


def test_no_framework_was_needed_so_far() -> None:
    assert "tensorflow" not in sys.modules

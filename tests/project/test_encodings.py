"""No text is read or written in the encoding of whoever's machine it is."""

import ast
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from places import ROOT

SOURCES = sorted((ROOT / "src").rglob("*.py"))
ALWAYS = {"read_text", "write_text", "TextIOWrapper", "FileHandler", "getoutput"}
"""What always reads or writes text."""
BY_MODE = {"NamedTemporaryFile": 0, "TemporaryFile": 0, "fdopen": 1, "open": 0}
"""What does so unless its mode says bytes, and where its mode stands."""
PROCESSES = {"run", "Popen", "check_output", "check_call", "call"}
NO_FILES = {
    "os.open", "webbrowser.open", "self._open", "STRATEGIES[train.strategy].open", "source.open", "self.source.open",
    "self.open", "archive.open", "part.open", "tarfile.open", "Image.open",
}  # fmt: skip
"""What opens no file of text."""


def without_encoding(source: ast.AST) -> Iterator[str]:
    """The calls that read or write text and name no encoding."""
    for call in (node for node in ast.walk(source) if isinstance(node, ast.Call)):
        whole = ast.unparse(call.func)
        name = whole.split(".")[-1]
        given = {one.arg: ast.unparse(one.value) for one in call.keywords}
        as_text = name in ALWAYS
        if name in BY_MODE and whole not in NO_FILES:
            place = BY_MODE[name] + (whole in ("open", "io.open"))
            mode = given.get("mode", ast.unparse(call.args[place]) if len(call.args) > place else "")
            as_text = "b" not in mode and bool(mode or not name.endswith("TemporaryFile"))
        if name in PROCESSES:
            as_text = bool({"text", "universal_newlines", "errors"} & set(given))
        if as_text and given.get("encoding", "None") == "None":
            yield f"line {call.lineno}: {name}"


@pytest.mark.parametrize(
    "line",
    [
        "path.read_text()", "path.write_text(text)", "open(path)", "open(path, 'w')", "path.open()", "path.open('a+')",
        "os.fdopen(1, 'w')", "subprocess.run(x, text=True)", "subprocess.Popen(x, universal_newlines=True)",
        "io.TextIOWrapper(x)", "tempfile.NamedTemporaryFile('w')", "tempfile.TemporaryFile(mode='w+')",
        "logging.FileHandler(x)", "subprocess.run(x, errors='replace')", "subprocess.getoutput(x)",
        "path.open(encoding=None)",
    ],
)  # fmt: skip
def test_what_names_no_encoding_is_found(line: str) -> None:
    assert len(list(without_encoding(ast.parse(line)))) == 1
    assert not list(
        without_encoding(
            ast.parse(line.replace("encoding=None", "").replace(")", ", encoding='utf-8')").replace("(,", "("))
        )
    )


@pytest.mark.parametrize("line", ["path.open('rb')", "os.open(path)", "tempfile.TemporaryFile()", "subprocess.run(x)"])
def test_bytes_have_no_encoding(line: str) -> None:
    assert not list(without_encoding(ast.parse(line)))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_text_has_its_encoding(path: Path) -> None:
    assert list(without_encoding(ast.parse(path.read_text(encoding="utf-8")))) == []


def test_a_clone_has_the_same_bytes_whatever_git_is_set_to(tmp_path: Path) -> None:
    """With other line ends every dependency of every stage would be another one."""

    def git(*words: str) -> None:
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)

    texts = {"lines.py": b"first = 1\nsecond = 2\n", "table.csv": b"a,b\r\n1,2\r\n"}
    (tmp_path / "made").mkdir()
    for name, content in texts.items():
        (tmp_path / "made" / name).write_bytes(content)
    shutil.copy(ROOT / ".gitattributes", tmp_path / "made")
    git("init", "-q", "made")
    git("-C", "made", "-c", "core.autocrlf=input", "add", ".")
    git("-C", "made", "-c", "user.name=n", "-c", "user.email=e@h", "commit", "-qm", "all")
    git("clone", "-q", "-c", "core.autocrlf=true", "-c", "core.eol=crlf", "made", "cloned")
    assert {name: (tmp_path / "cloned" / name).read_bytes() for name in texts} == texts

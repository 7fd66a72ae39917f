"""Addresses in messages without their secrets."""

import os
import re
import tempfile
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest

from keras_pipeline.core import errors, temporary


def masked(text: str) -> str:
    os.environ.pop("PYTEST_CURRENT_TEST", None)  # it names the addresses of a test
    return errors.masked(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:p@ss@host/a: fault", "https://***@host/a: fault"),
        ("at 'http://host/a?X-Signature=abc&b=c'.", "at 'http://host/a?***'."),
        ("http://host/a: HTTP 404. Is it there?", "http://host/a: HTTP 404. Is it there?"),
        ("/home/me@work/folder", "/home/me@work/folder"),
    ],
)
def test_masked(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see https://user:secret@host/a?token=secret now", "see https://***@host/a?*** now"),
        ("postgresql://u:se@cret@host/db", "postgresql://***@host/db"),
        ("sqlite:////tmp/mlruns/mlflow.db", "sqlite:////tmp/mlruns/mlflow.db"),
        ("mail a@b.org, and why? Because.", "mail a@b.org, and why? Because."),
        ("'http://h/?key=secret'", "'http://h/?***'"),
        ("with password=secret1 and AKIA0123456789ABCDEF.", "with *** and ***."),
    ],
)
def test_addresses_are_shown_without_their_secrets(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize(
    "path", ["sqlite:////home/me@work/what?/mlflow.db", "file:///home/a:b@c/x?y", "/home/me:x@work/?a=b"]
)
def test_a_file_has_no_password_whatever_its_name(path: str) -> None:
    assert masked(f"at {path}: fault") == f"at {path}: fault"
    assert masked(f"{path},http://me:open-sesame@h") == f"{path},http://***@h"


PASSWORDS = [
    "open-sesame",
    "p@ssword",
    "pass:word",
    "pass/word",
    "what?is",
    "half#way",
    "100%25sure",
    "a b%20c",
    "@:/?#%",
]


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("form", ["{}", "me:{}", "{}:x-oauth-basic", "me:{}@middle"])
def test_no_part_of_a_password_is_told_however_a_library_cuts_the_address(
    monkeypatch: pytest.MonkeyPatch, password: str, form: str
) -> None:
    for shown in {password, quote(password, safe="")}:
        if ":" in shown and not form.startswith("me:"):
            continue  # what is before it is a name
        address = f"postgresql://{form.format(shown)}@db.example:5432/runs"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        parts = [part for part in re.split("[@:/?#% ]", shown) if len(part) > 3]
        told = [
            f"cannot reach {address} now",
            f"invalid port: '{shown.partition('@')[0]}'",
            f'could not translate host name "{shown.rpartition("@")[2]}@db.example" to address',
            *(f"[{part}]" for part in parts),
        ]
        for text in told:
            assert not [part for part in parts if part in masked(text)], masked(text)


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY"])
@pytest.mark.parametrize("secret", ["open-sesame", "a/b+c=d/e", "x y"])
def test_secrets_of_the_environment_are_never_told(monkeypatch: pytest.MonkeyPatch, name: str, secret: str) -> None:
    monkeypatch.setenv(name, secret)
    if len(secret) > 3:
        assert secret not in masked(f"the server says: who is {secret}?")
        assert masked(f"the server says: who is {quote(secret, safe='')}?") == "the server says: who is ***?"


def test_of_secrets_inside_each_other_nothing_is_left_and_each_is_told_as_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://somebody:a-third@host")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "sesame")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "open-sesame-street")
    said = "somebody said open-sesame-street, sesame and a-third"
    assert masked(said) == "somebody said ***, *** and ***"


def test_the_beginning_of_a_password_that_was_taken_for_a_name_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:ab@c@defgh@host/runs")
    assert masked("no user ab@defgh, at c@host") == "no user ******, at c@host"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:%40@host/runs")
    assert masked("write to me@host") == "write to me@host"


def test_words_are_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    monkeypatch.setenv("SOME_TOKEN", "ab")
    assert masked("false about a") == "false about a"


def test_a_traceback_is_kept_in_a_file_of_its_own_without_passwords() -> None:
    try:
        raise KeyError("http://me:secret@host/ ü")
    except KeyError as error:
        path = Path(errors.keep_traceback(error))
    text = path.read_text("utf-8")
    path.unlink()
    assert re.fullmatch(r"keras-pipeline-.{8}\.txt", path.name)
    assert text.startswith("Traceback (most recent call last):\n  File ")
    assert "secret" not in text
    assert text.endswith("KeyError: 'http://***@host/ ü'\n")


def test_a_traceback_outlives_the_temporary_folder_of_its_process_whatever_stands_in_it(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path))
        with temporary.own_folder():
            try:
                raise ValueError("half of a character: \ud800")
            except ValueError as error:
                path = Path(errors.keep_traceback(error))
    assert path.parent == tmp_path
    assert path.read_text("utf-8").endswith("ValueError: half of a character: \\ud800\n")


def test_where_no_file_can_be_written_the_place_of_the_fault_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    try:
        re.compile("(")
    except re.error as error:
        told = errors.keep_traceback(error)
        last = traceback.extract_tb(error.__traceback__)[-1]
    assert last.filename != __file__
    assert told == (
        f"no file (No such file or directory); it ends in {last.filename}, line {last.lineno}: "
        "missing ), unterminated subpattern at position 0"
    )

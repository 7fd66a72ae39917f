"""Addresses in messages without their secrets."""

import os
import re
from pathlib import Path
from urllib.parse import quote

import pytest

from keras_pipeline.core import errors


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
        assert quote(secret, safe="") not in masked(f"token={quote(secret, safe='')}&x")


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

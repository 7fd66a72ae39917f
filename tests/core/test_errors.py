"""Addresses in messages without their secrets."""

import pytest

from keras_pipeline.core.errors import masked


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

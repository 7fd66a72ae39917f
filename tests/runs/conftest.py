"""The digits, normalized."""

from pathlib import Path

import pytest

import small


@pytest.fixture(scope="module")
def normalized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.normalized_digits(tmp_path_factory.mktemp("normalized"))

"""Thousands of changed files of every kind of dataset: each is read, or refused with a DataError, in little memory."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from any_bytes import CASES, archives, check, check_archive, check_members

pytestmark = pytest.mark.proof
MANY = settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck), database=None)


@pytest.mark.parametrize(("kind", "number"), CASES)
@MANY
@given(data=st.data())
def test_a_changed_file_is_read_or_refused(kind: str, number: int, data: st.DataObject) -> None:
    """Three thousand changes of each good file: bits, bytes, cuts, repeats, and any bytes at all."""
    check(data, kind, number)


@MANY
@given(data=st.data())
def test_a_changed_array_in_an_archive_is_read_or_refused(data: st.DataObject) -> None:
    """The same of the arrays in a .npz, with right checksums."""
    check_members(data)


@pytest.mark.parametrize("name", archives())
@MANY
@given(data=st.data())
def test_a_changed_archive_is_read_or_refused(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same of an archive, .zip, .tar or .tar.gz."""
    check_archive(data, name, archives()[name], tmp_path_factory.mktemp("archive"))

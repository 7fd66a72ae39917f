"""Whatever the files of a dataset hold, of any kind: they are read, or refused with a DataError, in little memory."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from any_bytes import CASES, GOOD, archives, check, check_archive, check_members, dataset, read_all
from keras_pipeline.sources.dataset_file import KINDS, kind_name
from memory_files import MemoryFiles

FEW = settings(max_examples=25, deadline=5000, suppress_health_check=list(HealthCheck))
"""The proofs (tests/proofs/test_any_bytes.py) take thousands."""


def test_every_kind_with_files_is_here() -> None:
    assert {kind_name(kind) for kind in KINDS if kind.has_files} == set(GOOD)


@pytest.mark.parametrize(("kind", "number"), CASES)
def test_the_good_files_are_read(kind: str, number: int) -> None:
    keys, files = GOOD[kind][number]
    assert read_all(dataset(kind, keys), MemoryFiles(files)) > 1


@pytest.mark.parametrize(("kind", "number"), CASES)
@FEW
@given(data=st.data())
def test_a_changed_file_is_read_or_refused(kind: str, number: int, data: st.DataObject) -> None:
    check(data, kind, number)


@FEW
@given(data=st.data())
def test_a_changed_member_of_an_archive_of_arrays_is_read_or_refused(data: st.DataObject) -> None:
    check_members(data)


@pytest.mark.parametrize("name", archives())
@FEW
@given(data=st.data())
def test_a_changed_archive_is_read_or_refused(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_archive(data, name, archives()[name], tmp_path_factory.mktemp("archive"))

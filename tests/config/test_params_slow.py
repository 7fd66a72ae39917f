"""Many broken params files."""

import pytest

from broken_files import check_broken_files

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("count", "seed"), [(1000, 2)], ids=["1000"])
def test_a_broken_file_is_valid_or_refused_with_every_place(count: int, seed: int) -> None:
    check_broken_files(count, seed)

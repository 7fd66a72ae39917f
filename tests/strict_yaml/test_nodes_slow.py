"""Many texts and mutants, read as DVC reads them or not at all."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from keras_pipeline.strict_yaml.nodes import parse_nodes
from yaml_schema import check_mutants

pytestmark = pytest.mark.slow

SCALARS = st.text(alphabet="0123456789._-+eExob:,ynTrue~<=! '", min_size=1, max_size=8)


@settings(max_examples=600, deadline=None, derandomize=True, database=None)
@given(SCALARS)
def test_what_is_read_is_what_dvc_reads(scalar: str) -> None:
    content = f"a: {scalar}\n"
    root, faults = parse_nodes(content.encode())
    if root is not None and not faults:
        theirs = YAML(typ="safe", pure=True).load(content)
        assert repr(root.plain()) == repr(theirs)  # repr: 1 is not 1.0, nor true


@pytest.mark.parametrize(("count", "seed"), [(2000, 2)], ids=["2000"])
def test_mutants_are_read_as_dvc_reads_them_or_refused(count: int, seed: int) -> None:
    check_mutants(count, seed)

"""Mutants of the shipped params, read."""

import re
import time
from typing import Any

from keras_pipeline.checks.params import CheckedParams
from keras_pipeline.config import params
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.strict_yaml.reader import parse_yaml
from places import SHIPPED
from yaml_mutants import mutants


def check_broken_files(count: int, seed: int) -> None:
    """Of so many mutants of the shipped params, each is good params, or refused with the place of every fault."""
    results: dict[str, Any] = {"valid": 0, "refused": 0}
    for mutant in mutants(SHIPPED.read_bytes(), count, seed):
        started = time.thread_time()
        try:
            values = parse_yaml(mutant, "params.yaml", CheckedParams)
        except ParamsError as error:
            *faults, last = str(error).split("\n")
            assert last == "Nothing was changed."
            assert faults
            for fault in faults:
                assert re.match(r"params\.yaml:[1-9]\d*:[1-9]\d*: \S", fault), mutant
            results["refused"] += 1
        else:
            assert dict(params.flatten(values))["seed"] == values.seed
            results["valid"] += 1
        assert time.thread_time() - started < 0.5
    assert results["valid"] > count / 20
    assert results["refused"] > count / 2

"""A schema, a file that is good by it, and what it refuses."""

import enum
import re
import time
from typing import Annotated, Literal

import pytest
from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML

from keras_pipeline.core.errors import ParamsError
from keras_pipeline.strict_yaml.faults import Block, KeyedError
from keras_pipeline.strict_yaml.nodes import parse_nodes
from keras_pipeline.strict_yaml.reader import parse_yaml
from yaml_mutants import mutants


class Dense(Block):
    type: Literal["dense"]
    units: Annotated[int, Field(ge=1, le=4096)]


class Dropout(Block):
    type: Literal["dropout"]
    rate: Annotated[float, Field(ge=0, lt=1)]


class Optimizer(Block):
    name: Literal["adam", "adamw", "rmsprop", "sgd"]
    learning_rate: Annotated[float, Field(gt=0, le=1)]


class Precision(enum.Enum):
    SINGLE = "float32"
    MIXED = "mixed"


class Train(Block):
    epochs: Annotated[int, Field(ge=1)]
    batch_size: int
    optimizer: Optimizer
    shuffle: bool
    warmup: Annotated[int, Field(le=10, multiple_of=5)] | None = None
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    precision: Precision = Precision.SINGLE
    devices: int = 1
    window: tuple[int, int] = (1, 1)
    crop: Literal["center", "random"] = "center"

    @field_validator("batch_size")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value < 1 or value.bit_count() != 1:
            raise ValueError(f"{value} is not a power of two.\nUse 64, for example.")
        return value

    @field_validator("crop")
    @classmethod
    def _no_random_crop(cls, value: str) -> str:
        if value == "random":
            raise PydanticCustomError("crop", "random crops are not there yet.")
        return value

    @model_validator(mode="after")
    def _fits_devices(self) -> "Train":
        if self.batch_size % self.devices:
            size = KeyedError(("batch_size",), f"{self.batch_size} is no multiple of {self.devices} devices.")
            raise KeyedError(("warmup",), "is needed for many devices.", size)
        return self


class Schema(Block):
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    name: Annotated[str, Field(pattern="^[a-z-]{1,20}$", description="lowercase letters and '-', 20 at most")]
    layers: Annotated[
        tuple[Annotated[Dense | Dropout, Field(discriminator="type")], ...], Field(min_length=1, max_length=3)
    ]
    train: Train
    weights: dict[str, float] = Field(default_factory=dict)
    note: Annotated[str, Field(max_length=5)] = ""


VALID = """\
# a comment
seed: 1
name: first-run
layers:
  - type: dense
    units: 64
  - {type: dropout, rate: 0.5}
train:
  epochs: 3         # passes
  batch_size: 32
  optimizer:
    name: adam
    learning_rate: 1e-3
  shuffle: true
"""
NAMES = "Allowed: seed, name, layers, train, weights, note."


def refusal(content: str | bytes, schema: type[Block] = Schema) -> str:
    """The faults of `content`, without the file name, which is checked to stand before each."""
    with pytest.raises(ParamsError) as refused:
        parse_yaml(content.encode() if isinstance(content, str) else content, "params.yaml", schema)
    return faults_of(refused.value)


def faults_of(error: ParamsError) -> str:
    *faults, last = str(error).split("\n")
    assert last == "Nothing was changed."
    assert faults
    for fault in faults:
        assert re.fullmatch(r"params\.yaml:[1-9]\d*:[1-9]\d*: [^\x00-\x1f\x7f-\x9f]+", fault)
    return "\n".join(fault.removeprefix("params.yaml:") for fault in faults)


def edited(old: str, new: str) -> str:
    assert VALID.count(old) == 1
    return VALID.replace(old, new)


class Small(Block):
    seed: int
    name: str


def check_mutants(count: int, seed: int) -> None:
    """Of so many mutants of the valid file, each is read as DVC reads it, or refused."""
    valid = 0
    for mutant in mutants(VALID.encode(), count, seed):
        started = time.thread_time()
        try:
            parse_yaml(mutant, "params.yaml", Schema)
        except ParamsError as error:
            faults_of(error)
        else:
            valid += 1
            root, _ = parse_nodes(mutant)
            assert root
            assert root.plain() == YAML(typ="safe", pure=True).load(mutant)
        assert time.thread_time() - started < 1
    assert count / 50 < valid < count / 2

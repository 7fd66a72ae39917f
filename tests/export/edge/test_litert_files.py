"""What is said of a LiteRT file is what its runtime says, and the arena holds every tensor as long as it is needed."""

import random

import made_litert
from keras_pipeline.export.edge import litert_files
from keras_pipeline.export.edge.litert_files import Numbers


def test_a_file_is_described_as_its_runtime_sees_it() -> None:
    described = litert_files.describe(made_litert.content())
    assert described.operators == {"FULLY_CONNECTED": 1, "RESHAPE": 1}
    assert described.input == Numbers((2, 2), "int8", *made_litert.INPUT)
    assert described.output == Numbers((3,), "int8", *made_litert.OUTPUT)
    assert described.arena == 16 + 16  # 4 bytes of pixels and 4 of the flat ones at a time, each at a multiple of 16


def test_an_arena_is_as_large_as_what_lives_at_the_same_time() -> None:
    chain = [(1000, -1, 0), (400, 0, 1), (200, 1, 2), (10, 2, 3)]
    assert litert_files.plan_arena(chain) == 1008 + 400
    assert litert_files.plan_arena([]) == 0


def test_an_arena_is_never_too_small_and_little_is_lost() -> None:
    chance = random.Random(1)
    for _ in range(50):
        tensors = []
        for _ in range(12):
            first = chance.randrange(8)
            tensors.append((16 * chance.randrange(1, 9), first, first + chance.randrange(4)))
        needed = max(sum(size for size, first, last in tensors if first <= moment <= last) for moment in range(12))
        assert needed <= litert_files.plan_arena(tensors) <= 1.6 * needed

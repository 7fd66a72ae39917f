"""Which split an example is in: as its source has it, by time, or by a digest, by which nobody moves when data grow."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.sources.kinds.kind import Columns, Examples, Kind, Split

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
LEFT_OUT = 3
"""What an example is assigned that no split has, beside the index into SPLITS."""
_ROWS = 8192


def assign(dataset: Kind, examples: Examples, columns: Columns | None = None) -> NDArray[np.uint8]:
    """The index into SPLITS of each example: as its source has it; else by time, by the digest of its group or of its
    row. Where neither is given, of an image, which are of the test split its pixels tell: see `is_test`."""
    assigned = np.zeros(len(examples.labels), np.uint8)
    if examples.splits is not None:
        index = {split: number for number, split in enumerate(SPLITS)}
        assigned = np.fromiter((index[split] for split in examples.splits), np.uint8, len(examples.splits))
        if (assigned == SPLITS.index("test")).any():
            return assigned
    share, train = dataset.splits.test, assigned == 0
    if examples.times is not None:
        assigned[train & latest(examples.times, train, share)] = 2
    elif examples.groups is not None:
        chosen = {group: is_test(group.encode("utf-8", "surrogatepass"), share) for group in set(examples.groups)}
        assigned[train & np.fromiter((chosen[group] for group in examples.groups), bool, len(assigned))] = 2
    elif columns is not None:
        for number, row in enumerate(rows_of(columns, row_targets(dataset, examples), np.arange(len(assigned)))):
            if train[number] and is_test(json.dumps(row).encode(), share):
                assigned[number] = 2
    return assigned


def by_pixels(examples: Examples) -> bool:
    """Whether the pixels of a training image tell if it belongs to the test split."""
    if examples.times is not None or examples.groups is not None:
        return False
    return examples.splits is None or "test" not in examples.splits


def is_test(content: bytes | memoryview, share: float) -> bool:
    """Whether what has this content is of the test split: its SHA-256, as a number from 0 to 1, is below the share. So
    nobody moves when examples are added, and copies stay together."""
    return is_test_digest(hashlib.sha256(content).digest(), share)


def is_test_digest(digest: bytes, share: float) -> bool:
    """`is_test` of a content with this SHA-256, or the beginning of it."""
    return int.from_bytes(digest[:8]) < share * 2**64


def latest(times: NDArray[np.float64], among: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """Which of those `among` are the latest, about this share of them: examples of one time stay together."""
    own = np.sort(times[among])
    count = max(1, round(len(own) * share))
    bound = own[len(own) - count] if len(own) > count else np.inf
    chosen = times >= bound
    if not (among & ~chosen).any():  # all of them are of the time of the bound
        chosen = times > bound
    return among & chosen


def group_code(group: str) -> int:
    """A number for a group, the same whatever other groups there are: of 64 bits of its SHA-256."""
    return int.from_bytes(hashlib.sha256(group.encode("utf-8", "surrogatepass")).digest()[:8], signed=True)


def row_targets(dataset: Kind, examples: Examples) -> list[str | float]:
    """What the target of each row is called: its class by name, which stays when others are added, or its number."""
    labels = examples.labels.tolist()
    return [dataset.classes[label] for label in labels] if dataset.classes else labels


def rows_of(columns: Columns, targets: Sequence[Any], chosen: NDArray[np.int64]) -> Iterator[tuple[str, ...]]:
    """The cells of the chosen rows, the target last; a gap is an empty one, a number so that it is read back
    exactly."""
    for start in range(0, len(chosen), _ROWS):
        block = chosen[start : start + _ROWS]
        texts = []
        for values in columns.values.values():
            if isinstance(values, list):
                texts.append([values[row] or "" for row in block.tolist()])
            else:
                texts.append([repr(value) if value == value else "" for value in values[block].tolist()])
        own = [targets[row] for row in block.tolist()]
        yield from zip(*texts, [value if isinstance(value, str) else repr(value) for value in own], strict=True)

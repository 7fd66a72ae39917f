"""What `sources.raw.read_raw` gives, made of arrays."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from keras_pipeline.sources.kinds.kind import Columns
from keras_pipeline.sources.raw import Raw, RawDescription


def described(given: Any, class_names: Sequence[str], **more: Any) -> RawDescription:
    description = {
        "format": 2, "name": "own", "title": "My own", "licence": "none stated", "definition": "0" * 64,
        "input": given, "class_names": list(class_names), "drawing": None, "preparation": None,
        "images": {"train": 1, "test": 1}, "left_out": 0,
        "source": {"files": 3, "bytes": 12_300_000, "sha256": "ab" * 32}, "facts": {}, "origins": [], "files": {},
    }  # fmt: skip
    return cast(RawDescription, {**description, **more})


def raw_images(images: Any, labels: Any, class_names: Sequence[str], **more: Any) -> Raw:
    """All of them train; every second one is test, too."""
    given = {"kind": "images", "shape": list(images.shape[1:]), "dtype": images.dtype.str, "low": 0, "high": 255}
    of_each = {"train": labels, "test": labels[::2]}
    arrays = {"train": images, "test": images[::2]}
    return Raw(described(given, class_names, **more), cast(Any, arrays), {}, cast(Any, of_each), None, None)


def raw_table(count: int = 60) -> Raw:
    random = np.random.default_rng(0)
    columns = Columns({"x": random.normal(size=count), "c": ["a", "b", None] * (count // 3)}, target="answer")
    kinds = [{"name": "x", "kind": "number"}, {"name": "c", "kind": "category"}]
    given = {"kind": "table", "columns": kinds, "target": "answer", "missing": "median", "missing_values": []}
    labels = random.integers(0, 2, count)
    both: Any = {"train": columns, "test": columns}
    return Raw(described(given, ["no", "yes"]), {}, both, cast(Any, {"train": labels, "test": labels}), None, None)

"""A dataset of a few images with the files of a real one, for tests that need no real one."""

import gzip
import json
from hashlib import md5, sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keras_pipeline.sources.files import formats
from keras_pipeline.sources.kinds.kind import Download, RemoteFile

Algorithm = Literal["content_sha256", "md5"]

NAMES = {
    "train-images": "train-images-idx3-ubyte.gz",
    "train-labels": "train-labels-idx1-ubyte.gz",
    "test-images": "t10k-images-idx3-ubyte.gz",
    "test-labels": "t10k-labels-idx1-ubyte.gz",
}


def payloads(seed: int = 0, train: int = 6, test: int = 3) -> dict[str, bytes]:
    """IDX files by role: so many train and test images of noise, which gzip cannot make smaller."""
    random = np.random.default_rng(seed)
    return {
        f"{split}-{kind}": formats.write_idx(random.integers(0, top, shape, dtype=np.uint8))
        for split, count in (("train", train), ("test", test))
        for kind, top, shape in (("images", 256, (count, 28, 28)), ("labels", 10, (count,)))
    }


def compressed(contents: dict[str, bytes]) -> dict[str, bytes]:
    """The .gz files by role."""
    return {role: gzip.compress(content, mtime=0) for role, content in contents.items()}


def row(contents: dict[str, bytes], *mirrors: str, algorithm: Algorithm = "content_sha256") -> Download:
    """What a dataset file says of where these payloads are, with digests of the given kind."""
    envelopes = compressed(contents)
    digests = {
        role: {"content_sha256": sha256(content).hexdigest(), "md5": md5(envelopes[role]).hexdigest()}
        for role, content in contents.items()
    }
    files = [
        RemoteFile(name=name, content_bytes=len(contents[role]), **{algorithm: digests[role][algorithm]})
        for role, name in NAMES.items()
    ]
    return Download(mirrors=mirrors, files=tuple(files))


def write_file(
    folder: Path, contents: dict[str, bytes], *mirrors: str, name: str = "tiny", counts: bool = True
) -> Path:
    """datasets/NAME.yaml in `folder` for these payloads; as YAML, JSON will do."""
    values: dict[str, Any] = {
        "kind": "idx",
        "title": "Tiny",
        "licence": "none",
        "download": row(contents, *mirrors).model_dump(exclude_none=True, mode="json"),
        "size": [28, 28],
        "train": {"images": NAMES["train-images"], "labels": NAMES["train-labels"]},
        "test": {"images": NAMES["test-images"], "labels": NAMES["test-labels"]},
        "classes": list("0123456789"),
    }
    if counts:
        values["counts"] = {split: len(contents[f"{split}-labels"]) - 8 for split in ("train", "test")}
    path = folder / "datasets" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1), encoding="utf-8")
    return path


def write_own(folder: Path, count: int = 200) -> Path:
    """datasets/own.yaml for one file of images and one of labels, in the folder `own`; a digest is recorded that is not
    theirs."""
    random = np.random.default_rng(0)
    (folder / "own").mkdir()
    (folder / "own" / "images").write_bytes(formats.write_idx(random.integers(0, 256, (count, 4, 3), np.uint8)))
    (folder / "own" / "labels").write_bytes(formats.write_idx(random.integers(0, 2, count).astype(np.uint8)))
    path = folder / "datasets" / "own.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        "kind: idx\npath: own\nsize: [4, 3]\ntrain: {images: images, labels: labels}\nclasses: [a, b]\n"
        f"recorded: {{files: 1, bytes: 1, sha256: {'a' * 64}}}\n"
    )
    return path

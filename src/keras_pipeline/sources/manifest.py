"""dataset.json: which dataset the raw files beside it are, and the digest of each."""

from pathlib import Path

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from keras_pipeline.config.datasets import DATASETS, Dataset
from keras_pipeline.core.json_files import Digest, Name, read_json, refuse

IMAGES = ("train-images", "train-labels", "test-images", "test-labels")
TABLES = ("train.csv", "test.csv")


class RawFile(TypedDict):
    """One of the raw files: what is read of it."""

    sha256: Digest


class Manifest(TypedDict):
    """What is read of dataset.json; fetch writes more, for people."""

    name: Name
    files: dict[Name, RawFile]


MANIFEST = TypeAdapter(Manifest)


def roles(dataset: Dataset) -> tuple[str, ...]:
    """The names of a dataset's raw files."""
    return TABLES if dataset.columns else IMAGES


def read_manifest(raw: Path) -> Manifest:
    """The dataset.json of the folder `raw`. Raises DataError where it is missing, damaged, of a dataset that is not
    known, or names other files than that dataset has."""
    return read_json(raw / "dataset.json", MANIFEST, "fetch", check=_check)


def _check(manifest: Manifest) -> None:
    if manifest["name"] not in DATASETS:
        refuse("name", manifest["name"], f"one of {', '.join(DATASETS)}")
    expected = roles(DATASETS[manifest["name"]])
    if sorted(manifest["files"]) != sorted(expected):
        refuse("files", sorted(manifest["files"]), f"the files {', '.join(expected)}")

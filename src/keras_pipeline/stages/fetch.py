"""fetch: the dataset's own files, verified, in data/raw."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_pipeline.config.datasets import DATASETS, Dataset
from keras_pipeline.core import files, process
from keras_pipeline.core.errors import DataError
from keras_pipeline.sources import formats
from keras_pipeline.sources.download import download_dataset
from keras_pipeline.sources.made import MADE
from keras_pipeline.sources.manifest import IMAGES, TABLES, read_manifest, roles

if TYPE_CHECKING:
    from keras_pipeline.config.params import Params


def fetch_dataset(params: "Params", raw: Path, downloads: Path) -> None:
    """Make `raw` hold the four IDX files of `params.fetch.dataset`, or the two CSV files of a table, and dataset.json,
    written last.

    dataset.json tells name, title, licence, origins, and of each file its SHA-256, size and published digest;
    the same dataset gives the same bytes. Where all is in place already, nothing is read from `downloads` or
    the network and nothing is written. Raises DownloadError, DataError, BusyError, or OSError (disk).
    """
    dataset = DATASETS[params.fetch.dataset]
    with files.lock_folder(raw.parent):
        if _in_place(dataset, raw):
            print(f"{dataset.name}: already in {raw}/, verified.")
            return
        payloads = _payloads(dataset, downloads)
        with process.time_part("verify"):
            for split, count in (("train", dataset.train_count), ("test", dataset.test_count)):
                _check(dataset, split, count, payloads)
        with process.time_part("write"):
            _write(dataset, payloads, raw)
        things = "rows" if dataset.columns else "images"
        print(f"{dataset.name}: {dataset.train_count} train and {dataset.test_count} test {things} in {raw}/.")


def download_only(params: "Params", raw: Path, downloads: Path) -> None:
    """Have the verified .gz files of `params.fetch.dataset` in `downloads`, where `fetch_dataset` looks for them.

    Nothing is done for a dataset without files, nor where `raw` is in place. Raises as `fetch_dataset` does.
    """
    dataset = DATASETS[params.fetch.dataset]
    with files.lock_folder(raw.parent):
        if dataset.files and not _in_place(dataset, raw):
            _payloads(dataset, downloads)


def _payloads(dataset: Dataset, downloads: Path) -> dict[str, bytes]:
    if not dataset.files:
        arrays = MADE[dataset.name]()
        if dataset.columns:
            return {role: formats.write_csv(dataset.columns, rows) for role, rows in arrays.items()}
        return {role: formats.write_idx(array) for role, array in arrays.items()}
    mirrors = [mirror.strip() for mirror in os.environ.get("KERAS_PIPELINE_MIRRORS", "").split(",")]
    with process.time_part("download"):
        return download_dataset(dataset, downloads / dataset.name, [mirror for mirror in mirrors if mirror])


def _check(dataset: Dataset, split: str, count: int, payloads: Mapping[str, bytes]) -> None:
    name = f"{dataset.name}, {split}"
    if dataset.columns:
        rows = formats.read_csv(payloads[f"{split}.csv"], name, dataset.columns)
        if len(rows) != count:
            raise DataError(
                f"{name}: got {len(rows)} rows. Expected: {count}, as datasets.py has it. Correct the row there."
            )
        return
    images = formats.read_idx(payloads[f"{split}-images"], f"{name} images")
    labels = formats.read_idx(payloads[f"{split}-labels"], f"{name} labels")
    formats.check_pair(images, labels, len(dataset.class_names), name)
    expected = (count, *dataset.shape[:2])
    if images.shape != expected:
        raise DataError(
            f"{name}: got images of the shape {images.shape}. Expected: {expected}, as datasets.py has it. "
            "Correct the row there, or use another source."
        )


def _description(dataset: Dataset, raw_files: Mapping[str, tuple[str, int]]) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "title": dataset.title,
        "licence": dataset.licence,
        "origins": list(dataset.mirrors),
        "files": {
            role: {"sha256": digest, "bytes": size}
            | ({dataset.files[role].algorithm: dataset.files[role].digest} if dataset.files else {})
            for role, (digest, size) in raw_files.items()
        },
    }


def _in_place(dataset: Dataset, raw: Path) -> bool:
    if not all((raw / role).is_file() for role in roles(dataset)):
        return False
    try:
        recorded = read_manifest(raw)
        raw_files = {role: (files.file_sha256(raw / role), (raw / role).stat().st_size) for role in roles(dataset)}
    except DataError:
        return False
    expected = _description(dataset, raw_files)
    if recorded == expected:
        return True
    if recorded["name"] == dataset.name:
        changed = [role for role, (digest, _) in raw_files.items() if digest not in str(recorded)]
        print(f"{raw}/: not as fetch wrote it ({', '.join(changed) or 'dataset.json'}). It is made anew.")
    return False


def _write(dataset: Dataset, payloads: Mapping[str, bytes], raw: Path) -> None:
    # Without dataset.json nobody takes a half-written set for a whole one.
    (raw / "dataset.json").unlink(missing_ok=True)
    for name in {*IMAGES, *TABLES}.difference(roles(dataset)):
        (raw / name).unlink(missing_ok=True)
    for role in roles(dataset):
        files.write_atomically(raw / role, payloads[role])
    raw_files = {role: (hashlib.sha256(payloads[role]).hexdigest(), len(payloads[role])) for role in roles(dataset)}
    files.write_json(raw / "dataset.json", _description(dataset, raw_files))

"""The stage normalize: raw images to scaled training, validation and test arrays."""

import mmap
from dataclasses import asdict
from pathlib import Path

import numpy as np

from keras_pipeline import files, idx, spent
from keras_pipeline.datasets import DATASETS
from keras_pipeline.errors import DataError, ParamsError
from keras_pipeline.params import Params
from keras_pipeline.preprocessing import blocks, fit_scaling, overlap, stratified_part, stratified_split, write_split


def run(params: Params, raw: Path, normalized: Path) -> None:
    """Write {train,validation,test}_{images,labels}.npy and, last, statistics.json.

    Images are float32 (n, height, width, 1), labels int64 (n,). The scaling's constants come from the
    training split only. Raises DataError when a raw file is not the one that fetch wrote, ParamsError where more
    training images are asked for than there are.
    """
    with files.lock(normalized.parent):
        dataset = files.read_json(raw / "dataset.json", written_by="fetch", keys=("name", "files"))
        with spent.on("data"):
            arrays = {role: _read(raw / role, dataset["files"][role]["sha256"]) for role in dataset["files"]}
        images, labels, asked = arrays["train-images"], arrays["train-labels"], params.normalize
        train, validation = stratified_split(labels, asked.validation_share, asked.split_seed)
        if asked.training_images != "all":
            if asked.training_images > len(train):
                raise ParamsError(
                    f"params.yaml: normalize.training_images: {asked.training_images}, but of {len(labels):,} images "
                    f"{len(train):,} are left beside those for validation. Use at most as many, or all."
                )
            train = train[stratified_part(labels[train], asked.training_images, asked.split_seed)]
        everything = np.arange(len(arrays["test-labels"]))
        splits = {
            "train": (images, labels, train),
            "validation": (images, labels, validation),
            "test": (arrays["test-images"], arrays["test-labels"], everything),
        }
        scaling = fit_scaling(asked.scaling, blocks(images, train))
        duplicates = overlap(images, arrays["test-images"])
        digests: dict[str, str] = {}
        for name, (pixels, classes, chosen) in splits.items():
            with spent.on("write"):
                digests |= write_split(normalized, name, blocks(pixels, chosen), classes[chosen], scaling)
        names = list(DATASETS[dataset["name"]].class_names)
        statistics = {
            "dataset": dataset["name"],
            "normalize": asked.model_dump(),
            "class_names": names,
            "scaling": asdict(scaling),
            "images": {split: len(chosen) for split, (_, _, chosen) in splits.items()},
            "class_counts": {
                split: np.bincount(classes[chosen], minlength=len(names)).tolist()
                for split, (_, classes, chosen) in splits.items()
            },
            "test_images_also_in_train": duplicates,
            "sha256": digests,
        }
        files.write_json(normalized / "statistics.json", statistics)
    sizes = ", ".join(f"{count:,} {split}" for split, count in statistics["images"].items())
    print(f"normalize: {dataset['name']}, {sizes} images, scaling {scaling.name}")
    print(f"normalize: {duplicates} of the test images stand in the training file too")


def _read(path: Path, sha256: str) -> np.ndarray:
    if not path.is_file() or files.sha256(path) != sha256:
        raise DataError(
            f"{path}: not the file that the stage 'fetch' wrote (its SHA-256 should be {sha256[:12]}…). "
            "Run `dvc repro fetch` to have it written again."
        )
    with path.open("rb") as file:
        return idx.read(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), str(path))

"""The numbers in a .keras file, and nothing else of it: read without a framework, refused where more is in it."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError, ModelFileError

MEMBERS = ["config.json", "metadata.json", "model.weights.h5"]
DEEPEST = 16
REMEDY = "The stage 'train' writes it: run `dvc repro train`, or `dvc checkout --force {path}` to get the old one back."


def read_weights(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of the network by its name in the file.

    Raises ModelFileError where it is missing, damaged or holds anything but what `model_file.save_network` writes:
    three members that are not compressed, plain arrays, no link to another place or file.
    """
    try:
        content = files.read_content(path, "train", most=files.LARGEST_MODEL)
    except DataError as fault:
        raise ModelFileError(str(fault)) from None
    try:
        return dict(_arrays(content))
    except Exception as fault:  # whatever zipfile and HDF5 raise for bytes that are not theirs
        reason = str(fault).strip().split("\n")[0][:200] or type(fault).__name__
        raise ModelFileError(f"{path}: no network of ours: {reason}. {REMEDY.format(path=path)}") from None


def _arrays(content: bytes) -> Iterator[tuple[str, NDArray[Any]]]:
    import h5py  # type: ignore[import-untyped]

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if sorted(one.filename for one in members) != MEMBERS:
            names = ", ".join(ascii(one.filename) for one in members[:5])
            raise ValueError(f"members {names}. Expected: {', '.join(MEMBERS)}, each once")
        if any(one.compress_type != zipfile.ZIP_STORED or one.file_size > len(content) for one in members):
            raise ValueError("compressed members. Expected: members as they are")
        weights = archive.read("model.weights.h5")
    with h5py.File(io.BytesIO(weights), "r") as file:
        yield from _walk(h5py, file, "", len(weights))


def _walk(h5py: Any, group: Any, above: str, most: int) -> Iterator[tuple[str, NDArray[Any]]]:
    if above.count("/") > DEEPEST:
        raise ValueError(f"groups nested deeper than {DEEPEST}")
    for name in group:
        place = f"{above}{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{place} is a link. Expected: an array or a group in the file itself")
        entry = group[name]
        if isinstance(entry, h5py.Group):
            yield from _walk(h5py, entry, f"{place}/", most)
            continue
        plain = isinstance(entry, h5py.Dataset) and not entry.external and not entry.is_virtual and not entry.chunks
        if not plain or entry.dtype.kind not in "fiub" or entry.nbytes > most:
            raise ValueError(f"{place} is no plain array of numbers")
        yield place, np.asarray(entry)

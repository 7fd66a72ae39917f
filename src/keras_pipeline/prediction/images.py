"""Pictures and arrays as raw images (k, height, width, channels) of the dataset that a network was trained on."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.core.errors import DataError
from keras_pipeline.data.statistics import DatasetDescription
from keras_pipeline.prediction.inputs import Block, Inputs, listed
from keras_pipeline.prediction.pixel_rows import open_pixel_rows
from keras_pipeline.serving.inputs.pictures import image_of_picture
from keras_pipeline.sources.kinds.arrays import Array, list_arrays
from keras_pipeline.sources.kinds.stored import Blocks, Part
from keras_pipeline.sources.picture_files.decoding import DecodedPictures
from keras_pipeline.sources.pictures import ENDINGS, Preparation
from keras_pipeline.sources.source_files import SourceFiles
from keras_pipeline.sources.tables.text_tables import is_table

ARRAYS = (".npy", ".npz")
TOGETHER = 256
"""So many pictures are in a block where they are prepared one by one."""
LEFT_OUT = 10
"""So many pictures that were left out are named."""


def open_images(source: SourceFiles, member: str | None, dataset: DatasetDescription, *, skip: bool) -> Inputs:
    """The pictures of a file, a folder or an archive, else the one array of images; `member`: its name among several;
    `skip`: whether damaged pictures are left out, or refused. Raises DataError where there are neither."""
    names = source.names()
    if len(names) == 1 and is_table(names[0]):
        _require_bytes(source, "a table of pixels, which are whole numbers from 0 to 255", dataset)
        return open_pixel_rows(source, names[0], dataset)
    pictures = [name for name in names if name.lower().endswith(ENDINGS)]
    if member is None and (pictures or not any(name.lower().endswith(ARRAYS) for name in names)):
        return _pictures(source, pictures or _only(source, names), len(names), dataset, skip=skip)
    return _array(source, member, dataset)


def _only(source: SourceFiles, names: Sequence[str]) -> Sequence[str]:
    """A file that is called as no picture is: it may be one."""
    if len(names) == 1:
        return names
    raise DataError(
        f"{source.name}: got {listed(names) or 'no file'}. Expected: pictures ({' '.join(ENDINGS)}), or one .npy or "
        ".npz file. Name a folder that has some, or a file."
    )


def _pictures(
    source: SourceFiles, names: Sequence[str], count: int, dataset: DatasetDescription, *, skip: bool
) -> Inputs:
    _require_bytes(source, "pictures, whose pixels have 8 bits", dataset)
    inputs = Inputs("file", len(names), iter(()))
    if count > len(names):
        left = count - len(names)
        files = "1 file that is no picture was" if left == 1 else f"{left:,} files that are no pictures were"
        inputs.notes.append(f"{files} left out")
    inputs.blocks = _undamaged(inputs, source, names, _decoded(source, names, dataset), skip=skip)
    return inputs


def _require_bytes(source: SourceFiles, received: str, dataset: DatasetDescription) -> None:
    given: Any = dataset["input"]
    if (given["dtype"], given["low"], given["high"]) != ("|u1", 0, 255):
        raise DataError(
            f"{source.name}: got {received}. Expected: arrays (.npy or .npz), for the dataset {dataset['dataset']} has "
            f"pixels of {np.dtype(given['dtype']).name} from {given['low']:g} to {given['high']:g}."
        )


Decoded = Iterator[tuple[NDArray[Any], list[str | None]]]


def _decoded(source: SourceFiles, names: Sequence[str], dataset: DatasetDescription) -> Decoded:
    """Images, and of each None or why it is none."""

    def contents(start: int) -> Iterator[bytes]:
        for name in names[start:]:
            with source.open(name) as file:
                yield file.read()

    if dataset["preparation"]:
        yield from DecodedPictures(contents, names, Preparation(**dataset["preparation"]), skip=True).blocks()
        return
    shape = tuple(dataset["shape"])
    waiting = contents(0)
    while some := list(itertools.islice(waiting, TOGETHER)):
        images, reasons = np.zeros((len(some), *shape), np.uint8), list[str | None]()
        for index, content in enumerate(some):
            try:
                images[index] = image_of_picture(content, shape, None, dataset["drawing"])
                reasons.append(None)
            except ValueError as fault:
                reasons.append(str(fault))
        yield images, reasons


def _undamaged(
    inputs: Inputs, source: SourceFiles, names: Sequence[str], decoded: Decoded, *, skip: bool
) -> Iterator[Block]:
    done, damaged = 0, list[str]()
    for images, reasons in decoded:
        whole = [index for index, reason in enumerate(reasons) if reason is None]
        for index, reason in enumerate(reasons):
            if reason is not None:
                place = source.name if len(names) == 1 else f"{source.name}/{names[done + index]}"
                if not skip:
                    raise DataError(f"{place}: got {reason}. Replace or remove it, or leave it out: --damaged skip.")
                damaged.append(f"{place} was left out: {reason}" if len(damaged) < LEFT_OUT else "")
        yield [names[done + index] for index in whole], images[whole]
        done += len(images)
    inputs.notes += damaged[:LEFT_OUT]
    if len(damaged) > LEFT_OUT:
        inputs.notes.append(f"{len(damaged):,} damaged pictures were left out, of which {LEFT_OUT} are named above")


def _array(source: SourceFiles, member: str | None, dataset: DatasetDescription) -> Inputs:
    part = _find(source, member, dataset)
    given: Any = dataset["input"]
    shape, wanted = tuple(dataset["shape"]), np.dtype(given["dtype"])
    allowed = "biu" if wanted.kind == "u" else "biuf"
    if np.dtype(part.dtype).kind not in allowed:
        hint = "" if wanted.kind != "u" else " The network scales them itself: give them as the dataset has them."
        raise DataError(
            f"{part.name}: got {np.dtype(part.dtype).name}. Expected: {wanted.name} from {given['low']:g} to "
            f"{given['high']:g}, as the images of {dataset['dataset']} are.{hint}"
        )

    def arranged(block: NDArray[Any]) -> NDArray[Any]:
        block = block.reshape(len(block), *shape)
        return block.astype(np.uint8) if block.dtype.kind == "b" else block

    blocks = Blocks([part], arranged, given["dtype"], given["low"], given["high"])

    def numbered() -> Iterator[Block]:
        start = 0
        for images, _ in blocks.blocks():
            yield list(map(str, range(start, start + len(images)))), images
            start += len(images)

    return Inputs("index", part.count, numbered())


def _find(source: SourceFiles, member: str | None, dataset: DatasetDescription) -> Part:
    """The one array of the right shape."""
    height, width, channels = dataset["shape"]
    arrays = [one for one in list_arrays(source) if member is None or _is_called(one, member)]
    parts = [one.part() for one in arrays]
    fitting = [
        part
        for part in parts
        if part.shape == (height, width, channels) or (channels == 1 and part.shape == (height, width))
    ]
    if len(fitting) == 1:
        return fitting[0]
    shape = f"(n, {height}, {width}, {channels})" + (f" or (n, {height}, {width})" if channels == 1 else "")
    if fitting:
        raise DataError(
            f"{source.name}: got several arrays of images: {listed([part.name for part in fitting])}. Expected: one. "
            f"Name it, such as {fitting[0].name}."
        )
    found = ", ".join(f"{part.name} {(part.count, *part.shape)}" for part in parts[:5]) or "no such array"
    hint = ""
    if any((part.count, *part.shape) in ((height, width), (height, width, channels)) for part in parts):
        hint = " Of one image give array[numpy.newaxis]."
    raise DataError(f"{source.name}: got {found}. Expected: the shape {shape} of {dataset['dataset']}.{hint}")


def _is_called(array: Array, member: str) -> bool:
    return array.key.rpartition("/")[2] == member.removesuffix(".npy")

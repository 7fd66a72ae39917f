"""`keras-pipeline predict`: the answers of a trained network to what a path holds, as CSV.

A block at a time, so that any number of inputs takes the same memory.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError, ModelFileError, ParamsError
from keras_pipeline.core.terminal import Progress
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.data.splits import prediction_batch
from keras_pipeline.data.statistics import DatasetDescription
from keras_pipeline.prediction.answers import Answers
from keras_pipeline.prediction.images import open_images
from keras_pipeline.prediction.inputs import Block, Inputs, open_path
from keras_pipeline.prediction.networks import TrainedNetwork, find_network, open_network
from keras_pipeline.prediction.rows import open_rows

Damaged = Literal["refuse", "skip"]
BATCHES_TOGETHER = 5
"""So many batches does Keras get at a time: it copies all of them."""


def predict(path: Path, model: str | None, output: Path | None, damaged: Damaged) -> None:
    """Write what a network says of each input of a path as CSV, to standard output where there is no `output`.

    `model`: see `networks.find_network`; `damaged`: what happens to pictures that cannot be read. Of a file nothing is
    written before all is known. Raises DataError with the place of an input that is not as the network's dataset has
    them, and whatever `find_network` does.
    """
    if output is not None and output.exists() and path.exists() and output.samefile(path):
        raise ParamsError(f"--output {output}: it is what is to be read. Expected: another file.")
    with _opened(output) as write, find_network(model) as trained:
        inputs = open_inputs(path, trained.record["dataset"], damaged)
        answers = Answers(trained.record["dataset"], inputs.place)
        count = _write_answers(trained, inputs, answers, write, progress=output is not None)
        if not count:
            raise DataError(f"{path}: got no input. Expected: one at least.")
    for note in inputs.notes:
        print(f"predict: {note}", file=sys.stderr)
    if output is not None:
        print(f"predict: {output}: {count:,} answers of {trained.name}, run {trained.record['key'][:12]}")


def open_inputs(path: Path, dataset: DatasetDescription, damaged: Damaged) -> Inputs:
    """The inputs for a network of this dataset. Raises DataError where the path is not there or holds something else;
    of single inputs it is raised as they are read."""
    source, member = open_path(path)
    if dataset["input"]["kind"] == "table":
        return open_rows(source, dataset["input"])
    return open_images(source, member, dataset, skip=damaged == "skip")


@contextmanager
def _opened(output: Path | None) -> Iterator[Callable[[str], object]]:
    if output is None:
        answers = sys.stdout
        with redirect_stdout(sys.stderr):  # whatever else is printed is no answer
            yield answers.write
        answers.flush()
    else:
        with files.writing_atomically(output, 0) as file:
            yield lambda text: file.write(text.encode("utf-8", "backslashreplace"))


def _write_answers(
    trained: TrainedNetwork, inputs: Inputs, answers: Answers, write: Callable[[str], object], *, progress: bool
) -> int:
    """How many answers were written, below a header."""
    dataset, done = trained.record["dataset"], 0
    scaling, size = Scaling(**dataset["scaling"]), prediction_batch(dataset["shape"])
    answer: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None
    bar = Progress("predict", inputs.count, "input") if progress and inputs.count else None
    try:
        for places, raw in regrouped(inputs.blocks, size * BATCHES_TOGETHER):
            if answer is None:  # what is wrong with the first inputs was said before a framework is started
                answer = open_network(trained, size)
                write(answers.header())
            outputs = answer(scaling.apply(raw))
            if not np.isfinite(outputs).all():
                wrong = places[int(np.argwhere(~np.isfinite(outputs))[0, 0])]
                raise ModelFileError(
                    f"{trained.name}: got no finite number for {inputs.place} {wrong}. Expected: one. The input, "
                    "or the network's weights, are too large for 32 bits: train it again with a lower learning rate."
                )
            write(answers.rows(places, outputs))
            done += len(places)
            if bar:
                bar.advance(done)
    finally:
        if bar:
            bar.close()
    return done


def regrouped(blocks: Iterator[Block], size: int) -> Iterator[tuple[Sequence[str], NDArray[Any]]]:
    """The same inputs in blocks of exactly `size`, but for the last: in the batches in which `evaluate` asks."""
    waiting: list[Block] = []
    count = 0
    for places, raw in blocks:
        waiting.append((places, raw))
        count += len(places)
        while count >= size:
            joined, left = _joined(waiting), count - size
            yield joined[0][:size], joined[1][:size]
            waiting, count = [(joined[0][size:], joined[1][size:])] if left else [], left
    if count:
        yield _joined(waiting)


def _joined(blocks: Sequence[Block]) -> tuple[list[str], NDArray[Any]]:
    return [place for places, _ in blocks for place in places], np.concatenate([raw for _, raw in blocks])

"""Where a network trains: one row per strategy, from its name to TensorFlow's object.

`check` needs no TensorFlow and refuses, before anything starts, what cannot be shared by the devices.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from keras_pipeline.errors import MachineError, ParamsError
from keras_pipeline.params import Train

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before the first import; 2: errors only


def _none(devices: list[str]) -> Any:
    return None


def _one_device(devices: list[str]) -> Any:
    import tensorflow as tf

    return tf.distribute.OneDeviceStrategy(devices[0])


def _mirrored(devices: list[str]) -> Any:
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(devices)


STRATEGIES: dict[str, Callable[[list[str]], Any]] = {
    "none": _none,
    "one_device": _one_device,
    "mirrored": _mirrored,
}


def start_tensorflow() -> None:
    """Import TensorFlow and Keras and look for devices, without the lines that this prints unless it fails.

    TensorFlow's C++ part writes to file descriptor 2 before any log level counts: six lines in each process
    that tell a user without a GPU, among other things, of an internal error.
    """
    sys.stderr.flush()
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as withheld:
        os.dup2(withheld.fileno(), 2)
        try:
            import keras  # noqa: F401
            import tensorflow as tf

            tf.config.list_physical_devices()
        except BaseException:
            withheld.seek(0)
            os.write(standard_error, withheld.read())
            raise
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)


@dataclass(frozen=True)
class Strategy:
    """An opened strategy: build, compile and fit inside `scope()`."""

    name: str
    devices: tuple[str, ...]
    scope: Callable[[], AbstractContextManager[Any]]

    @property
    def replicas(self) -> int:
        """How many copies of the network train together; each gets batch size / replicas images a step."""
        return len(self.devices)


def check(train: Train, images: dict[str, int]) -> int:
    """The global batch size as a number, for splits of these sizes.

    Raises ParamsError where the training images do not make one batch, or where the first batch that a
    replica would get is not whole: TensorFlow then fails in the middle of the epoch.
    """
    size = images["train"] if train.batch_size == "full" else train.batch_size
    if size > images["train"]:
        raise ParamsError(
            f"params.yaml: train.batch_size: {size} is more than the {images['train']} training images. "
            f"Expected: at most {images['train']}, or full."
        )
    if size % train.devices:
        raise ParamsError(
            f"params.yaml: train.batch_size: full is {size} images, which {train.devices} devices cannot share "
            f"evenly. Use a number that is a multiple of {train.devices}, such as {size - size % train.devices}."
        )
    return size


def open_strategy(train: Train) -> Strategy:
    """Import TensorFlow and open the strategy on the devices asked for.

    Raises MachineError naming what there is when a device is lacking: TensorFlow itself would train on
    another device without a word, or hang.
    """
    start_tensorflow()
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    kind = train.device_type if train.device_type != "auto" else ("gpu" if gpus else "cpu")
    if kind == "gpu" and len(gpus) < train.devices:
        have = f"{len(gpus)} GPU(s) and one CPU" if gpus else "no GPU, only a CPU"
        raise MachineError(
            f"params.yaml: train.devices: {train.devices} GPU(s) asked for, but this machine has {have}. "
            f"Use devices: {len(gpus)}, or device_type: cpu."
            if gpus
            else f"params.yaml: train.device_type: gpu asked for, but this machine has {have}. "
            "Use device_type: auto or cpu; for a GPU see `keras-pipeline doctor`."
        )
    if kind == "cpu":
        # A GPU that was not asked for must not be used in silence.
        tf.config.set_visible_devices([], "GPU")
        if train.devices > 1:
            whole = tf.config.list_physical_devices("CPU")[0]
            tf.config.set_logical_device_configuration(whole, [tf.config.LogicalDeviceConfiguration()] * train.devices)
    devices = [f"/{kind}:{number}" for number in range(train.devices)]
    strategy = STRATEGIES[train.strategy](devices)
    return Strategy(train.strategy, tuple(devices), strategy.scope if strategy else nullcontext)

"""What Keras computes with: starting it, its devices, its memory, its global state."""

import os
import random
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_pipeline.core import process

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "GRPC_VERBOSITY": "ERROR", "GLOG_minloglevel": "2"}
"""What the frameworks' C++ parts read before their first line: errors only."""
UNUSED = ("sklearn", "pandas", "matplotlib", "PIL")
"""What Keras imports for functions of its own that are not used here: a second and a half."""
UNUSED_BY = {"tensorflow": (*UNUSED, "jax", "scipy"), "jax": UNUSED, "torch": UNUSED}


def start_framework(backend: str = "tensorflow", join: Callable[[], None] = lambda: None) -> None:
    """Import Keras with its backend and look for devices, without the lines that this prints unless it fails.

    `join` is called in between: JAX must join its cluster before it looks.

    TensorFlow's C++ part writes to file descriptor 2 before any log level counts: six lines in each process
    that tell a user without a GPU, among other things, of an internal error.
    """
    os.environ["KERAS_BACKEND"] = backend
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    sys.stderr.flush()
    standard_error = os.dup(2)
    with process.time_part("import"), tempfile.TemporaryFile() as withheld:
        os.dup2(withheld.fileno(), 2)
        try:
            with hidden_packages(UNUSED_BY[backend]):
                import keras
            join()
            count_gpus(backend)
        except BaseException:
            withheld.seek(0)
            os.write(standard_error, withheld.read())
            raise
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)
    if keras.backend.backend() != backend:
        raise RuntimeError(f"Keras was imported with {keras.backend.backend()} before {backend} was asked for")


@contextmanager
def hidden_packages(packages: tuple[str, ...]) -> Iterator[None]:
    """Let imports of these fail, as where they are not installed, but for those that are imported already."""
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def count_gpus(backend: str) -> int:
    """How many GPUs the backend can use in this process."""
    if backend == "jax":
        import jax

        return len(jax.local_devices()) if jax.default_backend() == "gpu" else 0
    if backend == "torch":
        import torch

        return int(torch.cuda.device_count())
    import tensorflow as tf

    return len(tf.config.list_physical_devices("GPU"))


def device_memory(backend: str) -> int | None:
    """The bytes that arrays on the first device may take, where the backend tells it: JAX, of a GPU."""
    if backend != "jax":
        return None
    import jax

    told = jax.local_devices()[0].memory_stats() or {}
    return int(told["bytes_limit"]) if "bytes_limit" in told else None


def seed_everything(seed: int, precision: str) -> None:
    """Seed Python, NumPy and the framework, and set Keras' dtype policy: all are global, so before the build.

    Not by `keras.utils.set_random_seed`, which imports TensorFlow whatever the backend is.
    """
    import keras

    random.seed(seed)
    import numpy as np

    np.random.seed(seed)
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        tf.random.set_seed(seed)
    elif backend == "torch":
        import torch

        torch.manual_seed(seed)
    keras.config.set_dtype_policy(precision)


CGROUPS = ("memory.max", "memory/memory.limit_in_bytes")
"""Where Linux tells the limit of a container, of both versions."""


def memory_limit(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """The bytes of memory that this process may use at most: the machine's, or less by a container or `ulimit`."""
    import psutil

    limits = [psutil.virtual_memory().total]
    for name in CGROUPS:
        try:
            limits.append(int((groups / name).read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    own = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS)]
    return min([*limits, *(one for one in own if one != resource.RLIM_INFINITY)])

"""What Keras computes with: starting it, its devices, its memory, its global state."""

import os
import random
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from keras_pipeline.core import limits, process, terminal
from keras_pipeline.core.errors import MachineError, PipelineError
from keras_pipeline.models import settings

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "GRPC_VERBOSITY": "ERROR", "GLOG_minloglevel": "2"}
"""What the frameworks' C++ parts read before their first line: errors only."""
UNUSED = ("sklearn", "pandas", "matplotlib", "PIL")
"""What Keras imports for functions of its own that are not used here: a second and a half."""
UNUSED_BY = {"tensorflow": (*UNUSED, "jax", "scipy"), "jax": UNUSED, "torch": UNUSED}


TRIALS = {
    "tensorflow": "import tensorflow as tf; tf.function(lambda x: x + x, jit_compile=True)(tf.ones(1))",
    "jax": "import jax; jax.numpy.ones(1) + 1",
    "torch": "import torch; torch.ones(1) + 1",
}
"""Programs that begin to compute."""
NO_REASON = "no reason given"
ENDING = ("TF_", "XLA_", "LIBTPU_")
"""How the settings begin that end a process when the C++ parts cannot read them, but for values as these."""
SURE = r"\d{0,3}|(?i:true|false|on|off)|(--xla_(force_host_platform_device_count=\d+|gpu_deterministic_ops=true) ?)+"


LEAST_MEMORY = {"tensorflow": 600 * 10**6, "jax": 500 * 10**6, "torch": 500 * 10**6}
"""The bytes of memory that each takes for itself, whatever it trains."""
LEAST_DATA = {"tensorflow": 600 * 10**6, "jax": 1400 * 10**6, "torch": 1400 * 10**6}
LEAST_ADDRESSES = {"tensorflow": 1600 * 10**6, "jax": 1000 * 10**6, "torch": 1600 * 10**6}
"""What `ulimit -d` and `-v` must leave of each, for a small training with all that surrounds it: measured, and some
more, since their C++ parts end the process where they get none. A thread has addresses of its own, mostly unused."""
THREAD_ADDRESSES = 72 * 2**20


def require_framework(backend: str, more: int = 0) -> None:
    """Raise MachineError where the limits of this process leave too little for the backend and `more` bytes."""
    threads = 20 + 8 * (os.cpu_count() or 1)
    addresses = LEAST_ADDRESSES[backend] + threads * THREAD_ADDRESSES + more
    limits.require_memory(backend, addresses, LEAST_DATA[backend] + more)
    limits.require_threads(backend, threads)


def start_framework(
    backend: str = "tensorflow", join: Callable[[], None] = lambda: None, own: Mapping[str, str] | None = None
) -> None:
    """Import Keras with its backend and look for devices, without the lines that this prints unless it fails.

    It is the one place where a framework starts: the settings outside params.yaml are as `settings` says, and `own`
    are our own, which count for more. `join` is called in between: JAX must join its cluster before it looks. Raises
    MachineError naming the settings that are left where the framework cannot be started with them.

    TensorFlow's C++ part writes to file descriptor 2 before any log level counts: six lines in each process
    that tell a user without a GPU, among other things, of an internal error. Raises MachineError as
    `require_framework`.
    """
    begun = "keras" in sys.modules
    if not begun:
        require_framework(backend)
    taken = settings.settle(backend)
    if taken and not begun:  # else a framework has set it itself
        print(f"not used, because params.yaml decides: {', '.join(taken)}", file=sys.stderr)
    _try_settings(backend)
    left = settings.left(os.environ)
    os.environ.update(own or {})
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        _start(backend, join)
    except Exception as error:
        if isinstance(error, PipelineError) or not (
            blamed := {name: left[name] for name in left if name in str(error)}
        ):
            raise
        raise _refusal(backend, str(error), blamed) from error


def _try_settings(backend: str) -> None:
    """Begin to compute in a process of its own where a setting may end the process at once, at times without a word."""
    if backend in sys.modules or not suspects(""):
        return
    tried = subprocess.run(
        process.python("-c", TRIALS[backend]),
        env={**os.environ, **process.UTF8_OUTPUT},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if tried.returncode:
        raise _refusal(backend, tried.stderr, suspects(tried.stderr))


def suspects(said: str) -> dict[str, str]:
    """The settings that may be why a framework ended with these words: those that it names, and the daring ones."""
    left = settings.left(os.environ)
    daring = {name for name in left if name.startswith(ENDING) and not name.startswith("TF_CPP_")}
    daring = {name for name in daring if not re.fullmatch(SURE, left[name])}
    return {name: value for name, value in left.items() if name in daring or name in said}


def _refusal(backend: str, said: str, outside: Mapping[str, str]) -> MachineError:
    return MachineError(
        f"{backend} does not start in this environment ({last_words(said)}). Set outside of params.yaml: "
        f"{settings.as_text(outside)}. Correct these variables, or unset them."
    )


def last_words(said: str) -> str:
    """Why a process ended, by what it wrote: what the frameworks' C++ parts log as fatal, or the last line."""
    fatal = re.search(r"^F\d{4} .*?\] (.*)", said, re.MULTILINE)
    return (fatal[1] if fatal else (said.strip() or NO_REASON).splitlines()[-1]).strip()[:200]


def _start(backend: str, join: Callable[[], None]) -> None:
    with process.time_part("import"), terminal.withheld_errors():
        with process.no_garbage(), hidden_packages(UNUSED_BY[backend]):
            import keras
        join()
        count_gpus(backend)
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
            limits.append(int((groups / name).read_text(encoding="utf-8")))
        except (OSError, ValueError):  # not there, or "max"
            continue
    own = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS)]
    return min([*limits, *(one for one in own if one != resource.RLIM_INFINITY)])

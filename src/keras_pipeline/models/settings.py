"""The settings of the frameworks outside params.yaml: which are taken away, which count, and which change no result.

A training must be what params.yaml says, also in a shell and a home that have other wishes. What could make another
training of it is taken away before the first import, what changes the last bits or the speed stays and is recorded.
"""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

Kind = Literal["set", "taken away", "recorded", "kept"]
BEGINNINGS: dict[Kind, tuple[str, ...]] = {
    "set": ("KERAS_BACKEND", "KERAS_HOME"),
    "taken away": (
        "KERAS_", "JAX_", "JAX2TF_", "CHECK_VMA", "EAGER_CONSTANT_FOLDING", "MOCK_NUM_GPU_PROCESSES",
        "TORCH", "PYTORCH_", "TF2_", "TF_USE_LEGACY_KERAS",
        # train.precision says it:
        "TF_SET_ONEDNN_FPMATH_MODE", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE",
    ),
    "recorded": (
        # Not all that begins with TF_: Terraform's variables do, and hold passwords.
        "TF_AUTO", "TF_CONV2D_", "TF_CPU_", "TF_CUBLAS_", "TF_CUDA_", "TF_CUDNN_", "TF_CUFFT_", "TF_DEBUG_CUDNN_",
        "TF_DETERMINISTIC_", "TF_DISABLE_", "TF_EAGER_", "TF_ENABLE", "TF_FP16_", "TF_FUNCTION_", "TF_GPU_", "TF_JIT",
        "TF_MATMUL_", "TF_MKL_", "TF_NUM_", "TF_ONEDNN_", "TF_OVERRIDE_", "TF_PER_DEVICE_", "TF_USE_", "TF_XLA_",
        "XLA_", "NPY_", "NPROC",  # XLA begins so many threads
        "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_", "VECLIB_", "ONEDNN_", "DNNL_", "ATEN_",
        "GLIBC_TUNABLES",  # the choice of instructions of exp, log and others
        "CUBLAS", "CUDNN_", "NVIDIA_TF32_OVERRIDE", "NCCL_", "MIOPEN_", "ROCBLAS_", "LIBTPU_",
    ),
    "kept": (
        "TF_CONFIG", "KERAS_DISTRIBUTION_", "TORCHELASTIC_",  # who the workers are
        "JAX_PLATFORMS", "XLA_PYTHON_CLIENT_", "TF_FORCE_GPU_ALLOW_GROWTH",  # where, and in how much memory
        "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF",
        "TF_CPP_",  # what is printed
    ),
}  # fmt: skip
"""How the names begin of the variables that are set, taken away, recorded, or kept as changing no result.

The longest beginning that fits decides; a variable that none fits is no setting of a framework.
"""
OWN = "KERAS_PIPELINE_"
NOTHING_KEPT = os.devnull
"""Keras' home: it finds no keras.json in it and can write none. It would read ~/.keras, and make it."""


def kind_of(name: str) -> Kind | None:
    """What is done with an environment variable; None where it is no setting of a framework."""
    fitting = {one: kind for kind, names in BEGINNINGS.items() for one in names if name.startswith(one)}
    return fitting[max(fitting, key=len)] if fitting and not name.startswith(OWN) else None


def variables(kind: Kind, environ: Mapping[str, str]) -> dict[str, str]:
    """Those of a kind that are set, in the order of their names."""
    return {name: environ[name] for name in sorted(environ) if kind_of(name) == kind}


def left(environ: Mapping[str, str]) -> dict[str, str]:
    """Those that are set and that a framework reads: the recorded and the kept ones."""
    return {**variables("recorded", environ), **variables("kept", environ)}


def environment(backend: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment in which Keras computes with the backend, and with nothing else that params.yaml does not say."""
    left = {name: value for name, value in environ.items() if kind_of(name) != "taken away"}
    return left | {"KERAS_BACKEND": backend, "KERAS_HOME": NOTHING_KEPT}


def settle(backend: str) -> dict[str, str]:
    """Let `environment` be that of this process; what was taken away, by name."""
    taken = variables("taken away", os.environ)
    for name in taken:
        del os.environ[name]
    os.environ.update(environment(backend, {}))
    return taken


def keras_file(environ: Mapping[str, str]) -> Path | None:
    """The settings of Keras that a person has, and that are not read; None where there are none."""
    home = environ.get("KERAS_HOME") or os.path.join(environ.get("HOME", ""), ".keras")  # noqa: PTH118
    path = Path(home).expanduser() / "keras.json" if home.startswith(("/", "~")) else Path(home) / "keras.json"
    return path if os.path.lexists(path) else None


def as_text(named: Mapping[str, str]) -> str:
    """Variables and their values in one line, as a shell takes them."""
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in named.items())


def from_text(text: str) -> dict[str, str]:
    """The variables of `as_text` that are recorded ones; no other: the text may come from a stranger's record.

    Raises ValueError where a quotation does not end.
    """
    pairs = (word.partition("=") for word in shlex.split(text))
    return {name: value for name, _, value in pairs if kind_of(name) == "recorded"}

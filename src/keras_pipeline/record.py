"""models/run.json: which training made a model, from what, and how it went; also what a resumed one takes over."""

import os
import platform
import socket
import time
import uuid
from pathlib import Path
from typing import Any

from keras_pipeline import files, provenance
from keras_pipeline.distribution import Distribution, Plan
from keras_pipeline.params import Params
from keras_pipeline.preprocessing import STATISTICS

SETTINGS = {
    "onednn": "TF_ENABLE_ONEDNN_OPTS",
    "threads": "OMP_NUM_THREADS",
    "intra_op_threads": "TF_NUM_INTRAOP_THREADS",
    "inter_op_threads": "TF_NUM_INTEROP_THREADS",
    "blas_threads": "OPENBLAS_NUM_THREADS",
    "xla": "XLA_FLAGS",
}
"""The environment variables that can change the last bits of a result."""
TAKEN_OVER = ("key", "started", "resumed")


def begun(params: Params, normalized: Path, statistics: dict[str, Any], stage: str) -> dict[str, Any]:
    """The record of a training that begins now: what is known before any framework is imported.

    `statistics`: those of the folder `normalized`; `stage`: the module whose imports are the training's code.
    """
    values = provenance.flat_params(
        {
            "seed": params.seed,
            "fetch": params.fetch,
            "normalize": params.normalize,
            "model": params.model,
            "train": params.train,
        }
    )
    return {
        "key": uuid.uuid4().hex,
        "name": f"{statistics['dataset']} {params.model.architecture}",
        "started": time.time(),
        "resumed": [],
        "params": values,
        "dataset": {key: statistics[key] for key in STATISTICS},
        "sha256": {
            "params": provenance.params_digest(values),
            "data": files.sha256(normalized / "statistics.json"),
            "code": provenance.code_digest(stage),
        },
        "git": provenance.git_state(),
        "host": socket.gethostname(),
        "machine": machine(),
        "versions": provenance.versions(),
        "environment": provenance.environment(),
        "reproducibility": params.train.reproducibility,
        "history": [],
    }


def identity(record: dict[str, Any]) -> dict[str, Any]:
    """What decides a training's result: a checkpoint is only of use where all of it is the same."""
    return {
        "params": record["params"],
        "data": record["sha256"]["data"],
        "code": record["sha256"]["code"],
        "versions": {
            name: version for name, version in record["versions"].items() if name not in provenance.BESIDE_TRAINING
        },
        "machine": record["machine"],
    }


def machine() -> dict[str, str]:
    """What of the machine and its settings can change the last bits of a result."""
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        **{key: os.environ.get(name, "default") for key, name in SETTINGS.items()},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def strategy(plan: Plan, place: Distribution, *, statistics: bool, fused: bool) -> dict[str, Any]:
    """Where and how the training really computes. `statistics`: whether the network has a BatchNormalization;
    `fused`: whether many steps run as one program."""
    return {
        "name": place.strategy,
        "asked": place.asked or place.strategy,
        "backend": plan.train.computed_by,
        "devices": list(place.devices),
        "workers": place.workers,
        "replicas": place.replicas,
        "batch_per_replica": plan.batch_size // place.replicas,
        "batch_statistics": plan.train.batch_statistics if statistics and place.replicas > 1 else "one device",
        "fused": fused,
    }

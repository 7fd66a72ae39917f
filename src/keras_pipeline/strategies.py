"""The strategies: one row each of what it needs and shares, and the ones that are refused, with the reason.

Nothing here imports a framework: `params` knows this table, so that a wrong combination is answered in a
quarter of a second. How each strategy is opened stands in `distribution`, one function of the same name each.
"""

from dataclasses import dataclass
from typing import Literal

Backend = Literal["tensorflow", "jax", "torch"]
BatchStatistics = Literal["synchronized", "per_replica"]


@dataclass(frozen=True)
class Strategy:
    """What a strategy can do.

    `devices`: whether one process may use several; `workers`: whether there may be several processes;
    `statistics`: what BatchNormalization's can be taken over where several replicas train; `fused`: whether many
    steps can run as one program, on the backends FUSED; `merges`: whether Keras' optimizer gets each replica's
    gradients, which TensorFlow adds up inside of its step, behind what it does with gradients."""

    backends: tuple[Backend, ...]
    devices: bool = False
    workers: bool = False
    statistics: tuple[BatchStatistics, ...] = ("synchronized", "per_replica")
    fused: bool = False
    merges: bool = False


FUSED: tuple[Backend, ...] = ("tensorflow", "jax")
"""The backends on which many steps can run as one program."""

STRATEGIES: dict[str, Strategy] = {
    "none": Strategy(("tensorflow", "jax", "torch"), fused=True),
    "one_device": Strategy(("tensorflow",), fused=True),
    "mirrored": Strategy(("tensorflow",), devices=True, merges=True),
    "multi_worker": Strategy(("tensorflow",), workers=True, merges=True),
    "data_parallel": Strategy(("jax",), devices=True, workers=True, statistics=("synchronized",)),
    "ddp": Strategy(("torch",), workers=True, statistics=("per_replica",)),
    "tpu": Strategy(("tensorflow",), devices=True, merges=True),
}

REFUSED = {
    "central_storage": "TensorFlow's CentralStorageStrategy reports wrong losses and metrics under Keras 3 without "
    "a word. Use mirrored",
    "parameter_server": "Keras 3 cannot fit under TensorFlow's ParameterServerStrategy, and its updates are lost "
    "and differ in every run. Use multi_worker, or data_parallel with backend: jax",
    "keras_distribution": "keras.distribution trains on one device, without a word, with TensorFlow and PyTorch. "
    "Use mirrored (TensorFlow), ddp (PyTorch), or data_parallel with backend: jax, which is keras.distribution "
    "where it works",
    "distributed_data_parallel": "Keras' fit goes past the wrapper DistributedDataParallel: each process silently "
    "trains a network of its own. Use ddp, which averages the gradients in the optimizer",
}
"""What is asked for by name and would train something else than it says: the reason and the way out."""

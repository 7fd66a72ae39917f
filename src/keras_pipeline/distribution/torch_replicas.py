"""Replicas under PyTorch: processes that average their gradients inside the optimizer, so that Keras' fit works."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import torch
import torch.distributed as group
from numpy.typing import NDArray

from keras_pipeline.distribution.cluster import Cluster


def join(cluster: Cluster) -> None:
    """Meet the other processes; until `leave`, gradients and statistics are exchanged with them."""
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    group.init_process_group(backend, rank=cluster.rank, world_size=cluster.count)


def leave() -> None:
    """Part from the other processes, if they were met."""
    if group.is_initialized():
        group.destroy_process_group()


def fit(model: keras.Sequential, batches: Callable[[], Iterator[Any]], **options: Any) -> None:
    """Keras' fit, with an optimizer that applies the mean of all processes' gradients."""
    apply = model.optimizer.apply
    model.optimizer.apply = _averaging(apply)
    try:
        model.fit(batches(), **options)
    finally:
        model.optimizer.apply = apply


def mean(values: dict[str, float]) -> dict[str, float]:
    """The mean of each value over all processes, which have equal shares of every batch or nearly so."""
    total = _summed(torch.tensor(list(values.values()), dtype=torch.float64)) / group.get_world_size()
    return dict(zip(values, total.tolist(), strict=True))


def spread_noise(model: keras.Sequential, rank: int) -> None:
    """Give this process masks of its own in every Dropout: its seed is moved on by the rank; the draws stay counted."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            state = layer.seed_generator.state
            state.assign([layer.seed + rank, int(keras.ops.convert_to_numpy(state)[1])])


def average_statistics(model: keras.Sequential) -> None:
    """Set BatchNormalization's moving statistics to their mean over all processes."""
    for weight in model.non_trainable_weights:
        if weight.dtype.startswith("float"):
            weight.assign(_summed(weight.value.detach().clone()) / group.get_world_size())


def gather(variables: list[Any]) -> list[NDArray[Any]]:
    """Each process's value of each variable, stacked: (processes, …); every process must ask."""
    result = []
    for variable in variables:
        value = variable.value.detach()
        parts = [torch.empty_like(value) for _ in range(group.get_world_size())]
        group.all_gather(parts, value)
        result.append(torch.stack(parts).cpu().numpy())
    return result


def scatter(rank: int, variables: list[Any], arrays: list[NDArray[Any]]) -> None:
    """Take this process's own of the stacked values."""
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array[rank])


def _averaging(apply: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """An optimizer's `apply` that takes the mean of all processes' gradients: one exchange of all of them a step."""

    def apply_mean(gradients: Any, variables: Any = None) -> None:
        gradients = list(gradients)
        flat = _summed(torch.cat([one.reshape(-1) for one in gradients])) / group.get_world_size()
        parts = torch.split(flat, [one.numel() for one in gradients])
        apply([part.reshape(one.shape) for part, one in zip(parts, gradients, strict=True)], variables)

    return apply_mean


def _summed(values: torch.Tensor) -> torch.Tensor:
    if group.get_backend() == "nccl":
        values = values.cuda()
    group.all_reduce(values)
    return values

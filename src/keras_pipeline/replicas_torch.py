"""Replicas under PyTorch: processes that average their gradients inside the optimizer, so that Keras' fit works."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import torch
import torch.distributed as group

from keras_pipeline.distribution import Distribution
from keras_pipeline.workers import Cluster


def distribution(name: str, devices: list[str], cluster: Cluster | None) -> Distribution:
    """What `training` needs of processes that each hold a copy of the network and a share of every batch."""
    rank, count = (cluster.rank, cluster.count) if cluster else (0, 1)
    if cluster:
        group.init_process_group("nccl" if torch.cuda.is_available() else "gloo", rank=rank, world_size=count)

    def fit(model: keras.Sequential, batches: Callable[[], Iterator[Any]], **options: Any) -> None:
        if cluster:
            _average_gradients(model.optimizer)
        model.fit(batches(), **options)

    def mean(values: dict[str, float]) -> dict[str, float]:
        total = _summed(torch.tensor(list(values.values()), dtype=torch.float64)) / count
        return dict(zip(values, total.tolist(), strict=True))

    return Distribution(
        name,
        tuple(devices),
        rank=rank,
        workers=count,
        loss_parts=count,
        whole_validation=True,
        fit=fit,
        spread_noise=lambda model: spread_noise(model, rank),
        average_statistics=lambda model: average_statistics(model, count) if cluster else None,
        mean=mean if cluster else lambda values: values,
        close=lambda: group.destroy_process_group() if group.is_initialized() else None,
    )


def spread_noise(model: keras.Sequential, rank: int) -> None:
    """Give this process masks of its own in every Dropout: its seed is moved on by the rank; the draws stay counted."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            state = layer.seed_generator.state
            state.assign([layer.seed + rank, int(keras.ops.convert_to_numpy(state)[1])])


def average_statistics(model: keras.Sequential, count: int) -> None:
    """Set BatchNormalization's moving statistics to their mean over all processes."""
    for weight in model.non_trainable_weights:
        if weight.dtype.startswith("float"):
            weight.assign(_summed(weight.value.detach().clone()) / count)


def _average_gradients(optimizer: keras.optimizers.Optimizer) -> None:
    """Let the optimizer apply the mean of all processes' gradients: one exchange of all of them a step."""
    apply = optimizer.apply

    def apply_mean(gradients: Any, variables: Any = None) -> None:
        gradients = list(gradients)
        flat = _summed(torch.cat([one.reshape(-1) for one in gradients])) / group.get_world_size()
        parts = torch.split(flat, [one.numel() for one in gradients])
        apply([part.reshape(one.shape) for part, one in zip(parts, gradients, strict=True)], variables)

    optimizer.apply = apply_mean


def _summed(values: torch.Tensor) -> torch.Tensor:
    if group.get_backend() == "nccl":
        values = values.cuda()
    group.all_reduce(values)
    return values

"""Where a network trains: the table of strategies with the function that opens each, the sizes of batches, the workers,
and the environment that the frameworks read.

No framework is imported before a strategy is opened. Adding a strategy is adding a function and a row, at the end.
"""

import importlib.metadata
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from keras_pipeline.config.params import Backend, BatchStatistics, Train, refuse_params
from keras_pipeline.core import process
from keras_pipeline.core.errors import MachineError, ParamsError
from keras_pipeline.distribution.cluster import Cluster, cluster_from_environment, meet_workers
from keras_pipeline.models import frameworks

if TYPE_CHECKING:
    from numpy.typing import NDArray

FUSED: tuple[Backend, ...] = ("tensorflow", "jax")
"""The backends on which many steps can run as one program."""
VALIDATION_BATCH = 1000


@dataclass(frozen=True)
class StrategyRow:
    """What a strategy can do, and the function that opens it on these devices.

    `devices`: whether one process may use several; `workers`: whether there may be several processes;
    `statistics`: what BatchNormalization's can be taken over where several replicas train; `fused`: whether many
    steps can run as one program, on the backends FUSED; `looped`: whether they can be one call, on TensorFlow on a CPU;
    `merges_gradients`: whether TensorFlow sums the replicas' gradients inside of the optimizer's step, after clipping
    and accumulation, which so act on each replica's share."""

    backends: tuple[Backend, ...]
    open: "Callable[[list[str], Cluster | None], OpenedStrategy]"
    devices: bool = False
    workers: bool = False
    statistics: tuple[BatchStatistics, ...] = ("synchronized", "per_replica")
    fused: bool = False
    looped: bool = False
    merges_gradients: bool = False


@dataclass(frozen=True)
class Plan:
    """What will train: the params, the sizes of batches of all replicas, and the workers if there are several."""

    train: Train
    batch_size: int
    validation_batch: int
    cluster: Cluster | None = None

    @property
    def chief(self) -> bool:
        """Whether this process writes files and reports; the others compute."""
        return self.cluster is None or self.cluster.rank == 0


def plan_training(train: Train, images: Mapping[str, int], environ: Mapping[str, str]) -> Plan:
    """What the params mean for splits of these sizes, in this environment.

    Raises ParamsError where the training images do not make one batch or a batch cannot be shared as the
    strategy needs it, where other workers are named than asked for; MachineError where a package is lacking.
    """
    check_installed(train.backend)
    refuse_params(train.size_faults(images["train"]))
    size = train.images_a_step(images["train"])
    cluster = cluster_from_environment(train.strategy, environ)
    if cluster and cluster.count != train.workers:
        raise ParamsError(
            f"params.yaml: train.workers: {train.workers}, but the environment names {cluster.count} workers for "
            f"strategy '{train.strategy}'. Expected: the same number in both."
        )
    batches = -(-images["validation"] // VALIDATION_BATCH)
    share = -(-images["validation"] // (batches * train.replicas))
    return Plan(train, size, share * train.replicas, cluster)


def check_installed(backend: str) -> None:
    """Raise MachineError, with the line that installs it, where a backend's package is lacking."""
    try:
        importlib.metadata.version(backend)
    except importlib.metadata.PackageNotFoundError:
        raise MachineError(
            f"params.yaml: train.backend: {backend} is not installed. "
            f"Install it: pip install -e '.[{backend}]', or use backend: tensorflow."
        ) from None


def is_plain(train: Train, environ: Mapping[str, str]) -> bool:
    """Whether it trains with TensorFlow in one process, and TensorFlow is imported as every stage imports it; raises
    what `cluster_from_environment` does."""
    single = train.workers == 1 and cluster_from_environment(train.strategy, environ) is None
    return train.backend == "tensorflow" and single and not _settings(train, None)


def _settings(train: Train, cluster: Cluster | None) -> dict[str, str]:
    """The environment variables that the frameworks read at their first import, as the params want them."""
    flags, chosen = os.environ.get("XLA_FLAGS", ""), dict[str, str]()
    if train.backend == "jax":
        # XLA divides the CPU; its devices share a pool of threads and wait for each other: too few never end.
        flags += f" --xla_force_host_platform_device_count={train.devices}"
        chosen["NPROC"] = os.environ.get("NPROC", str(max(8, 2 * train.devices)))
        if train.device_type == "cpu":
            chosen["JAX_PLATFORMS"] = "cpu"
        if train.reproducibility != "fast":
            chosen["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
        if cluster:
            chosen["JAX_CPU_COLLECTIVES_IMPLEMENTATION"] = "gloo"
    if train.device_type == "cpu":
        chosen["CUDA_VISIBLE_DEVICES"] = "-1"
    elif cluster and not STRATEGIES[train.strategy].devices:
        # One process, one GPU: of those of its machine, the one with its number there.
        chosen["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", os.environ.get("LOCAL_RANK", "0"))
    if train.reproducibility == "deterministic":
        chosen["CUBLAS_WORKSPACE_CONFIG"] = os.environ.get("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        if train.backend == "jax":
            flags += " --xla_gpu_deterministic_ops=true"
    return {**chosen, "XLA_FLAGS": flags.strip()} if train.backend == "jax" else chosen


def _array(variable: Any) -> "NDArray[Any]":
    import keras
    import numpy as np

    return np.array(keras.ops.convert_to_numpy(variable))


def _assign(variables: list[Any], arrays: "list[NDArray[Any]]") -> None:
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


@dataclass(frozen=True)
class OpenedStrategy:
    """An opened strategy. Build and compile inside `scope()`, train with `fit`: as Keras', with a function that
    begins to give the batches.

    `devices`: those of this process. `rank` of `workers`: which part of each batch is this process's.
    `loss_parts`: by how much averaging the gradients over the workers makes the sum of a batch's losses smaller;
    `batches.Data` multiplies by it.
    `whole_validation`: whether each worker looks at all of the validation split, because what they find is
    not brought together. `spread_noise(model)` gives each replica Dropout masks of its own, after weights or state
    were put in; `own_statistics`: whether each replica's BatchNormalization has moving statistics of its own, which
    `average_statistics(model)` then makes one and the same. `gather(variables)`: of variables that each replica
    has its own value of, the values of all replicas, stacked; `scatter(variables, arrays)` puts such back.
    `mean(values)`: over the workers. `requested`: what it stands in for, if it does. `fused`: whether the steps of a
    network may run many at a time, as `fused.fused_steps` does it, in place of `fit`; `looped`: as
    `looped.looped_steps` does it.
    """

    name: str
    devices: tuple[str, ...]
    rank: int = 0
    workers: int = 1
    loss_parts: int = 1
    whole_validation: bool = False
    scope: Callable[[], AbstractContextManager[Any]] = nullcontext
    fit: Callable[..., Any] = lambda model, batches, **options: model.fit(batches(), **options)
    spread_noise: Callable[[Any], None] = lambda model: None
    own_statistics: bool = False
    average_statistics: Callable[[Any], None] = lambda model: None
    gather: "Callable[[list[Any]], list[NDArray[Any]]]" = lambda variables: [_array(one) for one in variables]
    scatter: "Callable[[list[Any], list[NDArray[Any]]], None]" = lambda variables, arrays: _assign(variables, arrays)
    mean: Callable[[dict[str, float]], dict[str, float]] = lambda values: values
    close: Callable[[], None] = lambda: None
    requested: str = ""
    fused: bool = False
    looped: bool = False

    @property
    def replicas(self) -> int:
        """How many copies of the network train together; each gets batch size / replicas images a step."""
        return len(self.devices) * self.workers


@contextmanager
def open_strategy(
    plan: Plan, digests: Mapping[str, str] | None = None, imported: Callable[[], None] = lambda: None
) -> "Iterator[OpenedStrategy]":
    """Import the framework and open the strategy on the devices asked for, until the end of the block.

    Of several workers all meet first, and must have the same `digests`; when the block ends well this one leaves the
    others. Raises MachineError naming what there is when a device is lacking, or opens one device in their place
    where the params say so: the frameworks themselves would train on another device without a word, or hang. Raises
    what `cluster.meet_workers` raises. `imported` is called before TensorFlow looks for devices, where it was imported
    with the environment alone, as every stage imports it.
    """
    watch = meet_workers(plan.cluster, digests or {}) if plan.cluster else None
    strategy = _open(plan, imported)
    try:
        yield strategy
        if watch:
            watch.leave()
    finally:
        strategy.close()


def _open(plan: Plan, imported: Callable[[], None]) -> OpenedStrategy:
    train = plan.train

    def join() -> None:
        _join(train.backend, plan.cluster)
        if is_plain(train, os.environ):
            imported()

    frameworks.start_framework(train.backend, join, _settings(train, plan.cluster))
    gpus = frameworks.count_gpus(train.backend) if train.engine == "keras" else 0  # NumPy computes on the CPU
    kind = train.device_type if train.device_type != "auto" else ("gpu" if gpus else "cpu")
    requested = ""
    if kind == "gpu" and gpus < train.devices:
        if train.missing_devices == "error" or plan.cluster:
            raise MachineError(_lacking(plan, gpus))
        requested = f"{train.strategy} on {train.devices} GPU(s)"
        kind = "gpu" if gpus else "cpu"
        train = train.model_copy(update={"strategy": "none", "devices": 1})
    _determine(train.backend, train.reproducibility)
    if train.backend == "tensorflow" and kind == "cpu":
        _divide_cpu(train.devices)
    devices = [f"/{kind}:{number}" for number in range(train.devices)]
    opened = STRATEGIES[train.strategy].open(devices, plan.cluster)
    own = opened.replicas > 1 and train.batch_statistics == "per_replica"
    fused = train.fused and train.computed_by in FUSED and STRATEGIES[opened.name].fused
    looped = kind == "cpu" and train.computed_by == "tensorflow" and STRATEGIES[opened.name].looped
    return replace(opened, requested=requested, own_statistics=own, fused=fused, looped=looped)


def _join(backend: str, cluster: Cluster | None) -> None:
    import keras

    if backend == "jax" and cluster:
        keras.distribution.initialize(",".join(cluster.addresses), cluster.count, cluster.rank)


def _lacking(plan: Plan, gpus: int) -> str:
    train = plan.train
    single = "" if plan.cluster else ", or missing_devices: single"
    if gpus:
        # A part of those asked for: what they can share, so many can.
        fewer = max(count for count in range(1, gpus + 1) if train.devices % count == 0)
        return (
            f"params.yaml: train.devices: {train.devices} GPU(s) asked for, but this machine has {gpus} GPU(s) and "
            f"one CPU. Use devices: {fewer}, or device_type: cpu{single}."
        )
    return (
        "params.yaml: train.device_type: gpu asked for, but this machine has no GPU, only a CPU. "
        f"Use device_type: auto or cpu{single}; for a GPU see `keras-pipeline doctor`."
    )


def _divide_cpu(count: int) -> None:
    import tensorflow as tf

    # A GPU that was not asked for must not be used in silence.
    tf.config.set_visible_devices([], "GPU")
    if count > 1:
        whole = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(whole, [tf.config.LogicalDeviceConfiguration()] * count)


def _determine(backend: str, level: str) -> None:
    """Take from the framework the freedom that the level of reproducibility does not leave it."""
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(level == "fast")
        if level == "deterministic":
            tf.config.experimental.enable_op_determinism()
    elif backend == "torch":
        import torch

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = level == "fast"
        torch.use_deterministic_algorithms(level == "deterministic")


# The strategies.
def _none(devices: list[str], cluster: Cluster | None) -> OpenedStrategy:
    return OpenedStrategy("none", tuple(devices))


def _one_device(devices: list[str], cluster: Cluster | None) -> OpenedStrategy:
    import tensorflow as tf

    return _replicated("one_device", tf.distribute.OneDeviceStrategy(devices[0]), devices)


def _mirrored(devices: list[str], cluster: Cluster | None) -> OpenedStrategy:
    import tensorflow as tf

    return _replicated("mirrored", tf.distribute.MirroredStrategy(devices), devices)


def _multi_worker(devices: list[str], cluster: Cluster | None) -> OpenedStrategy:
    import tensorflow as tf

    from keras_pipeline.distribution import tensorflow_replicas

    # Without other workers TensorFlow's strategy is this one, in one process.
    with process.keeping_signals():  # TensorFlow takes SIGTERM for itself, and then does nothing about it
        strategy = tf.distribute.MultiWorkerMirroredStrategy() if cluster else tf.distribute.MirroredStrategy(devices)
    opened = _replicated("multi_worker", strategy, devices, cluster)
    return replace(opened, fit=tensorflow_replicas.several_processes_fit(strategy))


def _replicated(name: str, strategy: Any, devices: list[str], cluster: Cluster | None = None) -> OpenedStrategy:
    """Any of TensorFlow's strategies: each replica holds a copy of the network."""
    import tensorflow as tf

    from keras_pipeline.distribution import tensorflow_replicas

    rank, count = (cluster.rank, cluster.count) if cluster else (0, 1)
    first = rank * len(devices)
    return OpenedStrategy(
        name,
        tuple(devices),
        rank=rank,
        workers=count,
        scope=strategy.scope,
        fit=tensorflow_replicas.fit,
        spread_noise=lambda model: tensorflow_replicas.spread_noise(model, first),
        average_statistics=tf.function(lambda model: tensorflow_replicas.average_statistics(strategy, model)),
        gather=lambda variables: tensorflow_replicas.gather(strategy, variables, count),
        scatter=lambda variables, arrays: tensorflow_replicas.scatter(variables, arrays, first),
    )


def _data_parallel(devices: list[str], cluster: Cluster | None) -> OpenedStrategy:
    import keras

    # Our batches are this process's share already.
    layout = keras.distribution.DataParallel(devices=keras.distribution.list_devices(), auto_shard_dataset=False)
    keras.distribution.set_distribution(layout)
    rank, count = (cluster.rank, cluster.count) if cluster else (0, 1)
    return OpenedStrategy(
        "data_parallel",
        tuple(devices),
        rank=rank,
        workers=count,
        close=lambda: keras.distribution.set_distribution(None),
    )


def _ddp(devices: list[str], cluster: Cluster | None) -> OpenedStrategy:
    from keras_pipeline.distribution import torch_replicas

    if cluster is None:
        return OpenedStrategy("ddp", tuple(devices))
    torch_replicas.join(cluster)
    return OpenedStrategy(
        "ddp",
        tuple(devices),
        rank=cluster.rank,
        workers=cluster.count,
        loss_parts=cluster.count,
        whole_validation=True,
        fit=torch_replicas.fit,
        spread_noise=lambda model: torch_replicas.spread_noise(model, cluster.rank),
        average_statistics=torch_replicas.average_statistics,
        gather=torch_replicas.gather,
        scatter=lambda variables, arrays: torch_replicas.scatter(cluster.rank, variables, arrays),
        mean=torch_replicas.mean,
        close=torch_replicas.leave,
    )


def _tpu(devices: list[str], cluster: Cluster | None) -> OpenedStrategy:
    import tensorflow as tf

    print("train: strategy tpu follows TensorFlow's documentation; it was never tried on a TPU", flush=True)
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=os.environ.get("TPU_NAME", "local"))
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        reason = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise MachineError(
            f"params.yaml: train.strategy: 'tpu' needs a TPU, and this machine has none that answers ({reason}). "
            "Use none or mirrored; on a machine with one, data_parallel with backend: jax is the better road."
        ) from None
    return _replicated("tpu", strategy, devices)


STRATEGIES: dict[str, StrategyRow] = {
    "none": StrategyRow(("tensorflow", "jax", "torch"), _none, fused=True, looped=True),
    "one_device": StrategyRow(("tensorflow",), _one_device, fused=True, looped=True),
    "mirrored": StrategyRow(("tensorflow",), _mirrored, devices=True, looped=True, merges_gradients=True),
    "multi_worker": StrategyRow(("tensorflow",), _multi_worker, workers=True, merges_gradients=True),
    "data_parallel": StrategyRow(("jax",), _data_parallel, devices=True, workers=True, statistics=("synchronized",)),
    "ddp": StrategyRow(("torch",), _ddp, workers=True, statistics=("per_replica",)),
    "tpu": StrategyRow(("tensorflow",), _tpu, devices=True, merges_gradients=True),
}

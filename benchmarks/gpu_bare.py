"""PyTorch's usual loop and JAX by hand, for `gpu.py`: also with convolutions and in bfloat16, the images on the device.

As `bare_torch.py` and `bare_jax.py`; nothing of the pipeline is imported. Each function below opens one framework and
gives what works on a cell: a training, or the rate of one large matrix product.
"""

import itertools
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networks
import numpy as np

Cell = dict[str, Any]
Work = Callable[[Cell], dict[str, Any]]
SIDE = 28


def images(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images and labels, then those looked at after: float32 (n, 28, 28, 1) in 0 … 1, int64 (n,)."""
    found = []
    for name in ("train", "validation"):
        found += [np.load(folder / f"{name}-images.npy")[..., np.newaxis].astype("float32") / 255]
        found += [np.load(folder / f"{name}-labels.npy").astype("int64")]
    return tuple(found)


def kernels(network: Cell) -> list[tuple[int, ...]]:
    """The shapes of a network's kernels: 3 × 3 convolutions, each followed by 2 × 2 pooling, then dense layers."""
    sides = [SIDE >> number for number in range(len(network["filters"]) + 1)]
    channels = [1, *network["filters"]]
    units = [channels[-1] * sides[-1] ** 2, *network["units"], 10]
    return [(3, 3, *pair) for pair in itertools.pairwise(channels)] + list(itertools.pairwise(units))


def operations(network: Cell) -> float:
    """Floating-point operations of training on one image, those of products and convolutions alone: outputs,
    gradients of weights, and, but for the first layer, of inputs."""
    products = [
        math.prod(shape) * (SIDE >> number) ** 2 if len(shape) == 4 else math.prod(shape)
        for number, shape in enumerate(kernels(network))
    ]
    return 2.0 * (3 * sum(products) - products[0])


def torch_loop(task: Cell) -> Work:
    """PyTorch's usual loop, over tensors on the device; TensorFloat-32 is off."""
    import torch
    from torch import nn

    device = "cuda" if torch.cuda.is_available() and task["device"] != "cpu" else "cpu"
    if task["device"] == "gpu" and device == "cpu":
        raise RuntimeError("PyTorch finds no GPU")
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False

    def peak(cell: Cell) -> dict[str, Any]:
        kind = torch.bfloat16 if cell["precision"] == "bfloat16" else torch.float32
        torch.set_float32_matmul_precision("high" if cell["precision"] == "TensorFloat-32" else "highest")
        one, other = (torch.randn(cell["size"], cell["size"], device=device).to(kind) for _ in range(2))
        try:
            return _rate(cell["size"], lambda: torch.mm(one, other), wait)
        finally:
            torch.set_float32_matmul_precision("highest")

    def train(cell: Cell) -> dict[str, Any]:
        network, half = cell["network"], cell["precision"] == "mixed_bfloat16"
        torch.manual_seed(1)
        x_train, y_train, x_test, y_test = (torch.from_numpy(one).to(device) for one in images(Path(task["data"])))
        x_train, x_test = (one.permute(0, 3, 1, 2).contiguous() for one in (x_train, x_test))
        layers: list[nn.Module] = []
        dropout = networks.DROPOUT if network["regularized"] else 0.0
        for shape in kernels(network)[:-1]:
            inputs, outputs = shape[-2:]
            convolution = len(shape) == 4
            if not convolution and not any(isinstance(layer, nn.Flatten) for layer in layers):
                layers.append(nn.Flatten())
            kind = (
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=not network["regularized"])
                if convolution
                else nn.Linear(inputs, outputs, bias=not network["regularized"])
            )
            layers.append(kind)
            if network["regularized"]:
                layers.append((nn.BatchNorm2d if convolution else nn.BatchNorm1d)(outputs, eps=1e-3, momentum=0.01))
            layers.append(nn.ReLU())
            if convolution:
                layers.append(nn.MaxPool2d(2))
            if dropout:
                layers.append(nn.Dropout(dropout / 2 if convolution else dropout))
        layers.append(nn.Linear(kernels(network)[-1][0], 10))
        model = nn.Sequential(*layers).to(device)
        optimizer = torch.optim.Adam(model.parameters(), 0.001)
        penalized = [layer.weight for layer in layers[:-1] if isinstance(layer, nn.Linear | nn.Conv2d)]
        wait()
        clock = networks.Clock()
        for _ in range(cell["epochs"]):
            model.train()
            for chosen in torch.randperm(len(x_train), device=device).split(network["batch"]):
                optimizer.zero_grad()
                with torch.autocast(device, torch.bfloat16, enabled=half):
                    loss = nn.functional.cross_entropy(model(x_train[chosen]), y_train[chosen])
                if network["regularized"]:
                    loss = loss + networks.L2 * sum((kernel**2).sum() for kernel in penalized)
                loss.backward()
                optimizer.step()
            wait()
            clock.epoch()
        model.eval()
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=half):
            right = sum(
                (model(x).argmax(1) == y).sum().item()
                for x, y in zip(x_test.split(1000), y_test.split(1000), strict=True)
            )
        return {"seconds": clock.seconds, "accuracy": right / len(y_test), "ran_on": device}

    return lambda cell: peak(cell) if "size" in cell else train(cell)


def jax_by_hand(task: Cell) -> Work:
    """JAX by hand: an epoch is one `lax.scan` over the data on the device; float32 products keep all their bits."""
    os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
    if task["device"] == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    import jax.numpy as jnp

    if task["device"] == "gpu" and jax.default_backend() != "gpu":
        raise RuntimeError(f"JAX finds no GPU, only {jax.devices()}")

    def peak(cell: Cell) -> dict[str, Any]:
        kind = jnp.bfloat16 if cell["precision"] == "bfloat16" else jnp.float32
        precision = "default" if cell["precision"] == "TensorFloat-32" else "highest"
        shape = (cell["size"], cell["size"])
        one, other = (jax.random.normal(jax.random.key(seed), shape).astype(kind) for seed in (1, 2))
        product = jax.jit(lambda one, other: jnp.matmul(one, other, precision=precision))
        return _rate(cell["size"], lambda: product(one, other).block_until_ready(), lambda: None)

    def train(cell: Cell) -> dict[str, Any]:
        network = cell["network"]
        regularized, batch = network["regularized"], network["batch"]
        kind = jnp.bfloat16 if cell["precision"] == "mixed_bfloat16" else jnp.float32
        x_train, y_train, x_test, y_test = (jnp.asarray(one) for one in images(Path(task["data"])))
        random = np.random.default_rng(1)
        weights = []
        for shape in kernels(network):
            limit = math.sqrt(6 / (math.prod(shape[:-2]) * sum(shape[-2:])))
            kernel = jnp.asarray(random.uniform(-limit, limit, shape), jnp.float32)
            weights.append({"kernel": kernel, "bias": jnp.zeros(shape[-1]), "scale": jnp.ones(shape[-1])})
        moving = [(jnp.zeros(shape[-1]), jnp.ones(shape[-1])) for shape in kernels(network)[:-1]]

        def outputs(weights: Any, moving: Any, x: Any, key: Any = None) -> Any:
            kept = []
            x = x.astype(kind)
            for number, (layer, (mean, variance)) in enumerate(zip(weights[:-1], moving, strict=True)):
                kernel = layer["kernel"].astype(kind)
                convolution = kernel.ndim == 4
                if convolution:
                    layout = ("NHWC", "HWIO", "NHWC")
                    x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)
                else:
                    x = x.reshape(len(x), -1) @ kernel
                if regularized:
                    x = x.astype(jnp.float32)
                    if key is not None:
                        axes = tuple(range(x.ndim - 1))
                        mean_now, variance_now = x.mean(axes), x.var(axes)
                        kept.append((0.99 * mean + 0.01 * mean_now, 0.99 * variance + 0.01 * variance_now))
                        mean, variance = mean_now, variance_now
                    x = (x - mean) * jax.lax.rsqrt(variance + 1e-3) * layer["scale"]
                x = jax.nn.relu(x + layer["bias"]).astype(kind)
                if convolution:
                    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
                if regularized and key is not None:
                    rate = networks.DROPOUT / 2 if convolution else networks.DROPOUT
                    mask = jax.random.bernoulli(jax.random.fold_in(key, number), 1 - rate, x.shape)
                    x = jnp.where(mask, x / (1 - rate), 0).astype(kind)
            last = weights[-1]
            x = x.reshape(len(x), -1).astype(jnp.float32)
            return x @ last["kernel"] + last["bias"], kept or moving

        def loss(weights: Any, moving: Any, x: Any, y: Any, key: Any) -> Any:
            logits, moving = outputs(weights, moving, x, key)
            value = -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean()
            if regularized:
                value += networks.L2 * sum((layer["kernel"] ** 2).sum() for layer in weights[:-1])
            return value, moving

        def epoch(state: Any, order: Any, x_train: Any, y_train: Any) -> Any:
            def step(state: Any, chosen: Any) -> Any:
                weights, first, second, moving, count, key = state
                key, drawn = jax.random.split(key)
                (value, moving), gradients = jax.value_and_grad(loss, has_aux=True)(
                    weights, moving, x_train[chosen], y_train[chosen], drawn
                )
                count += 1
                first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
                second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
                rate = 0.001 * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
                weights = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + 1e-7), weights, first, second)
                return (weights, first, second, moving, count, key), value

            return jax.lax.scan(step, state, order)

        compiled = jax.jit(epoch, donate_argnums=0)
        zeros = [jax.tree.map(jnp.zeros_like, weights) for _ in range(2)]
        state = (weights, *zeros, moving, jnp.float32(0), jax.random.key(1))
        whole = len(x_train) // batch * batch
        clock = networks.Clock()
        for _ in range(cell["epochs"]):
            order = random.permutation(len(x_train))[:whole].reshape(-1, batch).astype(np.int32)
            state, losses = compiled(state, order, x_train, y_train)
            losses.block_until_ready()
            clock.epoch()
        answers = jax.jit(lambda weights, moving, x: outputs(weights, moving, x)[0].argmax(1))
        found = np.concatenate(
            [answers(state[0], state[3], x_test[at : at + 1000]) for at in range(0, len(x_test), 1000)]
        )
        accuracy = float((found == np.asarray(y_test)).mean())
        return {"seconds": clock.seconds, "accuracy": accuracy, "ran_on": jax.default_backend()}

    return lambda cell: peak(cell) if "size" in cell else train(cell)


def _rate(size: int, product: Callable[[], Any], wait: Callable[[], Any]) -> dict[str, Any]:
    """Floating-point operations a second of one product of random matrices: the median of ten, after three."""
    times = []
    for _ in range(13):
        wait()
        began = time.perf_counter()
        product()
        wait()
        times.append(time.perf_counter() - began)
    return {"rate": 2.0 * size**3 / statistics.median(times[3:])}

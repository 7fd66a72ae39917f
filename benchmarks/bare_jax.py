"""Written by hand in JAX: an epoch is one `lax.scan` over the data on the device; Adam, BatchNormalization and
Dropout in so many lines.

python benchmarks/bare_jax.py [784-128-10 | regularized | default] [--batch 128] [--epochs 5]
"""

import itertools

import networks

arguments = networks.arguments(__doc__)

import jax
import jax.numpy as jnp
import numpy as np

(x_train, y_train), (x_test, y_test) = networks.mnist(arguments)
x_train, y_train, x_test, y_test = (jnp.asarray(one) for one in (x_train.reshape(-1, 784), y_train, x_test, y_test))
x_test = x_test.reshape(-1, 784)
sizes = [784, *arguments.units, 10]
random = np.random.default_rng(1)
weights = []
for inputs, outputs in itertools.pairwise(sizes):
    limit = np.sqrt(6 / (inputs + outputs))
    kernel = jnp.asarray(random.uniform(-limit, limit, (inputs, outputs)), jnp.float32)
    weights.append({"kernel": kernel, "bias": jnp.zeros(outputs), "scale": jnp.ones(outputs)})
moving = [(jnp.zeros(units), jnp.ones(units)) for units in arguments.units]


def outputs(weights, moving, x, key=None):
    kept = []
    for number, (layer, (mean, variance)) in enumerate(zip(weights[:-1], moving, strict=True)):
        x = x @ layer["kernel"]
        if arguments.regularized:
            if key is not None:
                now = x.mean(0), x.var(0)
                kept.append((0.99 * mean + 0.01 * now[0], 0.99 * variance + 0.01 * now[1]))
                mean, variance = now
            x = (x - mean) * jax.lax.rsqrt(variance + 1e-3) * layer["scale"]
        x = jax.nn.relu(x + layer["bias"])
        if arguments.regularized and key is not None:
            mask = jax.random.bernoulli(jax.random.fold_in(key, number), 1 - arguments.dropout, x.shape)
            x = jnp.where(mask, x / (1 - arguments.dropout), 0)
    return x @ weights[-1]["kernel"] + weights[-1]["bias"], kept or moving


def loss(weights, moving, x, y, key):
    logits, moving = outputs(weights, moving, x, key)
    value = -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean()
    if arguments.regularized:
        value += arguments.l2 * sum((layer["kernel"] ** 2).sum() for layer in weights[:-1])
    return value, moving


def step(state, chosen):
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


@jax.jit
def epoch(state, order):
    whole = len(x_train) // arguments.batch * arguments.batch
    return jax.lax.scan(step, state, order[:whole].reshape(-1, arguments.batch))


zeros = jax.tree.map(jnp.zeros_like, weights)
state = (weights, zeros, zeros, moving, jnp.float32(0), jax.random.key(1))
clock = networks.Clock()
for _ in range(arguments.epochs):
    state, losses = epoch(state, jnp.asarray(random.permutation(len(x_train))))
    losses.block_until_ready()
    clock.epoch()
logits, _ = outputs(state[0], state[3], x_test)
print(f"test accuracy {(logits.argmax(1) == y_test).mean():.4f}")
clock.report()

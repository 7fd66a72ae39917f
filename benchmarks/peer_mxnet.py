"""One training with MXNet, from arrays to arrays: nothing is drawn, split or shuffled here.

.venv-mxnet/bin/python benchmarks/peer_mxnet.py GIVEN.npz TRAINED.npz

GIVEN holds the first weights W_1, b_1, W_2, b_2, … of dense layers as weights_0, weights_1, …, each W (units before,
units); the activation of all layers but the last, whose is softmax; images (n, pixels) and labels (n,) of train,
validation and test; orders (epochs, n), which number the training images in the order of each epoch; batch_size and
learning_rate, of plain SGD on the cross-entropy. TRAINED gets losses (epochs,), of each training image as the network
was before its step; seconds (epochs,), validation included; the weights; answers (n,), of each test image its class;
and the version of MXNet.
"""

import sys
import time

import mxnet
import numpy as np
from mxnet import autograd, gluon, nd


def main():
    path, output = sys.argv[1:]
    with np.load(path, allow_pickle=False) as file:
        given = dict(file)
    weights = [given[f"weights_{number}"] for number in range(sum(name.startswith("weights_") for name in given))]
    network = built(weights, str(given["activation"]))
    batch_size, images, labels = int(given["batch_size"]), given["train_images"], given["train_labels"]
    cross_entropy = gluon.loss.SoftmaxCrossEntropyLoss()
    sgd = gluon.Trainer(network.collect_params(), "sgd", {"learning_rate": float(given["learning_rate"])})
    epochs, seconds = [], []
    for order in given["orders"]:
        began, losses = time.perf_counter(), []
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            with autograd.record():
                loss = cross_entropy(network(nd.array(images[chosen])), nd.array(labels[chosen]))
            loss.backward()
            sgd.step(len(chosen))
            losses.append(loss)
        epochs.append(nd.concat(*losses, dim=0).asnumpy().mean(dtype=np.float64))
        cross_entropy(network(nd.array(given["validation_images"])), nd.array(given["validation_labels"])).asnumpy()
        seconds.append(time.perf_counter() - began)
    trained = [parameter.data().asnumpy().T for parameter in network.collect_params().values()]
    np.savez(
        output,
        losses=epochs,
        seconds=seconds,
        answers=network(nd.array(given["test_images"])).asnumpy().argmax(axis=1),
        version=mxnet.__version__,
        **{f"weights_{number}": array for number, array in enumerate(trained)},
    )


def built(weights, activation):
    """The network, compiled, with these weights; MXNet's own are (units, units before)."""
    kernels = weights[::2]
    network = gluon.nn.HybridSequential()
    for kernel in kernels:
        inputs, units = kernel.shape
        network.add(gluon.nn.Dense(units, activation=None if kernel is kernels[-1] else activation, in_units=inputs))
    network.initialize()
    for parameter, array in zip(network.collect_params().values(), weights, strict=True):
        parameter.set_data(nd.array(array.T))
    network.hybridize(static_alloc=True, static_shape=True)
    return network


if __name__ == "__main__":
    main()

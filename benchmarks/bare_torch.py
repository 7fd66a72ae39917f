"""The usual PyTorch loop, over tensors in memory.

python benchmarks/bare_torch.py [784-128-10 | regularized | default] [--batch 128] [--epochs 5]
"""

import networks

arguments = networks.arguments(__doc__)

import torch
from torch import nn

(x_train, y_train), (x_test, y_test) = networks.mnist(arguments)
x_train, y_train, x_test, y_test = (torch.from_numpy(one) for one in (x_train, y_train, x_test, y_test))

layers: list[nn.Module] = [nn.Flatten()]
inputs = 784
for units in arguments.units:
    layers.append(nn.Linear(inputs, units, bias=not arguments.regularized))
    if arguments.regularized:
        layers += [nn.BatchNorm1d(units), nn.ReLU(), nn.Dropout(arguments.dropout)]
    else:
        layers.append(nn.ReLU())
    inputs = units
layers.append(nn.Linear(inputs, 10))
model = nn.Sequential(*layers)
optimizer = torch.optim.Adam(model.parameters(), 0.001)
kernels = [layer.weight for layer in layers[:-1] if isinstance(layer, nn.Linear)]
clock = networks.Clock()
for _ in range(arguments.epochs):
    model.train()
    for chosen in torch.randperm(len(x_train)).split(arguments.batch):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x_train[chosen]), y_train[chosen])
        if arguments.regularized:
            loss = loss + arguments.l2 * sum((kernel**2).sum() for kernel in kernels)
        loss.backward()
        optimizer.step()
    clock.epoch()
model.eval()
with torch.no_grad():
    print(f"test accuracy {(model(x_test).argmax(1) == y_test).float().mean():.4f}")
clock.report()

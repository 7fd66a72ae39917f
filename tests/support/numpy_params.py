"""Params that the NumPy engine can train."""

from typing import Any

ACTIVATIONS = ("linear", "sigmoid", "tanh", "relu")
HEADS = (
    ("categorical_crossentropy", "softmax"), ("mean_squared_error", "softmax"), ("mean_squared_error", "sigmoid"),
    ("mean_absolute_error", "softmax"), ("mean_absolute_error", "sigmoid"),
)  # fmt: skip
SGD = {"name": "sgd", "learning_rate": 0.1}
PLAIN: dict[str, Any] = {
    "train.engine": "numpy",
    "model.dropout": 0.0,
    "model.batch_normalization": False,
    "train.optimizer": SGD,
    "train.schedule.name": "constant",
}
"""What the shipped params have to become for NumPy."""

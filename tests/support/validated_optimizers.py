"""Optimizers as params.yaml gives them, alone and in a compiled network."""

from typing import Any

from pydantic import BaseModel

import small
from keras_pipeline.config.optimizers import AnyOptimizer, Optimizer
from keras_pipeline.config.params import Schedule, Train


class Block(BaseModel):
    optimizer: AnyOptimizer


def validated(name: str, **arguments: Any) -> Optimizer:
    """The optimizer as params.yaml's reader validates it."""
    return Block.model_validate({"optimizer": {"name": name, "learning_rate": 0.1, **arguments}}).optimizer


def compiled(optimizer: Optimizer, precision: str = "float32", schedule: Any = "constant") -> Any:
    """A network as training compiles it with this optimizer."""
    import keras

    from keras_pipeline.training import compilation

    keras.config.set_dtype_policy(precision)
    try:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    finally:
        keras.config.set_dtype_policy("float32")
    row = Schedule(name=schedule, warmup_epochs=0, decay_rate=0.5, factor=0.5, patience=1)
    train = Train.model_construct(optimizer=optimizer, schedule=row, loss="mean_squared_error", epochs=1)
    compilation.compile_model(model, train, 10, small.TEN_CLASSES)
    return model

"""Keras' optimizers and their arguments: what params.yaml may say of them, without Keras.

The names are those of the classes in `keras.optimizers`, in lower case. They stand here so that a typo is
answered in a quarter of a second instead of after Keras' import; a test holds them against the installed Keras.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Field, create_model

from keras_pipeline.strict_yaml import Block

Share = Annotated[float, Field(ge=0, le=1)]
OpenShare = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
Amount = Annotated[float, Field(ge=0, le=1e6)]
Small = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]

_ANY_OPTIMIZER: dict[str, Any] = {
    "weight_decay": Share,
    "clipnorm": Positive,
    "clipvalue": Positive,
    "global_clipnorm": Positive,
    "use_ema": bool,
    "ema_momentum": Share,
    "ema_overwrite_frequency": Count,
    "loss_scale_factor": Positive,
    "gradient_accumulation_steps": Annotated[int, Field(ge=2, le=1_000_000)],
}
_MOMENTS: dict[str, Any] = {"beta_1": OpenShare, "beta_2": OpenShare}
_EPSILON: dict[str, Any] = {"epsilon": Small}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adadelta": {"rho": OpenShare, **_EPSILON},
    "adafactor": {
        "beta_2_decay": Annotated[float, Field(ge=-1, lt=0)],
        "epsilon_1": Small,
        "epsilon_2": Small,
        "clip_threshold": Positive,
        "relative_step": bool,
    },
    "adagrad": {"initial_accumulator_value": Amount, **_EPSILON},
    "adam": {**_MOMENTS, **_EPSILON, "amsgrad": bool},
    "adamax": {**_MOMENTS, **_EPSILON},
    "adamw": {**_MOMENTS, **_EPSILON, "amsgrad": bool},
    "ftrl": {
        "learning_rate_power": Annotated[float, Field(ge=-1e6, le=0)],
        "initial_accumulator_value": Amount,
        "l1_regularization_strength": Amount,
        "l2_regularization_strength": Amount,
        "l2_shrinkage_regularization_strength": Amount,
        "beta": Amount,
    },
    "lamb": {**_MOMENTS, **_EPSILON},
    "lion": _MOMENTS,
    "muon": {
        **_EPSILON,
        "adam_beta_1": OpenShare,
        "adam_beta_2": OpenShare,
        "adam_weight_decay": Share,
        "exclude_embeddings": bool,
        "muon_a": Amount,
        "muon_b": Annotated[float, Field(ge=-1e6, le=1e6)],
        "muon_c": Amount,
        "adam_lr_ratio": Positive,
        "momentum": OpenShare,
        "ns_steps": Count,
        "nesterov": bool,
        "rms_rate": Positive,
    },
    "nadam": {**_MOMENTS, **_EPSILON},
    "rmsprop": {"rho": OpenShare, "momentum": OpenShare, **_EPSILON, "centered": bool},
    "schedulefreeadamw": {**_MOMENTS, **_EPSILON, "warmup_steps": Annotated[int, Field(ge=0, le=1_000_000)]},
    "sgd": {"momentum": OpenShare, "nesterov": bool},
}
"""Each optimizer by name, with the arguments that it has beside those of any optimizer."""


class Optimizer(Block):
    """An optimizer by Keras' name, with any of its arguments; one left out has Keras' default."""

    name: str
    learning_rate: Annotated[float, Field(gt=0, le=1000)]

    def arguments(self) -> dict[str, Any]:
        """What the file gives beside name and learning rate, as keyword arguments of the Keras class."""
        return self.model_dump(exclude_unset=True, exclude={"name", "learning_rate"})


def _optimizer(name: str, own: dict[str, Any]) -> type[Optimizer]:
    # The value of an argument that was left out is never read: `model_fields_set` tells which were given.
    arguments: dict[str, Any] = {key: (kind, None) for key, kind in {**own, **_ANY_OPTIMIZER}.items()}
    return create_model(name, __base__=Optimizer, name=(Literal[name], ...), **arguments)  # type: ignore[arg-type]


if TYPE_CHECKING:
    AnyOptimizer = Optimizer
else:
    AnyOptimizer = Annotated[
        Union[tuple(_optimizer(name, own) for name, own in OPTIMIZERS.items())],  # noqa: UP007
        Field(discriminator="name"),
    ]

"""Keras' optimizers and their arguments: what params.yaml may say of them, without Keras.

The names are those of the classes in `keras.optimizers`, in lower case. They stand here so that a typo is
answered in a quarter of a second instead of after Keras' import; a test holds them against the installed Keras. The
ranges are those in which an update divides by no zero of float32, whose numbers end at 1e-38 and, below 1, 0.99999994.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Field, create_model, model_validator

from keras_pipeline.strict_yaml.faults import Block, KeyedError

Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, le=0.999999)]
PositiveDecay = Annotated[float, Field(ge=1e-6, le=0.999999)]
Positive = Annotated[float, Field(ge=1e-6, le=1e6)]
Amount = Annotated[float, Field(ge=0, le=1e6)]
Small = Annotated[float, Field(ge=1e-30, le=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
_ANY_OPTIMIZER: dict[str, Any] = {
    "weight_decay": Share,
    "clipnorm": Positive,
    "clipvalue": Positive,
    "global_clipnorm": Positive,
    "use_ema": bool,
    "ema_momentum": Decay,
    "ema_overwrite_frequency": Count,
    "loss_scale_factor": Positive,
    "gradient_accumulation_steps": Annotated[int, Field(ge=2, le=1_000_000)],
}
_MOMENTS: dict[str, Any] = {"beta_1": Decay, "beta_2": Decay}
_EPSILON: dict[str, Any] = {"epsilon": Small}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adadelta": {"rho": Decay, **_EPSILON},
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
        "learning_rate_power": Annotated[float, Field(ge=-1, le=0)],
        "initial_accumulator_value": Positive,
        "l1_regularization_strength": Amount,
        "l2_regularization_strength": Amount,
        "l2_shrinkage_regularization_strength": Annotated[float, Field(ge=0, le=10)],
        "beta": Amount,
    },
    "lamb": {**_MOMENTS, **_EPSILON},
    "lion": {"beta_1": PositiveDecay, "beta_2": Decay},
    "muon": {
        **_EPSILON,
        "adam_beta_1": Decay,
        "adam_beta_2": Decay,
        "adam_weight_decay": Share,
        "exclude_embeddings": bool,
        "muon_a": Amount,
        "muon_b": Annotated[float, Field(ge=-1e6, le=1e6)],
        "muon_c": Amount,
        "adam_lr_ratio": Positive,
        "momentum": Decay,
        "ns_steps": Annotated[int, Field(ge=1, le=100)],
        "nesterov": bool,
        "rms_rate": Positive,
    },
    "nadam": {**_MOMENTS, **_EPSILON},
    "rmsprop": {"rho": Decay, "momentum": Decay, **_EPSILON, "centered": bool},
    "schedulefreeadamw": {
        "beta_1": PositiveDecay,
        "beta_2": Decay,
        **_EPSILON,
        "warmup_steps": Annotated[int, Field(ge=0, le=1_000_000)],
    },
    "sgd": {"momentum": Decay, "nesterov": bool},
}
"""Each optimizer by name, with the arguments that it has beside those of any optimizer."""
CLIPPINGS = ("clipnorm", "clipvalue", "global_clipnorm")
"""Of which Keras takes one."""
MUON = {"muon_a": 3.4445, "muon_b": -4.775, "muon_c": 2.0315, "ns_steps": 5}
"""Keras' defaults of its coefficients, which only together make sense."""


class Optimizer(Block):
    """An optimizer by Keras' name, with any of its arguments; one left out has Keras' default."""

    name: str
    """one of Keras'; its own arguments stand beside it, such as beta_1: 0.9"""
    learning_rate: Annotated[float, Field(ge=1e-12, le=1000)]
    """the highest one of the schedule"""

    def arguments(self) -> dict[str, Any]:
        """What the file gives beside name and learning rate, as keyword arguments of the Keras class."""
        return self.model_dump(exclude_unset=True, exclude={"name", "learning_rate"})

    @model_validator(mode="after")
    def _makes_sense(self) -> "Optimizer":
        for key, message in self._faults():
            raise KeyedError((key,), message)
        return self

    def _faults(self) -> Iterator[tuple[str, str]]:
        given = self.arguments()
        first, *others = [key for key in CLIPPINGS if key in given] or [""]
        for key in others:
            yield (
                key,
                f"stands beside {first}, and Keras clips gradients in one way. Keep one of {', '.join(CLIPPINGS)}.",
            )
        if self.name == "muon" and _grows(**{key: given.get(key, default) for key, default in MUON.items()}):
            yield (
                next(key for key in MUON if key in given),
                "the steps of Newton and Schulz with muon_a, muon_b, muon_c and ns_steps leave every bound, whatever "
                f"the gradient. Expected: coefficients that keep 0 … 1 in bounds, such as Keras' {MUON}.",
            )


def _optimizer(name: str, fields: dict[str, Any]) -> type[Optimizer]:
    # The value of an argument that was left out is never read: `model_fields_set` tells which were given.
    arguments: dict[str, Any] = {key: (kind, None) for key, kind in {**fields, **_ANY_OPTIMIZER}.items()}
    return create_model(name, __base__=Optimizer, name=(Literal[name], ...), **arguments)  # type: ignore[arg-type]


def _grows(muon_a: float, muon_b: float, muon_c: float, ns_steps: int) -> bool:
    """Whether so many steps x → ax + bx³ + cx⁵, as Muon does with singular values of 0 … 1, make one of them large."""
    values = [number / 100 for number in range(101)]
    for _ in range(ns_steps):
        values = [muon_a * x + muon_b * x**3 + muon_c * x**5 for x in values]
        if max(map(abs, values)) > 100:
            return True
    return False


if TYPE_CHECKING:
    AnyOptimizer = Optimizer
else:
    AnyOptimizer = Annotated[
        Union[tuple(_optimizer(name, own) for name, own in OPTIMIZERS.items())],  # noqa: UP007
        Field(discriminator="name"),
    ]

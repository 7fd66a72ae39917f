"""A training that is ready to begin: its network on its devices, and the batches it will see."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from keras_pipeline.config.params import Params
from keras_pipeline.core import process
from keras_pipeline.data.splits import Split
from keras_pipeline.data.statistics import ScalingConstants
from keras_pipeline.data.task_spec import TaskSpec
from keras_pipeline.distribution.strategies import OpenedStrategy, Plan

if TYPE_CHECKING:
    import keras

    from keras_pipeline.training.batches import Data


@dataclass(frozen=True)
class Training:
    """A compiled network on its devices, with the batches it will see: what `fit.fit_network` trains."""

    params: Params
    plan: Plan
    strategy: OpenedStrategy
    task_spec: TaskSpec
    data: "Data"
    model: "keras.Sequential"

    def changed(self, strategy: OpenedStrategy, **changes: Any) -> Self:
        """The same network on `strategy`, with these values of train changed that the network does not depend on."""
        train = self.params.train.model_copy(update=changes)
        return replace(self, params=self.params.model_copy(update={"train": train}), strategy=strategy)

    def begun_anew(self, strategy: OpenedStrategy, **changes: Any) -> Self:
        """A new network with the first weights on `strategy`, with these values of train changed."""
        other = self.changed(strategy, **changes)
        return replace(other, model=_new_network(other.params, strategy, self.data, self.task_spec))


def prepare_training(
    params: Params,
    plan: Plan,
    strategy: OpenedStrategy,
    splits: Sequence[Split],
    task_spec: TaskSpec,
    scaling: ScalingConstants,
    black: float = 0.0,
) -> Training:
    """The network with its first weights on the opened strategy, and the batches of the `splits`, training and
    validation, whose images are scaled as `scaling` says: the fields of a `Scaling`; `black`: the least that a pixel is
    before."""
    from keras_pipeline.training import augmentation, batches

    training, validation = splits
    weights = batches.class_weights(training.targets, task_spec.classes, params.train.class_weights)
    deformation = augmentation.deformation_for(params.train.augmentation, params.seed, scaling, task_spec.shape, black)
    data = batches.Data(training, validation, weights, params.seed, plan.batch_size, plan.validation_batch, deformation)
    model = _new_network(params, strategy, data, task_spec)
    return Training(params, plan, strategy, task_spec, data, model)


def _new_network(params: Params, strategy: OpenedStrategy, data: "Data", task_spec: TaskSpec) -> "keras.Sequential":
    from keras_pipeline.training import compilation

    with process.time_part("build"):
        return compilation.new_network(params.model, params.train, params.seed, strategy, data.steps, task_spec)

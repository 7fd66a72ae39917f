"""Params at the ends of their ranges, together: what `params check` accepts is normalized, trained and evaluated.

Alone: python extreme_params.py SEED DRAWS
"""

import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import random_layers
import small
from keras_pipeline.checks.params import CheckedParams
from keras_pipeline.config.optimizers import OPTIMIZERS
from keras_pipeline.config.params import Fetch
from keras_pipeline.core.errors import ParamsError, PipelineError
from keras_pipeline.distribution.strategies import STRATEGIES
from keras_pipeline.models.architectures import ARCHITECTURES
from keras_pipeline.records.observer import Observer
from keras_pipeline.stages import evaluate, fetch, normalize, train
from keras_pipeline.strict_yaml.reader import parse_yaml
from validated_optimizers import accepted, default_arguments, edges

Changes = dict[str, Any]
SIZES = (1, 2, 3, 7, 10, 11, 64, 65, 88, 89, 317, 318, 360, 1293, 1437, 65536)
"""Of batches and parts: the ends, what divides and what does not, and what the made datasets have of each split."""
ENDS: dict[str, tuple[Any, ...]] = {
    "seed": (0, 2**32 - 1),
    "fetch.dataset": ("digits", "line", "diabetes"),
    "normalize.positive_class": ("none", 0, 9),
    "normalize.split_seed": (0, 2**32 - 1),
    "normalize.validation_share": (0.01, 0.5),
    "normalize.training_images": ("all", *SIZES),
    "normalize.scaling": ("none", "unit", "symmetric", "standard"),
    "model.architecture": tuple(ARCHITECTURES),
    "model.hidden_units": ([], [1], [3, 1], [1] * 12),
    "model.filters": ([1], [2, 1], [1, 1, 1, 1]),
    "model.global_average_pooling": (False, True),
    "model.activation": ("linear", "relu", "selu", "softplus", "exponential", "hard_sigmoid"),
    "model.dropout": (0.0, 1e-9, 0.5, 0.9999999),
    "model.batch_normalization": (False, True),
    "model.l2": (0.0, 1e-12, 10.0),
    "model.output_activation": ("softmax", "sigmoid", "linear"),
    "train.epochs": (1, 2),
    "train.batch_size": ("full", *SIZES),
    "train.loss": ("categorical_crossentropy", "binary_crossentropy", "mean_squared_error", "mean_absolute_error"),
    "train.schedule.name": ("constant", "cosine", "exponential", "reduce_on_plateau"),
    "train.schedule.warmup_epochs": (0, 1, 2, 10_000),
    "train.schedule.decay_rate": (1e-9, 1.0),
    "train.schedule.factor": (1e-9, 0.9999999),
    "train.schedule.patience": (1, 10_000),
    "train.early_stopping.monitor": ("val/loss", "val/accuracy"),
    "train.early_stopping.patience": (0, 1, 10_000),
    "train.class_weights": ("none", "balanced"),
    "train.augmentation.shift": (0.0, 1e-9, 14.0),
    "train.augmentation.rotation": (0.0, 180.0),
    "train.augmentation.scale": (0.0, 0.9),
    "train.augmentation.elastic": (0.0, 14.0),
    "train.augmentation.smoothness": (1.5, 14.0),
    "train.augmentation.horizontal_flip": (False, True),
    "train.precision": ("float32", "mixed_float16", "mixed_bfloat16"),
    "train.engine": ("keras", "numpy"),
    "train.backend": ("tensorflow",),
    "train.strategy": tuple(name for name in STRATEGIES if name != "tpu"),
    "train.devices": (1, 2, 7),
    "train.workers": (1,),
    "train.device_type": ("auto", "cpu"),
    "train.missing_devices": ("error", "single"),
    "train.batch_statistics": ("synchronized", "per_replica"),
    "train.reproducibility": ("fast", "seeded", "deterministic"),
    "train.checkpoint_steps": (0, 1, 1_000_000),
    "train.fused": (False, True),
    "evaluate.calibration_bins": (2, 100),
    "evaluate.worst_mistakes": (1, 100),
    "tracking.experiment": ("a",),
}
"""Each key's ends and kinds; what would only take long (epochs, units) stays small, what needs more than one process or
another backend is left out."""
DRAWN = ("model.layers", "train.optimizer")
"""The keys whose values are blocks, drawn by `_block`."""
PLAIN: Changes = {
    "train.epochs": 1, "normalize.training_images": 64, "train.batch_size": 16, "model.hidden_units": [4],
    "train.schedule.name": "constant",
}  # fmt: skip
LIKELY = 0.35
"""How many of the keys a draw tries to put at an end."""
GOOD_ENDS = (("evaluate", 0), ("train", 5), ("evaluate", 5))
"""What is accepted trains and is evaluated, or diverges."""


def check(changes: Changes) -> Any:
    """The params, where `params check` accepts them, else what it says."""
    try:
        return parse_yaml(small.params_text({**small.QUICK, **PLAIN, **changes}), "params.yaml", CheckedParams)
    except ParamsError as error:
        return str(error)


def draw(chance: random.Random) -> Changes:
    """Changes that the check accepts, as many at ends of their ranges as it lets be together."""
    chosen: Changes = {}
    for key in chance.sample([*ENDS, *DRAWN], len(ENDS) + len(DRAWN)):
        if chance.random() < LIKELY or not chosen:
            more = _with_what_it_needs(key, _block(key, chance) if key in DRAWN else chance.choice(ENDS[key]), chance)
            more = {name: value for name, value in more.items() if name not in chosen}
            if key in more and not isinstance(check({**chosen, **more}), str):
                chosen |= more
    return chosen


def _with_what_it_needs(key: str, value: Any, chance: random.Random) -> Changes:
    """What goes only together is drawn together: else the check would seldom let it through."""
    losses = ("mean_squared_error", "mean_absolute_error")
    if key == "fetch.dataset" and value != "digits":
        return {key: value, "model.output_activation": "linear", "train.loss": chance.choice(losses)}
    if key == "normalize.positive_class" and value != "none":
        loss = chance.choice(["binary_crossentropy", *losses])
        return {key: value, "model.output_activation": "sigmoid", "train.loss": loss}
    if (key, value) == ("train.engine", "numpy"):
        sgd = {"name": "sgd", "learning_rate": chance.choice([1e-12, 0.1, 1000])}
        return {key: value, "model.dropout": 0.0, "model.batch_normalization": False, "train.optimizer": sgd}
    if key == "train.devices" and value > 1:
        return {key: value, "train.strategy": "mirrored"}
    if key == "model.layers":
        return {key: value, "model.architecture": "layers"}
    return {key: value}


def _block(key: str, chance: random.Random) -> Any:
    if key == "model.layers":
        found = random_layers.random_layers(chance)
        return [one.model_dump(exclude_defaults=True) | {"layer": one.model_dump()["layer"]} for one in found]
    name = chance.choice(sorted(OPTIMIZERS))
    arguments: dict[str, Any] = {}
    ranges = {argument: edges(kind) for argument, kind in default_arguments(name).items()}
    for argument in chance.sample(sorted(ranges), chance.randint(0, 3)):
        more = {**arguments, argument: chance.choice(ranges[argument])}
        arguments = more if accepted(name, more) else arguments
    return {"name": name, "learning_rate": chance.choice([1e-12, 0.01, 0.01, 1.0, 1000]), **arguments}


def do(changes: Changes, folder: Path, raw: Path) -> tuple[str, int, str]:
    """Do the stages in this process: the last one, its exit code, and why it ended so."""
    params = check(changes)
    stage, normalized, models = "normalize", folder / "normalized", folder / "models"
    try:
        normalize.normalize_dataset(params, raw / params.fetch.dataset, normalized)
        stage = "train"
        train.train_network(params, normalized, models, Observer(), folder / "checkpoints", resume=False)
        stage = "evaluate"
        evaluate.evaluate_network(params, normalized, models, folder / "reports")
    except PipelineError as error:
        return stage, error.exit_code, str(error)
    except BaseException:
        return stage, 70, traceback.format_exc()
    return stage, 0, ""


def forked(changes: Changes, raw: Path, seconds: float = 120) -> tuple[str, int, str]:
    """`do` in a fork of this process, which may not have used the framework."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        child = os.fork()
        if not child:
            with suppress(BaseException), (folder / "log").open("wb") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                stage, code, said = do(changes, folder, raw)
                (folder / "end").write_text(f"{stage}\n{code}\n{said}", encoding="utf-8")
            os._exit(0)
        deadline = time.monotonic() + seconds
        while not os.waitpid(child, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                os.kill(child, 9)
                os.waitpid(child, 0)
                return "?", -9, f"longer than {seconds} s"
            time.sleep(0.01)
        if not (folder / "end").is_file():
            return "?", -1, (folder / "log").read_text(errors="replace")[-3000:]
        stage, code, said = (folder / "end").read_text(encoding="utf-8").split("\n", 2)
        return stage, int(code), said


def raw_data(folder: Path) -> Path:
    """The made datasets' own files, by name."""
    for name in ("digits", "line", "diabetes"):
        other = check({}).model_copy(update={"fetch": Fetch(dataset=name)})
        fetch.fetch_dataset(other, folder / name, folder / "downloads")
    return folder


def failures(seed: int, draws: int, folder: Path) -> Iterator[str]:
    """Those of so many draws that ended otherwise than they may, with all that they changed; at the end how many of all
    ended where."""
    raw, chance, counts = raw_data(folder), random.Random(seed), Counter[tuple[str, int]]()
    for _ in range(draws):
        changes = draw(chance)
        stage, code, said = forked(changes, raw)
        counts[stage, code] += 1
        if (stage, code) not in GOOD_ENDS:
            yield f"{stage} ended with {code}: {changes}\n{said[-3500:]}"
    print(", ".join(f"{stage} {code}: {count}" for (stage, code), count in counts.items()))


if __name__ == "__main__":
    from keras_pipeline.runs import forkserver  # noqa: F401 (imports what a run does)

    with tempfile.TemporaryDirectory() as place:
        wrong = False
        for text in failures(int(sys.argv[1]), int(sys.argv[2]), Path(place)):
            wrong = True
            print(text, flush=True)
    sys.exit(wrong)

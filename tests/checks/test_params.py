"""What params check advises: applied, it makes the file good, key by key and value by value."""

import itertools
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mutated_params
import small
from keras_pipeline.checks.params import CheckedParams, with_workers
from keras_pipeline.config import params
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.distribution.strategies import STRATEGIES
from keras_pipeline.sources.dataset_file import load_dataset
from keras_pipeline.strict_yaml import nodes
from keras_pipeline.strict_yaml.faults import KeyedError
from keras_pipeline.strict_yaml.reader import parse_yaml

Changes = dict[str, Any]
SGD = {"name": "sgd", "learning_rate": 0.1}
NUMPY: Changes = {
    "train.engine": "numpy", "train.optimizer": SGD, "model.dropout": 0.0, "model.batch_normalization": False,
}  # fmt: skip
TWO: Changes = {"train.strategy": "mirrored", "train.devices": 2, "normalize.training_images": 1000}
TAKEN_OUT = object()
NOT_A_VALUE = re.compile(r"another |a network |more |fewer |one of ")


def faults(changes: Changes) -> dict[str, str]:
    """What is said of each key, with the place of each in the file."""
    text = small.params_text({**small.QUICK, **changes}).decode()
    try:
        parse_yaml(text.encode(), "params.yaml", CheckedParams)
    except ParamsError as error:
        *lines, _ = str(error).split("\n")
        found = [re.fullmatch(r"params\.yaml:(\d+):\d+: ([\w.\[\]]+): (.*)", line) for line in lines]
        assert all(found), lines
        for one in filter(None, found):
            assert one[2].rpartition(".")[2].partition("[")[0] in text.split("\n")[int(one[1]) - 1], lines
        return {one[2]: one[3] for one in filter(None, found)}
    return {}


def advised(key: str, message: str) -> Iterator[Changes]:
    """Each change that the message names."""
    way_out = re.search(r"(?:Use|Keep|Take it out)\b.*\.$", message)
    assert way_out, message
    if "Take it out" in way_out[0]:
        yield {key: TAKEN_OUT}
    if kept := re.fullmatch(r"Keep one of (.*)\.", way_out[0]):
        names = kept[1].split(", ")
        block = key.rpartition(".")[0]
        for name in names:
            yield {f"{block}.{other}": TAKEN_OUT for other in names if other != name}
        return
    named = key
    for alternative in re.split(r", or use |, or |, such as | or |, ", way_out[0].removeprefix("Use ").rstrip(".")):
        if NOT_A_VALUE.match(alternative) or "Take it out" in alternative or alternative.startswith("a multiple of"):
            continue
        if keyed := re.fullmatch(r"([\w.]+): (.+)", alternative):
            named = keyed[1] if "." in keyed[1] else f"{key.rpartition('.')[0]}.{keyed[1]}"
        if pair := re.fullmatch(r"train.backend: (\w+) with train.strategy: (\w+)", alternative):
            yield {"train.backend": pair[1], "train.strategy": pair[2]}
            continue
        text = (keyed[2] if keyed else alternative).removesuffix(" at most").removesuffix(" at least")
        value: Any = {"true": True, "false": False}.get(text, text)
        if re.fullmatch(r"[\d.]+", text):
            value = float(text) if "." in text else int(text)
        yield {named: value}


def applied(changes: Changes, change: Changes) -> Changes:
    made = {**changes, **{key: value for key, value in change.items() if value is not TAKEN_OUT}}
    for key in (key for key, value in change.items() if value is TAKEN_OUT):
        *_, block, last = key.split(".")
        made[f"train.{block}"] = {name: value for name, value in made[f"train.{block}"].items() if name != last}
    return made


def advices(changes: Changes) -> list[tuple[str, str, Changes]]:
    """Every advice that is given for `changes`: the key of its fault, what was received, and what to change."""
    return [
        (key, message.split(". ")[0], change)
        for key, message in faults(changes).items()
        for change in advised(key, message)
    ]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"train.batch_size": 1294}, "train.batch_size"),
        ({"train.batch_size": 65536, "fetch.dataset": "mnist"}, "train.batch_size"),
        ({"normalize.validation_share": 0.5, "train.batch_size": 720}, "train.batch_size"),
        ({"normalize.training_images": 1294}, "normalize.training_images"),
        ({"normalize.training_images": 54_001, "fetch.dataset": "kmnist"}, "normalize.training_images"),
        ({"train.strategy": "mirrored", "train.devices": 2}, "train.strategy"),
        ({"train.strategy": "mirrored", "train.devices": 2, "train.batch_size": "full"}, "train.strategy"),
        ({"train.strategy": "mirrored", "train.devices": 2, "normalize.training_images": 103}, "train.strategy"),
        ({"train.strategy": "mirrored", "train.devices": 64, "train.batch_size": "full"}, "train.strategy"),
        ({"train.strategy": "multi_worker", "train.workers": 4, "normalize.training_images": 1002}, "train.strategy"),
        (
            {
                "train.strategy": "data_parallel", "train.backend": "jax", "train.devices": 5, "train.workers": 2,
                "normalize.training_images": 155,
            },
            "train.strategy",
        ),
        ({"train.strategy": "mirrored", "train.devices": 3, "normalize.training_images": 999}, "train.batch_size"),
        ({"train.devices": 2, "normalize.training_images": 1000}, "train.devices"),
        ({"train.workers": 2, "normalize.training_images": 1000}, "train.workers"),
        ({"train.devices": 2, "train.backend": "torch", "normalize.training_images": 1000}, "train.devices"),
        ({"train.strategy": "mirrored", "train.backend": "jax"}, "train.strategy"),
        ({"train.strategy": "ddp"}, "train.strategy"),
        (
            {"train.optimizer": {**SGD, "gradient_accumulation_steps": 27}},
            "train.optimizer.gradient_accumulation_steps",
        ),
        (
            {"train.optimizer": {**SGD, "gradient_accumulation_steps": 2}, "train.epochs": 1,
             "train.batch_size": "full", "train.schedule.name": "constant"},
            "train.optimizer.gradient_accumulation_steps",
        ),
        ({"train.optimizer": {"name": "schedulefreeadamw", "learning_rate": 0.1, "warmup_steps": 27}},
         "train.optimizer.warmup_steps"),
        ({"train.batch_size": 1}, "train.batch_size"),  # with BatchNormalization
        ({"train.batch_size": 4}, "train.batch_size"),  # 1293 = 323 * 4 + 1
        ({"train.batch_size": 1292}, "train.batch_size"),
        ({**TWO, "train.batch_size": 2, "train.batch_statistics": "per_replica"}, "train.batch_size"),
        ({**TWO, "train.batch_size": 8, "train.batch_statistics": "per_replica", "normalize.training_images": 1002},
         "train.batch_size"),
        ({**TWO, "train.devices": 10, "train.batch_size": "full", "train.batch_statistics": "per_replica",
          "normalize.training_images": 10}, "train.batch_size"),
        ({"train.optimizer": {**SGD, "clipnorm": 1.0, "clipvalue": 1.0}}, "train.optimizer.clipvalue"),
        ({"train.optimizer": {**SGD, "clipvalue": 1.0, "global_clipnorm": 1.0}}, "train.optimizer.global_clipnorm"),
        (
            {"train.optimizer": {**SGD, "loss_scale_factor": 2.0}, "train.precision": "mixed_float16"},
            "train.optimizer.loss_scale_factor",
        ),
        ({"train.optimizer": {"name": "ftrl", "learning_rate": 0.1}}, "train.schedule.name"),
        *(
            ({"train.strategy": strategy, "train.optimizer": {**SGD, **arguments}}, f"train.optimizer.{key}")
            for strategy in ("mirrored", "multi_worker")
            for key, arguments in (
                ("gradient_accumulation_steps", {"gradient_accumulation_steps": 2}),
                ("ema_overwrite_frequency", {"use_ema": True, "ema_overwrite_frequency": 1}),
            )
        ),
        *(
            ({**TWO, "train.optimizer": {**SGD, key: 2, "use_ema": True}}, f"train.optimizer.{key}")
            for key in ("clipnorm", "clipvalue", "global_clipnorm", "gradient_accumulation_steps")
        ),
        ({"model.output_activation": "linear"}, "model.output_activation"),
        ({"model.output_activation": "linear", "train.loss": "binary_crossentropy"}, "model.output_activation"),
        ({"model.output_activation": "sigmoid"}, "model.output_activation"),
        ({"train.loss": "binary_crossentropy"}, "model.output_activation"),
        ({**NUMPY, "model.output_activation": "sigmoid", "train.loss": "binary_crossentropy"}, "train.loss"),
        ({**NUMPY, "train.optimizer": {**SGD, "nesterov": True}}, "train.optimizer.nesterov"),
        ({**NUMPY, "train.optimizer": {**SGD, "clipnorm": 1.0}}, "train.optimizer.clipnorm"),
        (
            {**NUMPY, "fetch.dataset": "line", "model.output_activation": "linear", "train.loss": "mean_squared_error"},
            "model.output_activation",
        ),
    ],
)  # fmt: skip
def test_the_advice_cures(changes: Changes, key: str) -> None:
    found = advices(changes)
    assert {one for one, _, _ in found} == set(faults(changes)) == {key}
    for _, _, change in found:
        assert faults(applied(changes, change)) == {}, change


FLAT = [{"layer": "Flatten"}]
NORMALIZED = [{"layer": "BatchNormalization"}]


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"train.batch_size": 1, "model.batch_normalization": False}, False),
        ({"train.batch_size": 1, "model.hidden_units": []}, False),
        ({"train.batch_size": 4, "normalize.training_images": 1292}, False),
        ({**TWO, "train.batch_size": 2}, False),
        ({"train.batch_size": 1, "model.architecture": "softmax_regression"}, False),
        # over the places of a map there is a variance, also of one image
        ({"train.batch_size": 1, "model.architecture": "layers", "model.layers": [
            {"layer": "Conv2D", "filters": 2, "kernel_size": 3}, *NORMALIZED, *FLAT]}, False),
        ({"train.batch_size": 1, "model.architecture": "layers", "model.layers": [*FLAT, *NORMALIZED]}, True),
        ({"train.batch_size": 1, "model.architecture": "layers", "model.layers": [
            {"layer": "Conv2D", "filters": 2, "kernel_size": 28}, *NORMALIZED, *FLAT]}, True),
        ({"train.batch_size": 1, "model.architecture": "cnn", "model.hidden_units": []}, False),
        ({"train.batch_size": 1, "model.architecture": "cnn"}, True),
    ],
)  # fmt: skip
def test_one_image_is_refused_where_a_variance_is_taken_over_it(changes: Changes, refused: bool) -> None:
    assert set(faults(changes)) == ({"train.batch_size"} if refused else set())


def test_the_advice_cures_wherever_replicas_train() -> None:
    """From a sample of all combinations of what replicas share, one advice after the other leads to good params."""
    every = itertools.product(
        STRATEGIES, ("tensorflow", "jax", "torch"), (1, 2, 3, 6), (1, 2, 5), (90, 100, 1290, 2000, "full"),
        ("all", 77, 990, 1291, 5000),
    )  # fmt: skip
    names = [f"train.{name}" for name in ("strategy", "backend", "devices", "workers", "batch_size")]
    chance, steps = random.Random(0), 0
    for values in chance.sample(list(every), 60):
        changes = dict(zip([*names, "normalize.training_images"], values, strict=True))
        changes["train.batch_statistics"] = "per_replica" if changes["train.backend"] == "torch" else "synchronized"
        for _ in range(8):
            if not (found := advices(changes)):
                break
            key, received, change = chance.choice(found)
            changes = applied(changes, change)
            assert not faults(changes).get(key, "").startswith(received), (changes, change)
            steps += 1
        assert faults(changes) == {}
    assert steps > 100


def test_one_rule_speaks_in_the_check_and_in_the_stages() -> None:
    chosen = small.params()
    with pytest.raises(ParamsError) as refused:
        params.refuse_params(
            [*chosen.normalize.size_faults(3, 1), *chosen.train.size_faults(3), KeyedError(("a", "b"), "c.")]
        )
    assert str(refused.value) == (
        "params.yaml: normalize.validation_share: 0.1 of 3 training images are 0, fewer than 1, one of each class. "
        "Use 0.34 at least.\n"
        "params.yaml: train.batch_size: 100 is more than the 3 training images. Use 3 at most, or full.\n"
        "params.yaml: a.b: c."
    )


COUNTS = {
    "mnist": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "fashion_mnist": [6000] * 10,
    "kmnist": [6000] * 10,
    "digits": [142, 146, 142, 146, 145, 145, 145, 143, 139, 144],
}
"""How many images of each class are in the training file."""


@pytest.mark.parametrize("name", COUNTS)
def test_no_params_leave_a_class_without_images(name: str) -> None:
    import numpy as np

    from keras_pipeline.data.splits import stratified_part, stratified_split

    labels = np.repeat(np.arange(10, dtype=np.uint8), COUNTS[name])
    assert len(labels) == load_dataset(name).counts.train
    for share in (0.01, 0.5):
        train, validation = stratified_split(labels, share, 1)
        least = train[stratified_part(labels[train], params.LEAST_TRAINING_IMAGES, 1)]
        for part in (validation, least):
            assert set(labels[part]) == set(range(10))


@pytest.mark.parametrize(("kind", "count"), [("params", 200), ("partial", 50), ("study", 50), ("search", 50)])
def test_a_broken_file_is_refused_with_a_place_or_read_as_dvc_reads_it(kind: str, count: int) -> None:
    found = mutated_params.read_share((kind, count, 1))
    assert found.faults == []
    assert found.seconds < 1
    assert count / 50 < found.read[kind] < count / 2


def _writes(path: Path) -> Any:
    path.with_name("left").touch()
    raise ParamsError(f"{path}: no place.\nNothing was changed.")


def test_what_is_wrong_with_a_reader_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "_REFUSED", ())
    assert any("to DVC" in fault for fault in mutated_params.read_share(("params", 200, 1)).faults)
    monkeypatch.setitem(mutated_params.LOADERS, "params", _writes)
    found = "\n".join(mutated_params.read_share(("params", 1, 1)).faults)
    assert all(said in found for said in ("open ('left'", "written: ['left', 'params.yaml']", "no place: params.yaml"))
    monkeypatch.setitem(mutated_params.LOADERS, "params", lambda _: 1 // 0)
    assert "ZeroDivisionError" in mutated_params.read_share(("params", 1, 1)).faults[0]


def test_another_number_of_workers_is_the_only_change() -> None:
    changes = {"train.strategy": "multi_worker", "train.workers": 2, "normalize.training_images": 1000}
    chosen = small.params(changes)
    assert with_workers(chosen, 4) == small.params({**changes, "train.workers": 4})
    with pytest.raises(ParamsError, match=r"(?m)^params\.yaml with --workers:\d+:\d+: train\."):
        with_workers(chosen, 3)

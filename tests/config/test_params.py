"""params.yaml: what each of its values may be, and what is said of one that it may not."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import small
from broken_files import check_broken_files
from keras_pipeline.checks.params import CheckedParams, load_params
from keras_pipeline.config import params
from keras_pipeline.config.layers import Conv2D, Dense, Dropout, Flatten
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.sources.dataset_file import unknown_dataset
from keras_pipeline.strict_yaml.reader import parse_yaml
from places import SHIPPED


def edit(text: str, values: dict[str, str]) -> str:
    """`text` with the values of some keys (each the only one of its name) changed."""
    for key, value in values.items():
        text, count = re.subn(rf"(?m)^( *{key}:).*(\n *- .*)*$", lambda found, value=value: f"{found[1]} {value}", text)
        assert count == 1, f"{key} stands {count} times in params.yaml"
    return text


# The shipped file, whatever values it has, with those that the tests below speak of.
TEXT = edit(
    re.sub(
        r"(  optimizer:\n    name: )\w+",
        r"\1adam",
        re.sub(r"(  schedule:\n    name: )\w+", r"\1cosine", SHIPPED.read_text()),
    ),
    {
        "seed": "1",
        "dataset": "mnist",
        "architecture": "mlp",
        "hidden_units": "[512, 256]",
        "formats": "[onnx, javascript]",
        "filters": "[32, 64, 128]",
        "batch_normalization": "true",
        "output_activation": "softmax",
        "layers": "[]",
        "epochs": "15",
        "batch_size": "128",
        "loss": "categorical_crossentropy",
        "learning_rate": "0.001",
        "warmup_epochs": "1",
        "strategy": "none",
        "devices": "1",
    },
)
OF_ANY_OPTIMIZER = (
    "weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency, "
    "loss_scale_factor, gradient_accumulation_steps"
)
EXPERIMENT = "Expected: letters, digits, space, dot, dash and underscore, 100 at most."


def edited(**values: str) -> str:
    return edit(TEXT, values)


def with_optimizer(*lines: str) -> str:
    """The shipped params.yaml with other lines below train.optimizer."""
    text, count = re.subn(r"(?m)(^  optimizer:\n)(    .*\n)+", r"\1@", TEXT)
    assert count == 1
    return text.replace("@", "".join(f"    {line}\n" for line in lines))


def with_layers(*layers: str) -> str:
    return edited(architecture="layers", layers=f"[{', '.join(layers)}]")


def read(text: str) -> params.Params:
    return parse_yaml(text.encode(), "params.yaml", CheckedParams)


def refusal(text: str) -> str:
    with pytest.raises(ParamsError) as refused:
        read(text)
    assert refused.value.exit_code == 2
    *faults, last = str(refused.value).split("\n")
    assert last == "Nothing was changed."
    return "\n".join(faults)


def at(key: str, of: int = 0) -> str:
    """`params.yaml:line:column: ` of the value of a key of the shipped file; `of`: of its n-th value."""
    before = TEXT[: re.search(rf"(?m)^ *{key}: ", TEXT).end()]  # type: ignore[union-attr]
    return f"params.yaml:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10)) + of}: "


def test_the_shipped_file_is_valid_typed_and_frozen() -> None:
    shipped = load_params(SHIPPED)
    with pytest.raises(ValidationError):
        shipped.seed = 2  # type: ignore[misc]
    values = read(TEXT)
    assert values.train.optimizer.learning_rate == 0.001
    assert values.model.hidden_units == (512, 256)
    assert values.evaluate == shipped.evaluate


def test_the_place_of_a_fault_is_that_of_its_value() -> None:
    # The tests below compute places with `at`; this one is counted by hand.
    assert refusal("seed: 1\nfetch: {dataset: 3}\n" + TEXT[TEXT.index("normalize:") :]) == (
        "params.yaml:2:18: fetch.dataset: 3 is a whole number. A string is expected: write '3'."
    )


@pytest.mark.parametrize(
    ("key", "value", "name", "message"),
    [
        # names
        ("dataset", "minst", "fetch.dataset", unknown_dataset("minst")),
        ("dataset", "imagenet", "fetch.dataset", unknown_dataset("imagenet")),
        ("scaling", "minmax", "normalize.scaling", "'minmax' is not known. Allowed: none, unit, symmetric, standard."),
        ("architecture", "MLPP", "model.architecture", "'MLPP' is not known. "
         "Allowed: softmax_regression, mlp, cnn, layers. Did you mean 'mlp'?"),
        ("strategy", "mirored", "train.strategy", "'mirored' is not known. Allowed: none, one_device, mirrored, "
         "multi_worker, data_parallel, ddp, tpu. "
         "Did you mean 'mirrored'?"),
        ("loss", "categorical_crosentropy", "train.loss", "'categorical_crosentropy' is not known. Allowed: "
         "categorical_crossentropy, binary_crossentropy, mean_squared_error, mean_absolute_error. "
         "Did you mean 'categorical_crossentropy'?"),
        ("monitor", "val/acc", "train.early_stopping.monitor", "'val/acc' is not known. "
         "Allowed: val/loss, val/accuracy. Did you mean 'val/accuracy'?"),
        # ranges
        ("seed", "-1", "seed", "-1 is out of range. Expected: 0 <= value <= 4294967295."),
        ("seed", "4294967296", "seed", "4294967296 is out of range. Expected: 0 <= value <= 4294967295."),
        ("seed", "1.5", "seed", "1.5 is a decimal number. A whole number is expected."),
        ("validation_share", "0", "normalize.validation_share", "0 is out of range. Expected: 0.01 <= value <= 0.5."),
        ("validation_share", "1", "normalize.validation_share", "1 is out of range. Expected: 0.01 <= value <= 0.5."),
        ("dropout", "1", "model.dropout", "1 is out of range. Expected: 0 <= value < 1."),
        ("l2", "-0.1", "model.l2", "-0.1 is out of range. Expected: 0 <= value <= 10."),
        ("filters", "[]", "model.filters", "0 is not the right number of items. Expected: 1 <= items <= 8."),
        ("filters", "[1, 2, 3, 4, 5, 6, 7, 8, 9]", "model.filters", "9 is not the right number of items. "
         "Expected: 1 <= items <= 8."),
        ("epochs", "0", "train.epochs", "0 is out of range. Expected: 1 <= value <= 10000."),
        ("epochs", "1000000000", "train.epochs", "1000000000 is out of range. Expected: 1 <= value <= 10000."),
        ("learning_rate", "0", "train.optimizer.learning_rate", "0 is out of range. Expected: 1e-12 <= value <= 1000."),
        ("learning_rate", "-0.1", "train.optimizer.learning_rate", "-0.1 is out of range. "
         "Expected: 1e-12 <= value <= 1000."),
        ("learning_rate", "1e9", "train.optimizer.learning_rate", "1e9 is out of range. "
         "Expected: 1e-12 <= value <= 1000."),
        ("decay_rate", "0", "train.schedule.decay_rate", "0 is out of range. Expected: 0 < value <= 1."),
        ("factor", "1", "train.schedule.factor", "1 is out of range. Expected: 0 < value < 1."),
        ("calibration_bins", "1", "evaluate.calibration_bins", "1 is out of range. Expected: 2 <= value <= 100."),
        ("worst_mistakes", "0", "evaluate.worst_mistakes", "0 is out of range. Expected: 1 <= value <= 100."),
        ("devices", "65", "train.devices", "65 is out of range. Expected: 1 <= value <= 64."),
        # kinds
        ("hidden_units", "512", "model.hidden_units", "512 is a whole number. A list is expected: write [512]."),
        ("batch_normalization", "1", "model.batch_normalization", "1 is a whole number. True or false is expected."),
        ("dropout", "'0.5'", "model.dropout", "'0.5' is a string. A number is expected: write 0.5 without quotes."),
        ("batch_size", "0", "train.batch_size", "0 is not accepted. "
         "Expected: a whole number, 1 <= value <= 65536 or one of auto, full."),
        ("batch_size", "65537", "train.batch_size", "65537 is not accepted. "
         "Expected: a whole number, 1 <= value <= 65536 or one of auto, full."),
        ("batch_size", "abc", "train.batch_size", "'abc' is not accepted. "
         "Expected: a whole number, 1 <= value <= 65536 or one of auto, full."),
        ("batch_size", "a" * 5000, "train.batch_size", f"'{'a' * 59}…' is not accepted. "
         "Expected: a whole number, 1 <= value <= 65536 or one of auto, full."),
        ("batch_size", "2.5", "train.batch_size", "2.5 is not accepted. "
         "Expected: a whole number, 1 <= value <= 65536 or one of auto, full."),
        # combinations
        ("devices", "2", "train.devices", "strategy 'none' trains on one device, not on 2. "
         "Use devices: 1, or strategy: mirrored or tpu."),
        ("output_activation", "sigmoid", "model.output_activation", "'sigmoid' gives values that are no probability "
         "distribution over the classes, which train.loss: categorical_crossentropy needs. "
         "Use softmax, or another loss."),
        ("warmup_epochs", "15", "train.schedule.warmup_epochs", "15 leaves nothing of 15 epochs to train at the full "
         "learning rate. Expected: less than train.epochs."),
        # names of experiments
        ("experiment", "a/b", "tracking.experiment", f"'a/b' does not fit. {EXPERIMENT}"),
        ("experiment", "..", "tracking.experiment", f"'..' does not fit. {EXPERIMENT}"),
        ("experiment", "''", "tracking.experiment", f"'' does not fit. {EXPERIMENT}"),
        ("experiment", r'"a\nb"', "tracking.experiment", rf"'a\nb' does not fit. {EXPERIMENT}"),
        ("experiment", r'"a\n"', "tracking.experiment", rf"'a\n' does not fit. {EXPERIMENT}"),
        ("experiment", "<script>alert(1)</script>", "tracking.experiment",
         f"'<script>alert(1)</script>' does not fit. {EXPERIMENT}"),
        ("experiment", "$(id)", "tracking.experiment", f"'$(id)' does not fit. {EXPERIMENT}"),
        ("experiment", "a" * 101, "tracking.experiment", f"'{'a' * 59}…' does not fit. {EXPERIMENT}"),
        ("experiment", "a" * 5000, "tracking.experiment", f"'{'a' * 59}…' does not fit. {EXPERIMENT}"),
        ("experiment", "1", "tracking.experiment", "1 is a whole number. A string is expected: write '1'."),
    ],
)  # fmt: skip
def test_one_value_that_cannot_be(key: str, value: str, name: str, message: str) -> None:
    assert refusal(edited(**{key: value})) == f"{at(key)}{name}: {message}"


@pytest.mark.parametrize("value", ["2", "128", "54000", "full"])
def test_batch_sizes(value: str) -> None:
    assert str(read(edited(batch_size=value)).train.batch_size) == value


@pytest.mark.parametrize("value", ["keras-pipeline", "2. try_of MNIST", "a" * 100])
def test_names_of_experiments(value: str) -> None:
    assert read(edited(experiment=value)).tracking.experiment == value


def test_a_warm_up_counts_only_where_the_schedule_has_one() -> None:
    constant = edited(warmup_epochs="99").replace("name: cosine", "name: constant")
    assert read(constant).train.schedule.warmup_epochs == 99


def test_a_batch_that_the_devices_cannot_share() -> None:
    assert refusal(edited(strategy="mirrored", devices="3")) == (
        f"{at('batch_size')}train.batch_size: 128 is the global batch and cannot be shared evenly by 3 replicas. "
        "Use a multiple of 3, such as 126."
    )
    assert read(edited(strategy="mirrored", devices="4")).train.devices == 4
    assert read(edited(strategy="mirrored", devices="3", batch_size="full")).train.devices == 3


def test_a_sigmoid_output_has_losses_of_its_own() -> None:
    values = read(edited(output_activation="sigmoid", loss="mean_squared_error"))
    assert values.model.output_activation == "sigmoid"


def test_an_unknown_block_and_the_missing_one() -> None:
    line = TEXT[: TEXT.index("\nevaluate:")].count("\n") + 2
    first = TEXT[: TEXT.index("seed:")].count("\n") + 1
    assert refusal(TEXT.replace("\nevaluate:", "\nevaluation:")) == (
        f"params.yaml:{first}:1: evaluate: missing. "
        "Add it: a block with the keys calibration_bins, worst_mistakes.\n"
        f"params.yaml:{line}:1: evaluation: this key is not known here. "
        "Allowed: seed, fetch, normalize, model, train, evaluate, export, tracking. Did you mean 'evaluate'?"
    )


def test_a_missing_key_is_named_with_what_it_may_be() -> None:
    fetch = TEXT[: TEXT.index("\nfetch:")].count("\n") + 2
    first = TEXT[: TEXT.index("seed:")].count("\n") + 1
    without_seed = re.sub(r"(?m)^seed:.*$", "", TEXT)
    assert refusal(without_seed) == (
        f"params.yaml:{first + 2}:1: seed: missing. Add it: a whole number, 0 <= value <= 4294967295."
    )
    without_dataset = re.sub(r"(?m)^  dataset:.*$", "  {}", TEXT)
    assert refusal(without_dataset) == (
        f"params.yaml:{fetch}:1: fetch.dataset: missing. Add it: the name of a file datasets/NAME.yaml."
    )


@pytest.mark.parametrize(
    ("lines", "place", "message"),
    [
        (("name: adm", "learning_rate: 0.1"), (0, 11), "train.optimizer.name: 'adm' is not known. "
         "Allowed: adadelta, adafactor, adagrad, adam, adamax, adamw, ftrl, lamb, lion, muon, nadam, rmsprop, "
         "schedulefreeadamw, sgd. Did you mean 'adam'?"),
        (("learning_rate: 0.1",), (-1, 3), "train.optimizer.name: missing. Add it: "
         "one of adadelta, adafactor, adagrad, adam, adamax, adamw, ftrl, lamb, lion, muon, nadam, rmsprop, "
         "schedulefreeadamw, sgd."),
        (("name: sgd", "learning_rate: 0.1", "momentum: 1.5"), (2, 15),
         "train.optimizer.momentum: 1.5 is out of range. Expected: 0 <= value <= 0.999999."),
        (("name: adam", "learning_rate: 0.1", "beta_1: 1"), (2, 13),
         "train.optimizer.beta_1: 1 is out of range. Expected: 0 <= value <= 0.999999."),
        (("name: sgd", "learning_rate: 0.1", "nestrov: true"), (2, 5),
         "train.optimizer.nestrov: this key is not known here. Allowed: name, learning_rate, momentum, nesterov, "
         f"{OF_ANY_OPTIMIZER}. Did you mean 'nesterov'?"),
        (("name: sgd", "learning_rate: 0.1", "beta_1: 0.9"), (2, 5),
         "train.optimizer.beta_1: this key is not known here. Allowed: name, learning_rate, momentum, nesterov, "
         f"{OF_ANY_OPTIMIZER}."),
        (("name: lion", "learning_rate: 0.1", "epsilon: 1e-7"), (2, 5),
         "train.optimizer.epsilon: this key is not known here. Allowed: name, learning_rate, beta_1, beta_2, "
         f"{OF_ANY_OPTIMIZER}."),
    ],
)  # fmt: skip
def test_optimizers(lines: tuple[str, ...], place: tuple[int, int], message: str) -> None:
    block = TEXT[: TEXT.index("  optimizer:")].count("\n") + 1
    assert refusal(with_optimizer(*lines)) == f"params.yaml:{block + 1 + place[0]}:{place[1]}: {message}"


def test_an_optimizer_keeps_only_the_arguments_that_the_file_gives() -> None:
    optimizer = read(with_optimizer("name: sgd", "learning_rate: 1", "momentum: 0.9", "nesterov: true")).train.optimizer
    assert optimizer.arguments() == {"momentum": 0.9, "nesterov": True}
    assert read(TEXT).train.optimizer.arguments() == {}


FLATTEN = "{layer: Flatten}"
CONVOLUTION = "{layer: Conv2D, filters: 8, kernel_size: 3}"


@pytest.mark.parametrize(
    ("layers", "column", "message"),
    [
        (("{layer: Dense, units: 64}",), 1, "model.layers[0]: Dense needs a flat input, but gets 28 × 28 × 1. "
         "Put {layer: Flatten} or {layer: GlobalAveragePooling2D} before it."),
        ((CONVOLUTION, "{layer: Dense, units: 64}"), 46, "model.layers[1]: Dense needs a flat input, but gets "
         "26 × 26 × 8. Put {layer: Flatten} or {layer: GlobalAveragePooling2D} before it."),
        (("{layer: MaxPooling2D, pool_size: 7}", "{layer: Conv2D, filters: 8, kernel_size: 5}", FLATTEN), 38,
         "model.layers[1]: Conv2D with a window of 5 does not fit into 4 × 4 × 1. "
         "Use a smaller window, padding: same, or fewer layers before it."),
        (("{layer: Conv2D, filters: 8, kernel_size: 29}", FLATTEN), 1,
         "model.layers[0]: Conv2D with a window of 29 does not fit into 28 × 28 × 1. "
         "Use a smaller window, padding: same, or fewer layers before it."),
        ((*["{layer: MaxPooling2D}"] * 5, FLATTEN), 93, "model.layers[4]: MaxPooling2D with a window of 2 does not "
         "fit into 1 × 1 × 1. Use a smaller window, padding: same, or fewer layers before it."),
        ((FLATTEN, CONVOLUTION), 19, "model.layers[1]: Conv2D needs (height, width, channels), but gets 784 values. "
         "Put it before Flatten."),
        ((FLATTEN, "{layer: GlobalAveragePooling2D}"), 19, "model.layers[1]: GlobalAveragePooling2D needs "
         "(height, width, channels), but gets 784 values. Put it before Flatten."),
        ((CONVOLUTION,), 0, "model.layers: the last layer gives 26 × 26 × 8, but the output layer, which the "
         "pipeline adds, needs a flat input. End the list with {layer: Flatten} or {layer: GlobalAveragePooling2D}."),
        (("{layer: Dens, units: 4}",), 9, "model.layers[0].layer: 'Dens' is not known. Allowed: Activation, "
         "AveragePooling2D, BatchNormalization, Conv2D, Dense, Dropout, Flatten, GlobalAveragePooling2D, "
         "MaxPooling2D. Did you mean 'Dense'?"),
        ((FLATTEN, "{layer: Dense, units: 4, bias: false}"), 44, "model.layers[1].bias: this key is not known here. "
         "Allowed: layer, units, activation, use_bias, l2. Did you mean 'use_bias'?"),
        ((FLATTEN, "{layer: Dense, units: 1000000}"), 41, "model.layers[1].units: 1000000 is out of range. "
         "Expected: 1 <= value <= 65536."),
        (("{layer: Dropout, rate: 1}", FLATTEN), 24, "model.layers[0].rate: 1 is out of range. "
         "Expected: 0 <= value < 1."),
        (("Flatten",), 1, "model.layers[0]: 'Flatten' is a string. A block with the key layer is expected."),
        ((FLATTEN, "{layer: Activation, activation: rleu}"), 51, "model.layers[1].activation: 'rleu' is not known. "
         "Allowed: linear, relu, leaky_relu, elu, selu, gelu, silu, mish, softplus, softsign, tanh, sigmoid, "
         "hard_sigmoid, exponential, relu6, celu. Did you mean 'relu'?"),
    ],
)  # fmt: skip
def test_layers_that_cannot_be(layers: tuple[str, ...], column: int, message: str) -> None:
    assert refusal(with_layers(*layers)) == f"{at('layers', column)}{message}"


def test_layers_are_checked_while_another_architecture_is_chosen() -> None:
    text = edited(layers="[{layer: Dense, units: 64}]")
    assert "model.layers[0]: Dense needs a flat input" in refusal(text)
    assert read(edited(layers=f"[{CONVOLUTION}]")).model.architecture == "mlp"


def test_a_thousand_layers_are_too_many() -> None:
    assert refusal(with_layers(*["{layer: Flatten}"] * 1000)) == (
        f"{at('layers')}model.layers: 1000 is not the right number of items. Expected: items <= 100."
    )


def test_all_faults_at_once() -> None:
    text = edited(seed="-1", dataset="a/b", dropout="1", epochs="0", experiment="a/b")
    assert [line.partition(" ")[2].partition(":")[0] for line in refusal(text).split("\n")] == [
        "seed",
        "fetch.dataset",
        "model.dropout",
        "train.epochs",
        "tracking.experiment",
    ]


@pytest.mark.parametrize(("value", "kind"), [("[1]", "a list"), ("{a: 1}", "a block"), ("", "no value")])
@pytest.mark.parametrize("key", ["seed", "dataset", "batch_normalization", "batch_size", "learning_rate"])
def test_every_key_refuses_another_kind(key: str, value: str, kind: str) -> None:
    assert kind in refusal(edited(**{key: value}))


def test_flat_gives_each_value_its_dotted_key() -> None:
    values = dict(params.flatten(read(TEXT)))
    assert values["seed"] == 1
    assert values["train.optimizer.name"] == "adam"
    assert values["train.schedule.warmup_epochs"] == 1
    assert values["model.batch_normalization"] is True
    assert values["model.hidden_units"] == "[512, 256]"
    assert values["model.layers"] == "[]"
    # Every value of the file, and no other: an argument that the optimizer could have, too, is left out.
    in_file = re.findall(r"(?m)^ *(\w+): *[^ #\n]", TEXT)
    assert sorted(key.rpartition(".")[2] for key in values) == sorted(in_file)
    assert all(isinstance(value, int | float | bool | str) for value in values.values())


def test_flat_gives_the_arguments_that_were_given() -> None:
    text = with_optimizer("name: sgd", "learning_rate: 1", "momentum: 0.9")
    values = dict(params.flatten(read(text).train, "train."))
    assert values["train.optimizer.momentum"] == 0.9
    assert "train.optimizer.nesterov" not in values
    text = with_layers("{layer: Conv2D, filters: 8, kernel_size: 3}", FLATTEN, "{layer: Dropout, rate: 0.5}")
    assert dict(params.flatten(read(text).model))["layers"] == (
        '[{"layer": "Conv2D", "filters": 8, "kernel_size": 3}, {"layer": "Flatten"}, {"layer": "Dropout", "rate": 0.5}]'
    )


def test_layers_are_typed() -> None:
    text = with_layers(CONVOLUTION, FLATTEN, "{layer: Dropout, rate: 0.5}", "{layer: Dense, units: 3}")
    kinds = [type(layer) for layer in read(text).model.layers]
    assert kinds == [Conv2D, Flatten, Dropout, Dense]


def test_the_file_that_is_named_is_the_one_in_the_message(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(edited(seed="-1"))
    with pytest.raises(ParamsError, match=f"^{re.escape(str(tmp_path))}/mine.yaml:\\d+:7: seed: -1 is out of range"):
        load_params(tmp_path / "mine.yaml")


@pytest.mark.parametrize(("count", "seed"), [(200, 1)], ids=["200"])
def test_a_broken_file_is_valid_or_refused_with_every_place(count: int, seed: int) -> None:
    check_broken_files(count, seed)


@pytest.mark.parametrize(
    ("images", "changes", "size"),
    [
        (54_000, {}, 256),
        (1293, {}, 128),
        (209, {}, 32),  # 16 and 8 would leave one in the last step
        (300, {}, 16),
        (60, {}, 8),
        (5, {}, 5),
        (54_000, {"train.strategy": "mirrored", "train.devices": 3}, 255),
        (54_000, {"train.batch_size": 100}, 100),
        (209, {"train.batch_size": "full"}, 209),
    ],
)
def test_a_step_takes_fewer_of_few_images(images: int, changes: dict[str, Any], size: int) -> None:
    chosen = small.params({"train.batch_size": "auto", **changes})
    assert chosen.train.images_a_step(images) == size

"""The network as MLflow serves it: raw input is answered, all else refused in words, in Python and by its server."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import settings, strategies

import small
import tracking_fixtures
from keras_pipeline.checks.params import load_params
from keras_pipeline.data import encoding
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.models import architectures
from keras_pipeline.tracking import live_run, store
from keras_pipeline.tracking.stores import address
from small import IMAGE_SHAPE
from tracked_runs import run_of
from tracking_fixtures import EXPERIMENT, MLFLOW_WARNINGS, Checkout, contents

pytestmark = [pytest.mark.slow, MLFLOW_WARNINGS]


def test_a_network_is_kept_as_it_is_served_and_comes_back_with_a_new_store(made: Checkout, tmp_path: Path) -> None:
    made.set_params({"model.hidden_units": [8]})
    record = tracking_fixtures.record(made.params_file)
    network, outputs = train_and_save(made, record)
    tracker = live_run.LiveTracker(made.where, EXPERIMENT)
    tracker.started(record)
    for row in record["history"]:
        tracker.epoch(row)
    tracker.ended("FINISHED", record, network)
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow sets it for the processes that it starts
    assert not tracker.failed
    made.write(record)
    made.track()
    clone = Checkout(Path(shutil.copytree(made.root, tmp_path / "clone", ignore=shutil.ignore_patterns("mlruns"))))
    clone.track()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    run, rebuilt = run_of(made), run_of(clone)
    assert rebuilt.data.params == run.data.params
    assert {**rebuilt.data.tags, "mlflow.loggedImages": "True"} == run.data.tags
    for checkout in (made, clone):
        kept = run_of(checkout)
        assert (kept.info.status, kept.info.end_time) == ("FINISHED", 1_700_000_031_250)
        assert_served(checkout, kept, outputs)
    before = contents(clone.database)
    clone.track(again=True)
    assert contents(clone.database) == before


def train_and_save(checkout: Checkout, record: dict[str, Any]) -> tuple[Any, Callable[[Any], Any]]:
    """A network of the params with random weights everywhere, also in BatchNormalization, and its file."""
    from keras_pipeline.core import files
    from keras_pipeline.models import architectures, frameworks

    frameworks.start_framework()
    from keras_pipeline.data.scaling import Scaling
    from keras_pipeline.models import model_file

    random = np.random.default_rng(0)
    network = architectures.build_network(load_params(checkout.params_file).model, IMAGE_SHAPE, 10)
    weights = [
        random.uniform(*((0.1, 1) if one.ndim == 1 else (-0.1, 0.1)), one.shape) for one in network.get_weights()
    ]
    network.set_weights(weights)
    file = checkout.root / "models" / "model.keras"
    model_file.save_network(network, file)
    record["sha256"]["model"] = files.file_sha256(file)
    scaling = Scaling(**record["dataset"]["scaling"])
    # The formula of Scaling, written out.
    return network, lambda pixels: network(
        ((pixels.astype(np.float64) - scaling.offset) / scaling.divisor).astype(np.float32)[..., None]
    ).numpy()


def assert_served(checkout: Checkout, run: Any, outputs: Callable[[Any], Any]) -> None:
    import mlflow

    reached = store.connect_store(checkout.where, EXPERIMENT)
    (kept,) = run.outputs.model_outputs
    model = reached.client.get_logged_model(kept.model_id)
    assert model.status == "READY"
    assert Path(model.artifact_location.removeprefix("file://")).is_relative_to(checkout.root / "mlruns" / "artifacts")
    served = mlflow.pyfunc.load_model(model.artifact_location)
    assert served.metadata.metadata == {"input": "raw pixels, whole numbers 0 … 255 of any type, shape (n, 28, 28)"}
    network = Path(model.artifact_location.removeprefix("file://")) / "artifacts" / "network.keras"
    assert network.read_bytes() == (checkout.root / "models" / "model.keras").read_bytes()
    images = np.random.default_rng(1).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    answers = served.predict(images)
    assert answers.shape == (5, 10)
    np.testing.assert_allclose(answers, outputs(images), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(served.predict(images[..., None]), answers)
    assert np.ptp(answers, axis=0).max() > 0.01  # the images are told apart
    np.testing.assert_array_equal(served.predict(images.astype(np.float32)), answers)
    with pytest.raises(mlflow.MlflowException):
        served.predict(images / 255)


NAMES = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
MIXED: list[Any] = [
    {"name": "age", "kind": "number", "fill": 30.5},
    {"name": "class", "kind": "category", "categories": ["1", "2", "3"], "missing": "value"},
    {"name": "city", "kind": "category", "categories": ["Oslo", "Rome"], "missing": "other"},
]


def images(shape: list[int], dtype: str, high: float) -> dict[str, Any]:
    return {"kind": "images", "shape": shape, "dtype": dtype, "low": 0.0, "high": high}


RECORDS: dict[str, dict[str, Any]] = {
    "digits": {
        "dataset": "digits", "task": "classes", "shape": [28, 28, 1], "class_names": list("0123456789"),
        "input": images([28, 28, 1], "|u1", 255.0),
        "scaling": {"name": "standard", "offset": 33.318421449829934, "divisor": 78.56748998339798}, "target": None,
    },
    "colours": {
        "dataset": "colours", "task": "classes", "shape": [12, 9, 3], "class_names": list("0123456789"),
        "input": images([12, 9, 3], "<u2", 4095.0),
        "scaling": {"name": "unit", "offset": 0.0, "divisor": 4095.0}, "target": None,
    },
    "diabetes": {
        "dataset": "diabetes", "task": "regression", "shape": [10], "class_names": [],
        "input": encoding.number_columns(NAMES, "progression"),
        "scaling": {"name": "standard", "offset": [1.0] * 10, "divisor": [2.0] * 10},
        "target": {"name": "standard", "offset": 150.0, "divisor": 80.0},
    },
    "mixed": {
        "dataset": "mixed", "task": "binary", "shape": [9], "class_names": ["no", "yes"],
        "input": {
            "kind": "table", "columns": MIXED, "target": "y", "missing": "median", "missing_values": [],
            "features": encoding.feature_names(MIXED),
        },
        "scaling": {"name": "standard", "offset": [30.0, *[0.0] * 8], "divisor": [7.0, *[1.0] * 8]}, "target": None,
    },
}  # fmt: skip
REGRESSION = {"train.loss": "mean_squared_error", "model.output_activation": "linear"}
OUTPUTS = {"digits": 10, "colours": 10, "diabetes": 1, "mixed": 1}
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
ROWS = np.random.default_rng(0).uniform(0, 9, (3, 10))


NETWORKS: dict[str, Any] = {}
PATHS: dict[str, str] = {}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of images and of a table, what `mlflow.pyfunc.load_model` gives."""
    import mlflow

    from keras_pipeline.models import frameworks
    from keras_pipeline.tracking import runs

    frameworks.start_framework()
    root: Path = tmp_path_factory.mktemp("served")
    reached = store.connect_store(address.store_location(root), "served")
    found = {}
    for name, record in RECORDS.items():
        output = {"classes": "softmax", "binary": "sigmoid", "regression": "linear"}[record["task"]]
        model = small.params().model.model_copy(update={"output_activation": output})
        network = NETWORKS[name] = architectures.build_network(model, tuple(record["shape"]), OUTPUTS[name])
        run_id = reached.client.create_run(reached.experiment).info.run_id
        with runs.served_network(network, record) as ready:
            runs.log_model(reached, run_id, ready)
        (kept,) = reached.client.get_run(run_id).outputs.model_outputs
        PATHS[name] = reached.client.get_logged_model(kept.model_id).artifact_location
        found[name] = mlflow.pyfunc.load_model(PATHS[name])
    return found


@pytest.mark.parametrize("kind", ["uint8", "int64", "float16", "float32", "float64"])
def test_whole_numbers_of_any_type_are_pixels(served: dict[str, Any], kind: str) -> None:
    answers = served["digits"].predict(IMAGES)
    assert answers.shape == (3, 10)
    np.testing.assert_array_equal(served["digits"].predict(IMAGES.astype(kind)), answers)
    np.testing.assert_array_equal(served["digits"].predict(IMAGES.tolist()), answers)


def test_the_outputs_are_the_network_s_own_for_scaled_inputs_bit_by_bit(served: dict[str, Any]) -> None:
    """Where the graph scales them, 126 of 256 values differ in their last bit."""
    every = np.arange(256, dtype=np.uint8).repeat(49).reshape(-1, 28, 28)
    deep = np.random.default_rng(0).integers(0, 4096, (50, 12, 9, 3), np.uint16)
    for name, raw in (("digits", every), ("colours", deep), ("diabetes", ROWS)):
        whole = raw[..., np.newaxis] if name == "digits" else raw
        inputs = Scaling(**RECORDS[name]["scaling"]).apply(whole)
        outputs = NETWORKS[name].predict(inputs, batch_size=1000, verbose=0)
        if name == "diabetes":
            outputs = Scaling(**RECORDS[name]["target"]).undo(outputs).astype(np.float32)
        np.testing.assert_array_equal(served[name].predict(raw), outputs)


@pytest.mark.parametrize("empty", [[], IMAGES[:0]])
def test_no_image_has_no_answer(served: dict[str, Any], empty: Any) -> None:
    assert served["digits"].predict(empty).shape == (0, 10)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            IMAGES / 255,
            r"in image 0, row 0, column 0\. Expected: raw pixels, .* They seem to be scaled: give the pixels",
        ),
        (IMAGES - 1.0, r"-1\.0 in image 0, .* Give the pixels|They seem to be scaled: give"),
        (IMAGES.astype(int) + 1, "256 in image 0"),
        (np.where(IMAGES > 250, np.nan, IMAGES), "nan in image 0"),
        (np.where(IMAGES > 250, np.inf, IMAGES), "inf in image 0"),
        (IMAGES[0], r"the shape \(28, 28\)\. .* Give array\.reshape\(-1, 28, 28\)\."),
        (IMAGES[..., None, None], r"the shape \(3, 28, 28, 1, 1\)\. "),
        (IMAGES.reshape(3, 784), r"the shape \(3, 784\)\. .* Give array\.reshape\(-1, 28, 28\)\."),
        (IMAGES[:, :20], r"the shape \(3, 20, 28\)\. .* Give inputs of the size that the network was trained on\."),
        (IMAGES > 99, "values of the type bool"),
        (IMAGES.astype(str), "values of the type <U3"),
        (IMAGES.astype(object), "values of the type object"),
        ([[1], [1, 2]], "lists of unequal lengths"),
        ({"pixels": IMAGES}, "a dict"),
        ("pixels", "a str"),
    ],
)
def test_what_is_no_pixels_is_refused(served: dict[str, Any], given: Any, message: str) -> None:
    import mlflow

    with pytest.raises(mlflow.MlflowException, match=message) as refused:
        served["digits"].predict(given)
    assert refused.value.get_http_status_code() == 400


def test_a_table_takes_arrays_and_data_frames_by_their_columns(served: dict[str, Any]) -> None:
    import mlflow
    import pandas as pd

    predict = served["diabetes"].predict
    frame = pd.DataFrame(ROWS, columns=list(NAMES))
    answers = predict(ROWS)
    assert answers.shape == (3, 1)
    np.testing.assert_array_equal(predict(ROWS.tolist()), answers)
    for same in (frame, frame[list(NAMES[::-1])].assign(more="x"), pd.DataFrame(ROWS)):
        found = predict(same)
        assert list(found.columns) == ["predicted progression"]
        np.testing.assert_array_equal(found.to_numpy(), answers)
    assert predict([]).shape == (0, 1)
    for given, message in (
        (frame.rename(columns={"bmi": "BMI"}), "a DataFrame with the columns age, sex, BMI, bp, .*; bmi is missing"),
        (frame.astype(str), "values in the column age of the type"),
        (ROWS[:, :9], r"the shape \(3, 9\)"),
        (ROWS[0], r"the shape \(10,\)\. .* Give array\.reshape\(-1, 10\)\."),
        (np.where(ROWS[1, 2] == ROWS, np.nan, ROWS), "nan in row 1, feature bmi"),
        (np.where(ROWS[2, 0] == ROWS, 1e39, ROWS), r"1e\+39 in row 2, feature age"),
    ):
        with pytest.raises(mlflow.MlflowException, match=message):
            predict(given)


def test_a_table_with_categories_takes_named_columns_and_gives_named_answers(served: dict[str, Any]) -> None:
    import mlflow
    import pandas as pd

    predict = served["mixed"].predict
    frame = pd.DataFrame({"city": ["Rome", "Paris", None, "Oslo"], "age": [4, np.nan, 1000, 2], "class": [1, 2, 3, 1]})
    found = predict(frame)
    assert list(found.columns) == ["label", "probability of no", "probability of yes"]
    features = encoding.encode(
        MIXED,
        {"city": ["Rome", "Paris", None, "Oslo"], "age": np.array([4, np.nan, 1000, 2]), "class": ["1", "2", "3", "1"]},
    )
    outputs = NETWORKS["mixed"].predict(Scaling(**RECORDS["mixed"]["scaling"]).apply(features), verbose=0)
    np.testing.assert_array_equal(found["probability of yes"].to_numpy(), outputs[:, 0])
    assert found["label"].tolist() == [["no", "yes"][int(one > 0.5)] for one in outputs[:, 0]]
    for same in (
        frame.assign(**{"class": ["1", "2", "3", "1"]}), frame.assign(age=pd.array([4, None, 1000, 2], "Int64")),
        frame.assign(age=[4, None, 1000, 2]).astype({"age": object}), frame.assign(city=pd.Categorical(frame["city"])),
        frame.assign(**{"class": [1.0, 2.0, 3.0, 1.0]}), frame.convert_dtypes(),
    ):  # fmt: skip
        pd.testing.assert_frame_equal(predict(same), found)
    assert len(predict(frame[:0])) == 0
    for given, message in (
        (frame.drop(columns="age"), "the columns city, class; age is missing"),
        (frame.assign(age="x"), "values in the column age of the type"),
        (frame.assign(age=np.inf), "inf in row 0, feature age"),
        (frame.assign(**{"class": [1, 2, 7, 1]}), "7 in row 2, column class"),
        (np.zeros((3, 3)), "a ndarray"),
    ):
        with pytest.raises(mlflow.MlflowException, match=message):
            predict(given)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@hypothesis.given(strategies.data())
def test_rows_are_encoded_as_in_training(data: strategies.DataObject) -> None:
    """`served` cannot import what the training does: it does the same, whatever the columns."""
    import pandas as pd

    from keras_pipeline.tracking import served

    words = strategies.none() | strategies.sampled_from(["a", "b", "c", "1", "01", "é"])
    numbers = strategies.none() | strategies.floats(-1e30, 1e30)
    count = data.draw(strategies.integers(2, 6))
    values: dict[str, Any] = {}
    for index, kind in enumerate(
        data.draw(strategies.lists(strategies.sampled_from(["n", "c"]), min_size=1, max_size=4))
    ):
        drawn = data.draw(strategies.lists(words if kind == "c" else numbers, min_size=count, max_size=count))
        values[f"{kind}{index}"] = np.array([np.nan if one is None else one for one in drawn]) if kind == "n" else drawn
        if kind == "n":
            values[f"{kind}{index}"][0] = 1.5
    columns = encoding.fit_encoding(
        values, np.arange(2), data.draw(strategies.sampled_from(["median", "mean", "zero"]))
    )
    table = {"kind": "table", "columns": columns, "features": encoding.feature_names(columns)}
    np.testing.assert_array_equal(served.features(pd.DataFrame(values), table), encoding.encode(columns, values))


ASK = """
import json, os, sys
sys.modules["keras_pipeline"] = None  # as where it is not installed
import mlflow, pandas
answers = mlflow.pyfunc.load_model(sys.argv[1]).predict(pandas.read_csv(sys.argv[2]))
print(json.dumps(answers.to_dict("list")))
"""


def test_it_answers_where_nothing_of_the_pipeline_is_installed(served: dict[str, Any], tmp_path: Path) -> None:
    """A process of its own, and a CSV file as pandas reads it: whole numbers, gaps, categories that are numbers."""
    import pandas as pd

    (tmp_path / "rows.csv").write_text("city,age,class,id\nRome,4,1,7\n,,2,8\nParis,1000,3,9\n")
    done = subprocess.run(
        [sys.executable, "-c", ASK, PATHS["mixed"], tmp_path / "rows.csv"],
        cwd=tmp_path, check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    expected = served["mixed"].predict(pd.read_csv(tmp_path / "rows.csv"))
    assert json.loads(done.stdout.splitlines()[-1]) == expected.to_dict("list")


@pytest.mark.parametrize("name", RECORDS)
def test_what_is_kept_with_a_model_fits_it(served: dict[str, Any], name: str) -> None:
    model = served[name]
    assert model.metadata.get_input_schema() is None
    assert model.metadata.signature.outputs is not None
    assert len(model.predict(model.input_example)) == 1


@pytest.mark.parametrize("key", ["inputs", "instances"])
def test_the_scoring_server_hands_on_what_was_sent(served: dict[str, Any], key: str) -> None:
    import mlflow
    from mlflow.pyfunc import scoring_server

    def asked(model: Any, value: Any) -> Any:
        sent = json.dumps({key: value})
        answer = scoring_server.invocations(sent, "application/json", model, model.metadata.get_input_schema())
        assert answer.status == 200
        return json.loads(answer.response)["predictions"]

    digits, diabetes = served["digits"], served["diabetes"]
    answers = digits.predict(IMAGES)
    for same in (IMAGES.tolist(), IMAGES.astype(float).tolist()):
        np.testing.assert_allclose(asked(digits, same), answers, rtol=1e-6)
    assert asked(digits, []) == []
    np.testing.assert_allclose(asked(diabetes, ROWS.tolist()), diabetes.predict(ROWS), rtol=1e-6)
    for model, value, message in (
        (digits, (IMAGES / 255).tolist(), "They seem to be scaled: give the pixels"),
        (digits, (IMAGES.astype(int) + 1).tolist(), "256 in image 0"),
        (digits, IMAGES.astype(str).tolist(), "values of the type <U3"),
        (diabetes, [[None] * 10], "values of the type object"),
    ):
        with pytest.raises(mlflow.MlflowException, match=message) as refused:
            asked(model, value)
        assert refused.value.get_http_status_code() == 400

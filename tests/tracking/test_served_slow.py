"""The network as MLflow serves it: raw input is answered, all else refused in words, in Python and by its server."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small
import tracking_fixtures
from keras_pipeline.checks.params import load_params
from keras_pipeline.config.datasets import DATASETS, IMAGE_SHAPE
from keras_pipeline.models import architectures
from keras_pipeline.tracking import live_run, store
from keras_pipeline.tracking.stores import address
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
    images = np.random.default_rng(1).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    answers = served.predict(images)
    assert answers.shape == (5, 10)
    np.testing.assert_allclose(answers, outputs(images), rtol=0, atol=1e-6)
    assert np.ptp(answers, axis=0).max() > 0.01  # the images are told apart
    np.testing.assert_array_equal(served.predict(images.astype(np.float32)), answers)
    for refused in (images / 255, images[..., None]):
        with pytest.raises(mlflow.MlflowException):
            served.predict(refused)


NAMES = DATASETS["diabetes"].columns[:-1]
RECORDS: dict[str, dict[str, Any]] = {
    "digits": {
        **small.described(), "task": "classes", "class_names": list("0123456789"),
        "scaling": {"name": "unit", "offset": 0.0, "divisor": 255.0}, "target": None,
    },
    "diabetes": {
        **small.described("diabetes"), **small.table(NAMES), "task": "regression", "class_names": [],
        "scaling": {"name": "standard", "offset": [1.0] * 10, "divisor": [2.0] * 10},
        "target": {"name": "standard", "offset": 150.0, "divisor": 80.0},
    },
}  # fmt: skip
REGRESSION = {"train.loss": "mean_squared_error", "model.output_activation": "linear"}
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
ROWS = np.random.default_rng(0).uniform(0, 9, (3, 10))


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
        chosen = small.params({"fetch.dataset": name, **(REGRESSION if record["target"] else {})})
        network = architectures.build_network(chosen.model, tuple(record["shape"]), 1 if record["target"] else 10)
        run_id = reached.client.create_run(reached.experiment).info.run_id
        with runs.served_network(network, record) as ready:
            runs.log_model(reached, run_id, ready)
        (kept,) = reached.client.get_run(run_id).outputs.model_outputs
        found[name] = mlflow.pyfunc.load_model(reached.client.get_logged_model(kept.model_id).artifact_location)
    return found


@pytest.mark.parametrize("kind", ["uint8", "int64", "float16", "float32", "float64"])
def test_whole_numbers_of_any_type_are_pixels(served: dict[str, Any], kind: str) -> None:
    answers = served["digits"].predict(IMAGES)
    assert answers.shape == (3, 10)
    np.testing.assert_array_equal(served["digits"].predict(IMAGES.astype(kind)), answers)
    np.testing.assert_array_equal(served["digits"].predict(IMAGES.tolist()), answers)


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
        (IMAGES[..., None], r"the shape \(3, 28, 28, 1\)\. .* Give array\.reshape\(-1, 28, 28\)\."),
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
    for same in (ROWS.tolist(), frame, frame[list(NAMES[::-1])], pd.DataFrame(ROWS)):
        np.testing.assert_array_equal(predict(same), answers)
    assert predict([]).shape == (0, 1)
    for given, message in (
        (frame.rename(columns={"bmi": "BMI"}), "a DataFrame with the columns age, sex, BMI, bp,"),
        (frame.assign(more=1), "a DataFrame with the columns .*, more"),
        (frame.astype(str), "values in the column age of the type"),
        (ROWS[:, :9], r"the shape \(3, 9\)"),
        (ROWS[0], r"the shape \(10,\)\. .* Give array\.reshape\(-1, 10\)\."),
        (np.where(ROWS[1, 2] == ROWS, np.nan, ROWS), "nan in row 1, feature bmi"),
        (np.where(ROWS[2, 0] == ROWS, 1e39, ROWS), r"1e\+39 in row 2, feature age"),
    ):
        with pytest.raises(mlflow.MlflowException, match=message):
            predict(given)


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

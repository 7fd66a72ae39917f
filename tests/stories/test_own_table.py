"""A table of one's own, with categories, gaps and three classes: its file, what is fetched, what a network is fed."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import example_table
import small
from keras_pipeline.core.errors import DataError, ParamsError
from keras_pipeline.data.encoding import decode, encode
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.data.splits import read_split
from keras_pipeline.data.statistics import read_statistics
from keras_pipeline.stages import fetch, normalize

TABLE = {"fetch.dataset": "flowers", "normalize.scaling": "standard", "train.batch_size": 32}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    example_table.write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(**changes: Any) -> Any:
    chosen = small.params({**TABLE, **{key.replace("__", "."): value for key, value in changes.items()}})
    fetch.fetch_dataset(chosen, Path("raw"), Path("downloads"))
    normalize.normalize_dataset(chosen, Path("raw"), Path("normalized"))
    return read_statistics(Path("normalized"))


def rewrite(old: str, new: str) -> None:
    for path in (Path("datasets/flowers.yaml"), Path("flowers.csv")):
        path.write_text(path.read_text().replace(old, new))


def rows(split: str) -> list[dict[str, str]]:
    with (Path("raw") / f"{split}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_a_network_is_fed_says_what_the_rows_were() -> None:
    statistics = run()
    assert (statistics["task"], statistics["class_names"]) == ("classes", ["aster", "iris", "rose"])
    given = statistics["input"]
    assert given["features"] == [
        "petal_length", "petal_width", "height", "colour=blue", "colour=red", "colour=violet", "colour=white",
        "colour (missing)", "colour (other)", "site=north", "site=south", "site=wood's edge, left", "site (other)",
    ]  # fmt: skip
    test, raw = read_split(Path("normalized"), "test", statistics), rows("test")
    assert test.inputs.dtype == np.float32
    assert test.inputs.shape == (len(raw), 13)
    assert [statistics["class_names"][label] for label in test.targets] == [row["species"] for row in raw]
    made = decode(given["columns"], Scaling(**statistics["scaling"]).undo(test.inputs))
    fills = {column["name"]: column["fill"] for column in given["columns"] if column["kind"] == "number"}
    for name in ("petal_length", "petal_width", "height"):
        expected = [float(row[name]) if row[name] else fills[name] for row in raw]
        np.testing.assert_allclose(made[name], expected, rtol=1e-5)
    assert made["colour"] == [row["colour"] or "(missing)" for row in raw]
    assert made["site"] == [row["site"] for row in raw]
    train = read_split(Path("normalized"), "train", statistics)
    np.testing.assert_allclose(train.inputs[:, :3].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(train.inputs[:, :3].std(axis=0), 1, atol=1e-5)
    assert sum(statistics["class_counts"]["train"]) == len(train.targets)


def test_of_the_test_rows_nothing_is_known_when_it_is_fitted(capsys: pytest.CaptureFixture[str]) -> None:
    before = run()
    path = Path("raw/test.csv")
    changed = path.read_text().replace(",north,", ",west,").replace("3", "900")
    path.write_text(changed)
    description = json.loads(Path("raw/dataset.json").read_text())
    import hashlib

    description["files"]["test.csv"] = {
        "sha256": hashlib.sha256(changed.encode()).hexdigest(), "bytes": len(changed.encode()),
    }  # fmt: skip
    Path("raw/dataset.json").write_text(json.dumps(description))
    capsys.readouterr()
    normalize.normalize_dataset(small.params(TABLE), Path("raw"), Path("normalized"))
    after = read_statistics(Path("normalized"))
    assert (after["input"], after["scaling"]) == (before["input"], before["scaling"])
    west = sum(row["site"] == "west" for row in rows("test"))
    assert west > 5
    assert f"normalize: site: {west} of the test rows have a value that no training row has" in capsys.readouterr().out


def test_two_classes_one_against_the_rest_and_a_number() -> None:
    statistics = run(normalize__positive_class="rose", model__output_activation="sigmoid",
                     train__loss="binary_crossentropy")  # fmt: skip
    assert statistics["class_names"] == ["not rose", "rose"]
    rewrite("target: species\nclasses: [aster, iris, rose]", "target: petal_width")
    rewrite("petal_width: number, ", "")
    statistics = run(model__output_activation="linear", train__loss="mean_squared_error")
    assert (statistics["task"], statistics["class_names"]) == ("regression", [])
    test = read_split(Path("normalized"), "test", statistics)
    np.testing.assert_allclose(
        Scaling(**statistics["target"]).undo(test.targets),
        [float(row["petal_width"]) for row in rows("test")],
        rtol=1e-5,
    )


def test_encoding_of_statistics_takes_named_columns() -> None:
    statistics = run()
    asked = {"petal_length": np.array([np.nan]), "petal_width": np.array([1.5]), "height": np.array([30.0]),
             "colour": ["green"], "site": ["south"], "note": ["not asked for"]}  # fmt: skip
    (row,) = encode(statistics["input"]["columns"], asked)
    assert dict(zip(statistics["input"]["features"], row.tolist(), strict=True))["colour (other)"] == 1


@pytest.mark.parametrize(
    ("old", "new", "fault", "message"),
    [
        ("missing_values: [NA]", "", DataError, r"flowers.csv: row \d+ \(line \d+\): 'petal_length': got 'NA'"),
        ("missing_values: [NA]", "missing: refuse\nmissing_values: [NA]", DataError, "'petal_length': nothing"),
        ("aster, iris, rose", "aster, iris, tulip", DataError, r"row 1 \(line 2\): 'species': got the label 'rose'"),
        ("height: number", "hight: number", DataError, r"the column 'hight' is there 0 times"),
        ("target: species", "target: colour", ParamsError, r"flowers.yaml:3:\d+: columns.colour: is what is predicted"),
        ("height: number", "height: numeric", ParamsError, r"columns.height: 'numeric' is not known. Allowed: number"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_place(old: str, new: str, fault: Any, message: str) -> None:
    path = Path("datasets/flowers.yaml")
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(fault, match=message):
        run()
    assert not Path("raw/dataset.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.architecture": "cnn"}, "model.architecture: 'cnn' is for images, and the dataset is a table. Use mlp"),
        ({"train.augmentation.rotation": 10}, "train.augmentation: images are deformed, and .* is a table"),
        ({"model.output_activation": "linear"}, "model.output_activation: 'linear' does not fit a choice of several"),
        ({"normalize.positive_class": "tulip"}, "normalize.positive_class: .*tulip"),
    ],
)
def test_params_that_do_not_go_with_a_table_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        small.params({**TABLE, **changes})

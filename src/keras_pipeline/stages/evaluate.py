"""The stage evaluate: the trained network's answers on the test images, and every number and figure from them."""

import csv
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from keras_pipeline import architectures, backends, files, spent
from keras_pipeline.errors import DataError
from keras_pipeline.params import IMAGE_SHAPE, Params
from keras_pipeline.preprocessing import STATISTICS, Split, read_split

PREDICTION_BATCH = 1000
PREDICTED_TOGETHER = 20 * PREDICTION_BATCH


def run(params: Params, normalized: Path, models: Path, reports: Path) -> None:
    """Write predictions.npz, then everything that is computed from it: metrics.json, tables and figures.

    predictions.npz: outputs float32 (n, classes) as the network gave them, labels int64 (n,), in test order;
    penalty float64 (), the network's L2 penalty.
    """
    with files.lock(reports):
        statistics = files.read_json(normalized / "statistics.json", written_by="normalize", keys=STATISTICS)
        test = read_split(normalized, "test", statistics)
        history = _read_history(models / "history.csv")
        outputs, penalty = _predict(params, models / "model.keras", test, len(statistics["class_names"]))
        _write_npz(
            reports / "predictions.npz",
            {"outputs": outputs, "labels": test.labels, "penalty": np.float64(penalty)},
        )
        report(params, reports, test, statistics["class_names"], history)


def report(params: Params, reports: Path, test: Split, class_names: list[str], history: dict[str, list[float]]) -> None:
    """Numbers and figures from reports/predictions.npz; the images of `test` are only shown."""
    with spent.on("import"):
        from keras_pipeline import figures, metrics

    with np.load(reports / "predictions.npz", allow_pickle=False) as saved:
        outputs, labels, penalty = saved["outputs"], saved["labels"], float(saved["penalty"])
    predicted = outputs.argmax(axis=1)
    bins = params.evaluate.calibration_bins
    scores = metrics.scores(outputs, labels, params.train.loss, penalty, bins)
    rows = metrics.per_class(labels, predicted, class_names)
    calibration = metrics.calibration(outputs, labels, bins)
    matrix = metrics.confusion_matrix(labels, predicted, len(class_names))
    worst = metrics.worst_mistakes(outputs, labels, params.evaluate.worst_mistakes)
    probability = metrics.probabilities(outputs)[np.arange(len(labels)), predicted]

    files.write_json(reports / "metrics.json", scores)
    files.write_json(reports / "intervals.json", metrics.intervals(outputs, labels, params.seed))
    _write_csv(reports / "per_class.csv", rows)
    _write_csv(reports / "calibration.csv", calibration)
    pairs = zip(labels, predicted, strict=True)
    _write_csv(
        reports / "confusion.csv",
        [{"actual": class_names[true], "predicted": class_names[answer]} for true, answer in pairs],
    )
    with spent.on("figures"):
        drawn = {
            "confusion_matrix": figures.confusion_matrix(matrix, class_names),
            "learning_curves": figures.learning_curves(history),
            "per_class": figures.per_class(rows),
            "reliability": figures.reliability(calibration),
            "worst_mistakes": figures.worst_mistakes(
                test.images[worst], labels[worst], predicted[worst], probability[worst], class_names
            ),
        }
        for name, figure in drawn.items():
            figures.save(figure, reports / "figures" / f"{name}.png")
    print(
        f"evaluate: test/accuracy {scores['test/accuracy']:.4f} "
        f"[{scores['test/accuracy_low']:.4f}, {scores['test/accuracy_high']:.4f}] on {len(labels):,} images; "
        f"figures in {reports / 'figures'}/"
    )
    most_common = max(row["support"] for row in rows) / len(labels)
    if scores["test/accuracy_low"] <= most_common:
        print(
            "evaluate: no better than always giving the most common answer "
            f"({most_common:.1%}): the network has learned nothing that shows."
        )


def _predict(params: Params, path: Path, test: Split, classes: int) -> tuple[np.ndarray, float]:
    """Outputs for the test images, and the L2 penalty, of the network of the params with the weights in `path`."""
    backends.start()
    from keras_pipeline import model_file

    backends.seed_everything(params.seed, params.train.precision)
    model = architectures.build(params.model, IMAGE_SHAPE, classes)
    model_file.load_weights(model, path)
    with spent.on("predict"):
        # Keras copies all that it is given: not more than this at a time.
        outputs = np.concatenate(
            [
                model.predict(test.images[start : start + PREDICTED_TOGETHER], batch_size=PREDICTION_BATCH, verbose=0)
                for start in range(0, len(test.labels), PREDICTED_TOGETHER)
            ]
        )
    return outputs, float(sum(float(loss) for loss in model.losses))


def _read_history(path: Path) -> dict[str, list[float]]:
    """models/history.csv by column."""
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
        return {name: [(int if name == "epoch" else float)(row[name]) for row in rows] for name in rows[0]}
    except (OSError, ValueError, IndexError, TypeError) as error:
        raise DataError(
            f"{path}: cannot be read as a training history ({error}). "
            "The stage 'train' writes it: run `dvc repro train`."
        ) from None


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_atomically(path, text.getvalue().encode())


def _write_npz(path: Path, arrays: dict[str, Any]) -> None:
    """As numpy.savez, without the time of writing in the archive: the same arrays give the same bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    files.write_atomically(path, content.getbuffer())

"""The stage evaluate: the trained network's answers on the test images, and every number and figure from them."""

import csv
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from keras_pipeline import architectures, backends, files, spent
from keras_pipeline.errors import DataError
from keras_pipeline.layers import Flatten
from keras_pipeline.params import Params
from keras_pipeline.preprocessing import STATISTICS, Question, Split, question, read_split

PREDICTION_BATCH = 1000
PREDICTED_TOGETHER = 20 * PREDICTION_BATCH


def run(params: Params, normalized: Path, models: Path, reports: Path) -> None:
    """Write predictions.npz, then everything that is computed from it: metrics.json, intervals.json, tables, figures.

    predictions.npz: outputs float32 (n, outputs) as the network gave them, labels int64 (n,), in test order, or targets
    float32 (n,), scaled; penalty float64 (), the network's L2 penalty; of a linear network for numbers coefficients
    float32 (features + 1,), its weights and bias.
    """
    with files.lock(reports):
        statistics = files.read_json(normalized / "statistics.json", written_by="normalize", keys=STATISTICS)
        test = read_split(normalized, "test", statistics)
        history = _read_history(models / "history.csv")
        predictions = _predict(params, models / "model.keras", test, question(statistics))
        _write_npz(reports / "predictions.npz", predictions)
        report(params, reports, test, statistics, history)


def report(
    params: Params, reports: Path, test: Split, statistics: dict[str, Any], history: dict[str, list[float]]
) -> None:
    """Numbers, tables and figures from reports/predictions.npz; the images of `test` are only shown."""
    with spent.on("import"):
        from keras_pipeline import figures
        from keras_pipeline import reports as reporting

    with np.load(reports / "predictions.npz", allow_pickle=False) as saved:
        labels = saved["targets" if "targets" in saved else "labels"]
        coefficients = saved.get("coefficients")
        answers = reporting.Answers(saved["outputs"], float(saved["penalty"]), coefficients, params.train.loss)
    made = reporting.of(answers, Split(test.images, labels), statistics, params.evaluate, params.seed)

    files.write_json(reports / "metrics.json", made.scores)
    files.write_json(reports / "intervals.json", made.intervals)
    files.clear(reports / "tables")
    for name, rows in made.tables.items():
        _write_csv(reports / "tables" / f"{name}.csv", rows)
    files.clear(reports / "figures")
    with spent.on("figures"):
        for name, figure in {**made.figures, "learning_curves": figures.learning_curves(history)}.items():
            figures.save(figure, reports / "figures" / f"{name}.png")
    headline, *others = made.lines
    print(f"evaluate: {headline}; figures in {reports / 'figures'}/")
    for line in others:
        print(f"evaluate: {line}")


def _predict(params: Params, path: Path, test: Split, asked: Question) -> dict[str, Any]:
    """What predictions.npz holds, of the network of the params with the weights in `path`."""
    backends.start()
    from keras_pipeline import model_file

    backends.seed_everything(params.seed, params.train.precision)
    model = architectures.build(params.model, asked.shape, asked.outputs)
    model_file.load_weights(model, path)
    with spent.on("predict"):
        # Keras copies all that it is given: not more than this at a time.
        outputs = np.concatenate(
            [
                model.predict(test.images[start : start + PREDICTED_TOGETHER], batch_size=PREDICTION_BATCH, verbose=0)
                for start in range(0, len(test.labels), PREDICTED_TOGETHER)
            ]
        )
    penalty = np.float64(sum(float(loss) for loss in model.losses))
    found = {"outputs": outputs, "targets" if asked.target else "labels": test.labels, "penalty": penalty}
    if asked.target and all(isinstance(layer, Flatten) for layer in architectures.hidden_layers(params.model)):
        found["coefficients"] = np.concatenate([one.ravel() for one in model.layers[-1].get_weights()])
    return found


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

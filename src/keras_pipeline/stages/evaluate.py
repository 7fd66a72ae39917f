"""The stage evaluate: the trained network's answers on the test images, and every number and figure from them."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from keras_pipeline.config.layers import Flatten
from keras_pipeline.config.params import Params
from keras_pipeline.core import csv_files, files, process
from keras_pipeline.core.errors import DivergedError
from keras_pipeline.data.history import history_columns, read_history
from keras_pipeline.data.splits import Split, prediction_batch, read_split
from keras_pipeline.data.statistics import DatasetDescription, read_statistics, things
from keras_pipeline.data.task_spec import TaskSpec, make_targets, task_spec_from
from keras_pipeline.evaluation.predictions import Predictions, read_predictions, write_predictions
from keras_pipeline.models import architectures, frameworks
from keras_pipeline.records.record import check_belongings

MOST_BATCHES, MOST_BYTES = 20, 64 * 2**20
"""So many batches are predicted at a time, of large inputs as many as take so many bytes: Keras copies them all."""


def evaluate_network(params: Params, normalized: Path, models: Path, reports: Path) -> None:
    """Write predictions.npz, then everything that is computed from it: metrics.json, intervals.json, tables, figures.

    Raises DataError or ModelFileError where a file is missing or damaged, or the network, its history and the data are
    not those of one run, as far as its record is there; DivergedError where the loss is no finite number.
    """
    with files.lock_folder(reports):
        statistics = read_statistics(normalized)
        check_belongings(models, normalized)
        test = read_split(normalized, "test", statistics)
        history = read_history(models / "history.csv")
        answers = _predict(params, models / "model.keras", test, task_spec_from(statistics), things(statistics))
        write_predictions(reports / "predictions.npz", answers)
        write_reports(params, reports, test, statistics, history)


def write_reports(
    params: Params, reports: Path, test: Split, statistics: DatasetDescription, history: list[dict[str, float]]
) -> None:
    """Numbers, tables and figures from reports/predictions.npz; the images of `test` are only shown."""
    with process.time_part("import"), process.no_garbage():
        from keras_pipeline.evaluation import figures
        from keras_pipeline.evaluation.reports import make_report

    saved = read_predictions(reports / "predictions.npz", statistics)
    made = make_report(saved, replace(test, targets=saved.targets), statistics, params.evaluate, params.seed)

    files.write_json(reports / "metrics.json", made.scores)
    files.write_json(reports / "intervals.json", made.intervals)
    files.clear_folder(reports / "tables")
    for name, rows in made.tables.items():
        csv_files.write_table(reports / "tables" / f"{name}.csv", rows)
    files.clear_folder(reports / "figures")
    with process.time_part("figures"):
        curves = figures.draw_learning_curves(history_columns(history))
        for name, figure in {**made.figures, "learning_curves": curves}.items():
            figures.save_figure(figure, reports / "figures" / f"{name}.png")
    headline, *others = made.lines
    print(f"evaluate: {headline}; figures in {reports / 'figures'}/")
    for line in others:
        print(f"evaluate: {line}")


def _predict(params: Params, path: Path, test: Split, task_spec: TaskSpec, things: str) -> Predictions:
    """Those of the network of the params with the weights in `path`, to the `things` of the test split."""
    frameworks.start_framework()
    from keras_pipeline.models import losses, model_file

    frameworks.seed_everything(params.seed, params.train.precision)
    model = architectures.build_network(params.model, task_spec.shape, task_spec.outputs)
    model_file.load_weights(model, path)
    penalty = sum(float(loss) for loss in model.losses)
    size = prediction_batch(task_spec.shape)
    together = max(1, min(MOST_BATCHES, MOST_BYTES // test.part(slice(size)).scaled_bytes)) * size
    outputs, of_each = [], []
    with process.time_part("predict"):
        network = losses.logits_and_outputs(model)
        for start in range(0, len(test.targets), together):
            some = slice(start, start + together)
            logits, given = network.predict(test.scaled(some), batch_size=size, verbose=0)
            targets = make_targets(test.targets[some], task_spec.classes)
            outputs.append(given)
            of_each.append(losses.loss_of_each(params.train.loss, params.model.output_activation, logits, targets))
    loss = float(np.concatenate(of_each).mean() + penalty)
    if not np.isfinite(loss):
        raise DivergedError(
            f"{path}: the loss on the test {things} is {loss}; expected a finite number. The network "
            "has diverged: train it again with a lower learning rate."
        )
    coefficients = None
    if task_spec.target and all(isinstance(layer, Flatten) for layer in architectures.hidden_layers(params.model)):
        coefficients = np.concatenate([one.ravel() for one in model.layers[-1].get_weights()])
    return Predictions(np.concatenate(outputs), test.targets, loss, coefficients, files.file_sha256(path))

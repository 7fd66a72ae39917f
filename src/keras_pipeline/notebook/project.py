"""A project's data, network and results as Python objects: `from keras_pipeline import Project`.

Everything is read from the files that the stages wrote, and checked as the stages check it. No file is changed.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.checks.params import load_params
from keras_pipeline.checks.project import MARKS, find_project
from keras_pipeline.config.params import Params
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.data.history import history_columns, read_history
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.data.splits import Split, read_split
from keras_pipeline.data.statistics import Statistics, is_table, read_statistics
from keras_pipeline.data.task_spec import predicted_classes, task_spec_from
from keras_pipeline.evaluation.predictions import PREDICTIONS, read_predictions, read_scores
from keras_pipeline.records.record import RunRecord, check_belongings, read_record

if TYPE_CHECKING:
    import keras
    import pandas as pd
    from matplotlib.figure import Figure

NORMALIZED, MODELS, REPORTS = Path("data", "normalized"), Path("models"), Path("reports")


class Project:
    """The checkout that `folder` is in, the current folder if none is named.

    Raises ParamsError where neither it nor a folder above it is a project. Everything else raises DataError or
    ModelFileError where a file is missing or damaged, with the command that writes it.
    """

    def __init__(self, folder: str | Path = ".") -> None:
        start = Path(folder).resolve()
        found = find_project(start)
        if found is None:
            raise ParamsError(f"{start}: neither it nor a folder above it has {' and '.join(MARKS)}.")
        self.folder = found

    def __repr__(self) -> str:
        """As it would be made again."""
        return f"Project({str(self.folder)!r})"

    @cached_property
    def params(self) -> Params:
        """What params.yaml says, checked: `params.model.dropout`. Raises ParamsError for a mistake in it."""
        return load_params(self.folder / "params.yaml")

    @cached_property
    def statistics(self) -> Statistics:
        """data/normalized/statistics.json: task, shape, class names, scaling, counts."""
        return read_statistics(self.folder / NORMALIZED)

    @property
    def class_names(self) -> list[str]:
        """By label; of a regression none."""
        return self.statistics["class_names"]

    @cached_property
    def record(self) -> RunRecord:
        """models/run.json: params, versions, commit, digests and history of the training."""
        return read_record(self.folder / MODELS / "run.json")

    def split(self, name: str = "test") -> Split:
        """`train`, `validation` or `test`: `inputs`, raw images (n, height, width, channels), or a table's features as
        the network is given them, float32 (n, features), mapped from the disk, not to be written to; `targets`, labels
        int64 (n,) or numbers float32 (n,); and `scaled(chosen)`, what the network is given of any, float32."""
        if name not in (names := [*self.statistics["images"]]):
            raise ParamsError(f"split: got {name!r}. Expected: one of {', '.join(names)}.")
        return read_split(self.folder / NORMALIZED, name, self.statistics)

    def raw(self, name: str = "test") -> NDArray[Any]:
        """The inputs of the same split before the scaling: pixels (n, height, width), of colour images (n, height,
        width, channels), or features, float32 (n, features)."""
        inputs = self.split(name).inputs
        if is_table(self.statistics):
            return np.asarray(self._scaling.undo(inputs), np.float32)
        return inputs[..., 0] if inputs.shape[-1] == 1 else inputs

    @cached_property
    def model(self) -> "keras.Sequential":
        """The network of params.yaml with the weights of models/model.keras; it takes `split().scaled()`.

        Raises ModelFileError where they are of another network, or not those that models/run.json names.
        """
        from keras_pipeline.models import architectures, frameworks

        frameworks.start_framework()
        from keras_pipeline.models import model_file

        check_belongings(self.folder / MODELS, self.folder / NORMALIZED)
        spec = task_spec_from(self.statistics)
        network = architectures.build_network(self.params.model, spec.shape, spec.outputs)
        model_file.load_weights(network, self.folder / MODELS / "model.keras")
        return network

    def predict(self, raw: Any) -> NDArray[np.float32]:
        """The network's outputs, float32 (n, outputs), for raw pixels, (n, height, width), of colour images (n, height,
        width, channels), or the rows of a table: an array, nested lists, or a DataFrame whose columns go by name. Of a
        regression they are in the target's own units. Raises ValueError for other inputs."""
        network = self.model
        from mlflow.exceptions import MlflowException

        from keras_pipeline.tracking import served

        try:
            return served.answer(network, raw, self.statistics)
        except MlflowException as error:
            raise ValueError(error.message) from None

    @property
    def _scaling(self) -> Scaling:
        return Scaling(**self.statistics["scaling"])

    def history(self) -> "pd.DataFrame":
        """models/history.csv: a row an epoch, the index, and a column a metric."""
        import pandas as pd

        return pd.DataFrame(read_history(self.folder / MODELS / "history.csv")).set_index("epoch")

    def metrics(self) -> "pd.DataFrame":
        """reports/metrics.json: a row a metric of the test split, with the ends of its 95 % interval where it has
        one."""
        import pandas as pd

        scores = read_scores(self.folder / REPORTS / "metrics.json")
        ends = {name for name in scores if name.endswith(("_low", "_high")) and name.rpartition("_")[0] in scores}
        rows = {
            name: {"value": value, "low": scores.get(f"{name}_low"), "high": scores.get(f"{name}_high")}
            for name, value in scores.items()
            if name not in ends
        }
        return pd.DataFrame.from_dict(rows, orient="index").astype(float)

    def predictions(self) -> "pd.DataFrame":
        """reports/predictions.npz: a row a test input, with `target` and `predicted`, and for classes their names and
        the `output` of the predicted one."""
        import pandas as pd

        from keras_pipeline.evaluation.binary import class_shares

        saved = read_predictions(self.folder / REPORTS / PREDICTIONS, self.statistics)
        if not self.class_names:
            return pd.DataFrame({"target": saved.targets, "predicted": saved.outputs[:, 0]})
        labels = predicted_classes(saved.outputs)
        names = np.asarray(self.class_names)
        shares = class_shares(saved.outputs) if saved.outputs.shape[1] == 1 else saved.outputs
        return pd.DataFrame(
            {
                "target": saved.targets,
                "predicted": labels,
                "target_name": names[saved.targets],
                "predicted_name": names[labels],
                "output": shares[np.arange(len(labels)), labels],
            }
        )

    def figures(self) -> "Mapping[str, Figure]":
        """The figures of reports/figures/, drawn anew, by name: a notebook shows the one that a cell ends with."""
        from keras_pipeline.evaluation import figures
        from keras_pipeline.evaluation.reports import make_report

        saved = read_predictions(self.folder / REPORTS / PREDICTIONS, self.statistics)
        split = replace(self.split("test"), targets=saved.targets)
        made = make_report(saved, split, self.statistics, self.params.evaluate, self.params.seed)
        columns = history_columns(read_history(self.folder / MODELS / "history.csv"))
        return {**made.figures, "learning_curves": figures.draw_learning_curves(columns)}

    def study(self, name: str) -> "pd.DataFrame":
        """A row for each finished run of the study: variant, seed, the values that vary, seconds, and its metrics (none
        where it diverged). Raises ParamsError where there is no such study."""
        import pandas as pd

        from keras_pipeline.runs.folders import Folders
        from keras_pipeline.studies.results import collect_results
        from keras_pipeline.studies.study import find_study

        folders = Folders(self.folder / "studies")
        study = find_study(folders, name, self.folder / "params.yaml")
        rows = []
        for one in collect_results(study.runs, folders.run):
            scores = {} if one.diverged else one.scores
            rows.append(
                {
                    "variant": one.variant,
                    "tuned": one.tuned,
                    "seed": one.seed,
                    "diverged": one.diverged is not None,
                    "seconds": one.record["train_seconds"],
                    **scores,
                    **one.record["params"],
                }
            )
        frame = pd.DataFrame(rows)
        constant = [key for key in frame if "." in key and frame[key].map(repr).nunique() < 2]
        return frame.drop(columns=constant)

    def runs(self) -> "pd.DataFrame":
        """MLflow's runs of `tracking.experiment`, the newest first: name, status, start, metrics and params. Raises
        MachineError where the store cannot be reached."""
        import pandas as pd

        from keras_pipeline.tracking.store import connect_store
        from keras_pipeline.tracking.stores.address import store_location
        from keras_pipeline.tracking.stores.connection import required_store

        location = store_location(self.folder)
        with required_store(location):
            store = connect_store(location, self.params.tracking.experiment)
            found = list(store.client.search_runs([store.experiment], order_by=["attributes.start_time DESC"]))
        rows = [
            {
                "name": run.info.run_name,
                "status": run.info.status,
                "start": pd.Timestamp(run.info.start_time, unit="ms", tz="UTC"),
                **run.data.metrics,
                **run.data.params,
            }
            for run in found
        ]
        return pd.DataFrame(rows)

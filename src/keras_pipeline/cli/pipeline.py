"""The verbs of the pipeline: its stages."""

import argparse
import os
import sys
from collections.abc import Callable

from keras_pipeline.core import process

TRAINING = ("params", "normalized", "models", "checkpoints")
"""What a training is told of files and folders."""


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Give the parser this module's verbs; `add` is the function of `main.make_parser`."""
    add("scan", scan, "look whether the dataset's files have changed", "params", "scanned", "downloads")
    command = add("fetch", fetch, "read the dataset, downloaded and verified", "params", "raw", "downloads", "scanned")
    command.add_argument(
        "--download-only", action="store_true", help="only make sure that the files are there; writes no data/raw"
    )
    add("normalize", normalize, "split and scale the images", "params", "raw", "normalized", "reports")
    for name, text in (
        ("train", "train the network"),
        ("launch", "train with several local processes, whatever params.yaml says of workers"),
    ):
        command = add(name, train, text, *TRAINING)
        command.add_argument(
            "--no-resume", action="store_true", help="start a new training even if there is a checkpoint"
        )
        command.add_argument(
            "--workers",
            type=int,
            required=name == "launch",
            metavar="N",
            help="processes, instead of train.workers",
        )
    add("evaluate", evaluate, "test the network; numbers and figures", "params", "normalized", "models", "reports")
    add("export", export, "write the network in other formats", "params", "normalized", "models", "reports")
    command = add("track", track, "bring MLflow in line with the files", "params", "models", "reports", "checkpoints")
    command.add_argument("--again", action="store_true", help="send everything, also where nothing has changed")


def scan(chosen: argparse.Namespace) -> None:
    """Look at the dataset's files."""
    from keras_pipeline.checks.params import load_params
    from keras_pipeline.stages.scan import scan_dataset

    scan_dataset(load_params(chosen.params), chosen.scanned, chosen.downloads)


def fetch(chosen: argparse.Namespace) -> None:
    """Read the dataset, or only download it."""
    from keras_pipeline.checks.params import load_params
    from keras_pipeline.stages.fetch import download_only, fetch_dataset

    values = load_params(chosen.params)
    if chosen.download_only:
        download_only(values, chosen.raw, chosen.downloads)
    else:
        fetch_dataset(values, chosen.raw, chosen.downloads, chosen.scanned)


def normalize(chosen: argparse.Namespace) -> None:
    """Split and scale the images, or the rows."""
    from keras_pipeline.checks.params import load_params
    from keras_pipeline.stages.normalize import normalize_dataset

    normalize_dataset(load_params(chosen.params), chosen.raw, chosen.normalized, chosen.reports / "dataset.html")


def train(chosen: argparse.Namespace) -> int:
    """Train the network, by one process or several; of one, a fork stands by for the next stages."""
    from keras_pipeline.checks.params import load_params, with_workers
    from keras_pipeline.distribution.cluster import cluster_from_environment
    from keras_pipeline.stages.train import launch_training, train_network
    from keras_pipeline.standby import server
    from keras_pipeline.standby.address import address
    from keras_pipeline.tracking import live_run
    from keras_pipeline.tracking.stores.address import project_root, store_location

    name = address() if sys.argv[1:] == ["train"] else None  # no option of this command is another stage's
    values = load_params(chosen.params)
    if chosen.workers is not None:
        values = with_workers(values, chosen.workers)
    if values.train.workers > 1 and cluster_from_environment(values.train.strategy, os.environ) is None:
        command = process.python("-m", "keras_pipeline.cli.main", "train", *_training_arguments(chosen))
        return launch_training(values, chosen.normalized, chosen.models, chosen.checkpoints, command)
    observer = live_run.LiveTracker(store_location(project_root()), values.tracking.experiment)
    train_network(
        values,
        chosen.normalized,
        chosen.models,
        observer,
        chosen.checkpoints,
        resume=not chosen.no_resume,
        imported=lambda: server.leave(name),
    )
    return 0


def _training_arguments(chosen: argparse.Namespace) -> list[str]:
    """As they were given, but from the current folder, which may be another than where they were."""
    words = [word for name in TRAINING for word in (f"--{name}", str(getattr(chosen, name)))]
    words += ["--no-resume"] * chosen.no_resume
    return words if chosen.workers is None else [*words, "--workers", str(chosen.workers)]


def evaluate(chosen: argparse.Namespace) -> None:
    """Test the network."""
    from keras_pipeline.checks.params import load_params
    from keras_pipeline.stages.evaluate import evaluate_network

    evaluate_network(load_params(chosen.params), chosen.normalized, chosen.models, chosen.reports)


def export(chosen: argparse.Namespace) -> None:
    """Write the network in other formats."""
    from keras_pipeline.checks.params import load_params
    from keras_pipeline.stages.export import export_network

    export_network(load_params(chosen.params), chosen.normalized, chosen.models, chosen.reports)


def track(chosen: argparse.Namespace) -> None:
    """Make MLflow say what the files say."""
    from keras_pipeline.checks.params import load_params
    from keras_pipeline.stages.track import track_run

    values = load_params(chosen.params)
    track_run(values, chosen.params, chosen.models, chosen.reports, chosen.checkpoints, again=chosen.again)

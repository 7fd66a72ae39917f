"""The verbs of the command line, but for those of many runs: each reads the params and calls one stage or tool."""

import argparse
import os
import sys

from keras_pipeline import clusters


def fetch(chosen: argparse.Namespace) -> None:
    """Download and verify the dataset."""
    from keras_pipeline import params
    from keras_pipeline.stages import fetch

    stage = fetch.download_only if chosen.download_only else fetch.run
    stage(params.load(chosen.params), chosen.raw, chosen.downloads)


def normalize(chosen: argparse.Namespace) -> None:
    """Split and scale the images, or the rows."""
    from keras_pipeline import params
    from keras_pipeline.stages import normalize

    normalize.run(params.load(chosen.params), chosen.raw, chosen.normalized)


def train(chosen: argparse.Namespace) -> int:
    """Train the network, by one process or several."""
    from keras_pipeline import params
    from keras_pipeline.stages import train
    from keras_pipeline.tracking import live, store

    values = params.load(chosen.params)
    if chosen.workers is not None:
        values = params.with_workers(values, chosen.workers)
    if values.train.workers > 1 and clusters.from_environment(values.train.strategy, os.environ) is None:
        command = [sys.executable, "-m", "keras_pipeline.commands", "train", *sys.argv[2:]]
        return train.launch(values, chosen.normalized, chosen.models, chosen.checkpoints, command)
    observer = live.LiveTracker(store.location(store.project_root()), values.tracking.experiment)
    train.run(values, chosen.normalized, chosen.models, observer, chosen.checkpoints, resume=not chosen.no_resume)
    return 0


def debug(chosen: argparse.Namespace) -> None:
    """A quick training that answers one question."""
    from keras_pipeline import params
    from keras_pipeline.stages import debug
    from keras_pipeline.tracking import live, store

    values = params.load(chosen.params)
    observer = live.LiveTracker(
        store.location(store.project_root()), f"{values.tracking.experiment} debug", "this run is not sent later"
    )
    debug.run(values, chosen.normalized, chosen.debug, observer, chosen.mode, chosen.share)


def determinism(chosen: argparse.Namespace) -> None:
    """The matrix of repeated trainings."""
    from keras_pipeline import determinism

    if chosen.work:
        determinism.work(chosen.work)
        return
    command = [sys.executable, "-m", "keras_pipeline.commands", "determinism", "--work"]
    text = determinism.run(chosen.params, chosen.runs, command)
    determinism.write(chosen.output, text) if chosen.output else print(text)


def evaluate(chosen: argparse.Namespace) -> None:
    """Test the network."""
    from keras_pipeline import params
    from keras_pipeline.stages import evaluate

    evaluate.run(params.load(chosen.params), chosen.normalized, chosen.models, chosen.reports)


def track(chosen: argparse.Namespace) -> None:
    """Make MLflow say what the files say."""
    from keras_pipeline import params
    from keras_pipeline.stages import track

    values = params.load(chosen.params)
    track.run(values, chosen.params, chosen.models, chosen.reports, chosen.checkpoints, again=chosen.again)


def params(chosen: argparse.Namespace) -> None:
    """Check params.yaml."""
    from keras_pipeline import params

    params.load(chosen.params)
    print(f"{chosen.params}: good")


def status(chosen: argparse.Namespace) -> None:
    """Which run the files come from."""
    from keras_pipeline import params, status

    status.show(params.load(chosen.params), chosen.normalized, chosen.models, chosen.reports)


def certify(chosen: argparse.Namespace) -> int:
    """Train a recorded run again and compare."""
    from keras_pipeline import certify

    if chosen.name is None:
        run, found = certify.of_this_checkout(chosen.models, chosen.raw, chosen.normalized)
    else:
        from keras_pipeline import params
        from keras_pipeline.tracking import lookup, store

        experiment = params.load(chosen.params).tracking.experiment
        run, logged = lookup.recorded(store.location(store.project_root()), experiment, chosen.name)
        found = certify.of_a_store(run, logged)
    return certify.certify(run, found, chosen.models / "model.keras", chosen.downloads, quick=chosen.quick)


def doctor(chosen: argparse.Namespace) -> None:
    """What this machine has."""
    from keras_pipeline import doctor

    doctor.show(chosen.params, chosen.raw)


def relocate(chosen: argparse.Namespace) -> None:
    """Repair MLflow's artifact paths."""
    from keras_pipeline.tracking import store

    changed = store.relocate(store.location(store.project_root()))
    print(f"relocate: {changed} paths changed" if changed else "relocate: every path is right already")


def ui(chosen: argparse.Namespace) -> None:
    """Open MLflow's page."""
    from keras_pipeline import params
    from keras_pipeline.tracking import ui

    ui.show(params.load(chosen.params).tracking.experiment, chosen.port, browser=not chosen.no_browser)


def conformance(chosen: argparse.Namespace) -> int:
    """Prove every strategy equal to one device."""
    from keras_pipeline import conformance, conformance_work, verdicts

    if chosen.work:
        conformance_work.run(chosen.work)
        return 0
    command = [sys.executable, "-m", "keras_pipeline.commands", "conformance", "--work"]
    text, good = conformance.run(chosen.params, chosen.data, chosen.epochs, chosen.strategy, chosen.feature, command)
    if chosen.output:
        verdicts.write(chosen.output, "data" if chosen.data else "digits", text)
    else:
        print(text)
    return 0 if good else 1

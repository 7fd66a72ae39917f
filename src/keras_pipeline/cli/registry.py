"""The verb `model`: versions of trained networks in MLflow's registry, and which of them is the champion."""

import argparse
import functools
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from keras_pipeline.checks.project import PARAMS
from keras_pipeline.cli import place
from keras_pipeline.core.errors import ParamsError

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from keras_pipeline.comparison.find_run import FoundRun
    from keras_pipeline.config.params import Params
    from keras_pipeline.records.record import RunRecord
    from keras_pipeline.registry.promotion import Promotion
    from keras_pipeline.registry.versions import Version
    from keras_pipeline.tracking.stores.address import Location

MODEL = """\
A run's network becomes a version of a registered model in MLflow's registry. The alias `candidate` names the version
that was registered last, `champion` the one that is to be used: models:/mnist@champion.

actions:
  register [RUN]       a new version of a run's network; it is the candidate. RUN is named as for `compare`
  promote [VERSION]    make it the champion, if it is not worse on the same test images; else exit 1, and all stays
  rollback             the champion before is the champion again
  list                 versions, results, aliases; with --journal who moved the champion, when, and why
  card [RUN]           the model card, in Markdown; RUN may be models:/NAME@champion too

If --name does not say otherwise, the registered model is called as the dataset; with positive_class, such as mnist-7.
"""


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Give the parser this module's verb; `add` is the function of `main.make_parser`."""
    command = add("model", model, "versions of networks: register, promote, roll back, model card")
    command.description, command.formatter_class = MODEL, argparse.RawDescriptionHelpFormatter
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, run: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        parser = actions.add_parser(name, help=text, description=f"{text}.")
        parser.add_argument(
            "--params",
            type=place.user_path,
            default=PARAMS,
            metavar="PATH",
            help="the params file (default: params.yaml)",
        )
        parser.add_argument(
            "--name", metavar="NAME", help="the registered model (default: the dataset's name, or mnist-7)"
        )
        parser.set_defaults(run=run)
        return parser

    one = action("register", register, "A new version of a run's network, which becomes the candidate")
    one.add_argument("of", nargs="?", type=place.user_run, default=".", metavar="RUN", help="default: this checkout's")
    one = action("promote", promote, "Make a version the champion, if it is not worse than the present one")
    one.add_argument("version", nargs="?", default="candidate", metavar="VERSION", help="default: candidate")
    one.add_argument(
        "--margin",
        type=_margin,
        metavar="POINTS",
        help="and if it is shown not to be worse by so many percentage points (of a table: by so much error)",
    )
    one.add_argument("--force", action="store_true", help="whatever the comparison says; needs --reason")
    one.add_argument("--reason", type=_reason, metavar="TEXT", help="why, for the journal")
    one = action("rollback", rollback, "Make the champion before the present one the champion again")
    one.add_argument("--reason", type=_reason, metavar="TEXT", help="why, for the journal")
    one = action("list", list_models, "Versions, their results and aliases")
    one.add_argument("--journal", action="store_true", help="who moved an alias, when, and why")
    one = action("card", card, "A run's model card, with the head that model hubs read")
    one.add_argument("of", nargs="?", type=place.user_run, default=".", metavar="RUN", help="default: this checkout's")
    one.add_argument(
        "--output", type=place.user_path, metavar="PATH", help="the file to write (default: standard output)"
    )


def _margin(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"expected a number above 0, such as 0.5, got {text!r}")


def _reason(text: str) -> str:
    reason = " ".join(text.split())
    if not reason or len(reason) > 1000 or not reason.isprintable():
        raise argparse.ArgumentTypeError(f"expected 1 to 1000 characters that can be read, got {text[:40]!r}")
    return reason


def model(chosen: argparse.Namespace) -> None:
    """Never called: each action has its own function."""


def _location() -> "Location":
    from keras_pipeline.tracking.stores import address

    return address.store_location(address.project_root())


def _settings(chosen: argparse.Namespace) -> "Params":
    from keras_pipeline.checks.params import load_params

    return load_params(chosen.params)


def _connect(location: "Location", experiment: str) -> "MlflowClient":
    """MLflow's client. Raises ParamsError where the store is a file that is not there yet; it is not made."""
    from keras_pipeline.tracking.store import connect_store

    if location.database and not location.database.exists():
        raise ParamsError(
            f"{location.shown}: there is no store yet, so no model is registered. Expected: `dvc repro`, then "
            "`keras-pipeline model register`."
        )
    return connect_store(location, experiment).client


def _name(chosen: argparse.Namespace, dataset: str, positive_class: object) -> str:
    """The name that was given, or the usual one."""
    from keras_pipeline.registry import versions

    return versions.check_name(versions.usual_name(dataset, positive_class) if chosen.name is None else chosen.name)


def _name_by_record(chosen: argparse.Namespace, record: "RunRecord") -> str:
    return _name(chosen, record["dataset"]["dataset"], record["params"].get("normalize.positive_class", "none"))


def _find(asked: str, experiment: str) -> "FoundRun":
    from keras_pipeline.comparison import find_run

    if asked == "." and not (Path("models").is_dir() and Path("reports").is_dir()):
        raise ParamsError(
            "There is no run in this checkout: models/ and reports/ are not there. Expected: first `dvc repro`, or a "
            "RUN: a folder, a git revision, a DVC experiment or a run of MLflow."
        )
    return find_run.find_run(asked, functools.partial(_stored, experiment))


def _stored(experiment: str, name: str, artifacts: tuple[str, ...], folder: Path) -> tuple[str, "RunRecord"]:
    from keras_pipeline.tracking import lookup

    return lookup.download_run(_location(), experiment, name, artifacts, folder)


def _of_version(experiment: str, version: "Version") -> "FoundRun":
    """The run that a version was registered from."""
    from keras_pipeline.comparison import find_run
    from keras_pipeline.core.errors import DataError

    if version.run_id is None:
        raise DataError(
            f"version {version.number} was registered without its run, so nothing is known of it. Expected: one that "
            "`keras-pipeline model register` made."
        )
    return find_run.find_stored_run(version.run_id, functools.partial(_stored, experiment))


def register(chosen: argparse.Namespace) -> None:
    """Register the network of a run."""
    from keras_pipeline.records.git import describe_git
    from keras_pipeline.registry import card as cards
    from keras_pipeline.registry import versions
    from keras_pipeline.tracking import lookup
    from keras_pipeline.tracking.stores import connection

    experiment, location = _settings(chosen).tracking.experiment, _location()
    found = _find(chosen.of, experiment)
    key = found.record["key"]
    name = _name_by_record(chosen, found.record)
    with connection.required_store(location):
        try:
            client, run = lookup.find_one(location, experiment, key)
        except ParamsError:
            raise ParamsError(
                f"{found.location}: its run, key {key}, is not in MLflow at {location.shown}, which registers what it "
                "keeps. Where the run's files are, `keras-pipeline track --again` sends it; then run this again."
            ) from None
        exports = versions.stored_exports(client, run, found)
        done = versions.register_run(
            client, location, run, found, name, exports, cards.write_card(found, exports, name)
        )
    number = done.version.number
    state = "is registered already" if done.known else "is registered"
    role = "the champion" if done.model.at("champion") == number else "the candidate"
    before = f" (before: version {done.before})" if done.before not in (None, number) else ""
    print(f"model:    {name} version {number} {state}, {role}{before}: models:/{name}/{number}")
    print(f"run:      {run.info.run_name}, key {key}, commit {describe_git(found.record['git'])}")
    print(f"result:   {done.version.tags.get('result', '')}")
    print(f"network:  SHA-256 {found.record['sha256']['model']}")
    print(f"exports:  {done.version.tags.get('exports', 'none')}")
    print(f"card:     {versions.CARD}, an artifact of the run")
    if reason := versions.cannot_be_served(done.version):
        print(f"note:     {reason}")
    if role == "the candidate":
        print(f"next:     keras-pipeline model promote{'' if chosen.name is None else f' --name {name}'}")


def promote(chosen: argparse.Namespace) -> int:
    """Make a version the champion."""
    from keras_pipeline.registry import promotion
    from keras_pipeline.tracking.stores import connection

    if chosen.force and not chosen.reason:
        raise ParamsError("--force: expected also --reason TEXT, which the journal keeps. Nothing was changed.")
    params, location = _settings(chosen), _location()
    experiment = params.tracking.experiment
    name = _name(chosen, params.fetch.dataset, params.normalize.positive_class)
    with connection.required_store(location):
        client = _connect(location, experiment)
        done = promotion.promote(
            client, location, name, chosen.version, functools.partial(_of_version, experiment),
            margin=chosen.margin, force=chosen.force, reason=chosen.reason or "",
        )  # fmt: skip
    _tell(name, done)
    if not done.done:
        print(f"rule:     {promotion.NOT_WORSE}")
        of = "" if chosen.name is None else f" --name {name}"
        print(f"way out:  keras-pipeline model promote {done.version}{of} --force --reason TEXT; the journal keeps it")
    return 0 if done.done else 1


def rollback(chosen: argparse.Namespace) -> None:
    """Make the champion before the champion again."""
    from keras_pipeline.registry import promotion
    from keras_pipeline.tracking.stores import connection

    params, location = _settings(chosen), _location()
    name = _name(chosen, params.fetch.dataset, params.normalize.positive_class)
    with connection.required_store(location):
        client = _connect(location, params.tracking.experiment)
        done = promotion.rollback(client, location, name, chosen.reason or "")
    _tell(name, done)


def _tell(name: str, done: "Promotion") -> None:
    from keras_pipeline.registry import journal

    before = f" (before: {journal.told(done.before)})" if done.before != done.version else ""
    if done.done:
        print(f"champion: {name} version {done.version}{before}: models:/{name}@champion")
    else:
        print(f"refused:  {name} version {done.version}; the champion stays {journal.told(done.before)}")
    if done.why:
        print(f"because:  {done.why}")


def list_models(chosen: argparse.Namespace) -> None:
    """Show the versions of one registered model, or of all."""
    from keras_pipeline.registry import journal, versions
    from keras_pipeline.tracking.stores import connection

    values, location = _settings(chosen), _location()
    with connection.required_store(location):
        client = _connect(location, values.tracking.experiment)
        names = [versions.check_name(chosen.name)] if chosen.name else versions.registered_names(client)
        models = [versions.require_model(client, name) for name in names]
    for one in models:
        print("\n".join(versions.list_lines(one)))
        if chosen.journal:
            print("\n".join(f"  {line}" for line in journal.journal_lines(one.journal)) or "  the journal is empty")
    if not models:
        print("no model is registered yet: keras-pipeline model register")


def card(chosen: argparse.Namespace) -> None:
    """Write a run's model card."""
    from keras_pipeline.comparison.find_run import NETWORK
    from keras_pipeline.records.record import check_model
    from keras_pipeline.registry import card as cards
    from keras_pipeline.registry import versions
    from keras_pipeline.tracking import lookup
    from keras_pipeline.tracking.stores import connection
    from keras_pipeline.tracking.stores.connection import StoreError

    experiment, location = _settings(chosen).tracking.experiment, _location()
    if chosen.of.startswith("models:/"):
        with connection.required_store(location):
            client = _connect(location, experiment)
            registered, version = versions.find_by_address(client, chosen.of)
            found = _of_version(experiment, version)
            chosen.name = chosen.name or registered
    else:
        found = _find(chosen.of, experiment)
    model = found.record["sha256"]["model"]
    looked_up = True
    if found.folder:
        check_model(found.record, found.folder / NETWORK)
        exports = cards.read_exports(found.folder, model)
    else:
        try:
            with connection.required_store(location):
                client, run = lookup.find_one(location, experiment, found.record["key"])
                exports = versions.stored_exports(client, run, found)
        except (ParamsError, StoreError) as fault:  # a commit's run need not be in MLflow
            print(f"card: its exports are not known: {fault}", file=sys.stderr)
            exports, looked_up = None, False
    text = cards.write_card(found, exports, _name_by_record(chosen, found.record), looked_up=looked_up)
    if chosen.output:
        cards.keep_card(chosen.output, text)
        print(f"card: {chosen.output}")
    else:
        print(text, end="")

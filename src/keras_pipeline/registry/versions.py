"""The versions of a registered model: read from MLflow's registry, found by number or alias, and made of runs."""

import difflib
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_pipeline.comparison.find_run import NETWORK, FoundRun
from keras_pipeline.core.errors import DataError, ParamsError
from keras_pipeline.export import manifest as manifests
from keras_pipeline.models.weights_file import read_weights
from keras_pipeline.records.record import check_model
from keras_pipeline.registry import card, journal
from keras_pipeline.registry.card import Exports
from keras_pipeline.registry.journal import CANDIDATE, CHAMPION, Entry
from keras_pipeline.tracking import lookup
from keras_pipeline.tracking.runs import KEY, kept_networks
from keras_pipeline.tracking.stores.address import Location
from keras_pipeline.tracking.stores.connection import StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
RESERVED = re.compile(r"latest|v\d+", re.IGNORECASE)
"""What MLflow reads as a version where it stands behind a model's name."""
URI = re.compile(r"models:/([^/@]+)(?:/v?([1-9]\d{0,8})|@(.+))", re.ASCII)
SERVED_FORMAT = "onnx"
"""The format of export.json that `keras-pipeline serve` runs."""
CARD = "model_card.md"
RANDOM = "seed_generator"
"""In the names of a network's arrays: the state of its random numbers, which no answer depends on."""


@dataclass(frozen=True)
class Version:
    """One version: its number, the run it was registered from (None: MLflow does not know), and what was noted of it;
    `created`: when, in UTC."""

    number: int
    run_id: str | None
    created: str
    tags: dict[str, str]

    @property
    def result(self) -> str:
        """The test result with its interval, and in which formats it was exported, for people."""
        return f"{self.tags.get('result', 'no result noted')}; exports: {self.tags.get('exports', 'unknown')}"


@dataclass(frozen=True)
class RegisteredModel:
    """What the registry has under a name: its versions that were not deleted, by number; the version that each alias
    names, deleted or not; its journal."""

    name: str
    versions: dict[int, Version]
    aliases: dict[str, int]
    journal: list[Entry]

    def at(self, alias: str) -> int | None:
        """The version that the alias names, if it is there."""
        number = self.aliases.get(alias)
        return number if number in self.versions else None


def usual_name(dataset: str, positive_class: object) -> str:
    """What a registered model is called if nobody says otherwise: as the dataset, and where one class is told from the
    rest, with that class, as far as its name has letters that a model's may have."""
    if positive_class == "none":
        return dataset
    return f"{dataset}-{re.sub('[^A-Za-z0-9_.]+', '-', str(positive_class)).strip('-')}"[:100]


def check_name(name: str) -> str:
    """The name of a registered model, as it is. Raises ParamsError where it cannot be one."""
    if not NAME.fullmatch(name):
        raise ParamsError(
            f"--name {name!a}: expected 1 to 100 letters of A to Z, digits, '_', '.' and '-', the first a letter or a "
            "digit, such as mnist."
        )
    if RESERVED.fullmatch(name):
        raise ParamsError(
            f"--name {name}: MLflow reads 'latest', 'v1', 'v2' and so on as versions. Expected: another name, such as "
            "mnist."
        )
    return name


def find_model(client: "MlflowClient", name: str) -> RegisteredModel | None:
    """What the registry has under exactly this name; None where it has nothing. Raises whatever MLflow does."""
    try:
        model = client.get_registered_model(name)
    except Exception as error:
        if getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    found: dict[int, Version] = {}
    for one in _pages(lambda token: client.search_model_versions(f"name='{name}'", page_token=token)):
        if one.name == name:  # some databases take capitals for small letters
            made = datetime.fromtimestamp(one.creation_timestamp / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
            found[int(one.version)] = Version(int(one.version), one.run_id or None, made, dict(one.tags))
    aliases = {alias: int(number) for alias, number in model.aliases.items()}
    return RegisteredModel(name, dict(sorted(found.items())), aliases, journal.read_journal(name, model.tags))


def require_model(client: "MlflowClient", name: str) -> RegisteredModel:
    """As `find_model`; raises ParamsError where there is nothing under the name."""
    if model := find_model(client, name):
        return model
    names = registered_names(client)
    near = [one for one in names if one.lower() == name.lower()] or difflib.get_close_matches(name, names, 1)
    hint = f" Did you mean '{near[0]}'? Names are case-sensitive." if near else ""
    others = f" There are: {', '.join(names[:10])}." if names and not near else ""
    raise ParamsError(
        f"MLflow's registry has no model '{name}'.{hint}{others} Expected: a name that `keras-pipeline model list` "
        "shows, or first `keras-pipeline model register`."
    )


def registered_names(client: "MlflowClient") -> list[str]:
    """The names of the registered models, in order, but for those that can be none of ours."""
    found = [one.name for one in _pages(lambda token: client.search_registered_models(page_token=token))]
    return sorted(name for name in found if NAME.fullmatch(name))


def _pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return


def find_version(model: RegisteredModel, wanted: str) -> Version:
    """The version of this number or alias. Raises ParamsError where there is none."""
    if wanted in (CHAMPION, CANDIDATE):
        number = model.aliases.get(wanted)
        if number is None:
            raise ParamsError(f"'{model.name}' has no {wanted}. {_without(model, wanted)}")
    elif match := re.fullmatch(r"v?([1-9]\d{0,8})", wanted, re.ASCII):
        number = int(match[1])
    else:
        reserved = " MLflow reserves that word for the newest one." if wanted.lower() == "latest" else ""
        raise ParamsError(
            f"'{wanted}' is no version.{reserved} Expected: a number ({_numbers(model)}), {CHAMPION} or {CANDIDATE}."
        )
    if number not in model.versions:
        through = f", which the alias {wanted} names" if wanted in (CHAMPION, CANDIDATE) else ""
        raise ParamsError(
            f"'{model.name}' has no version {number}{through}: it was deleted, or never was. Expected: one of these: "
            f"{_numbers(model)}."
        )
    return model.versions[number]


def _without(model: RegisteredModel, alias: str) -> str:
    """What is to be done where no version has the alias."""
    numbers = f"Expected: a version's number ({_numbers(model)}), or first `keras-pipeline model"
    if alias == CANDIDATE:
        champion = model.at(CHAMPION)
        return f"{f'Version {champion} is the champion. ' if champion else ''}{numbers} register`."
    last = journal.left_at(model.journal, CHAMPION)
    if last is None:
        return f"{numbers} promote`."
    how = "taken off it" if last in model.versions else "lost when that was deleted"
    return f"The journal left it at version {last}; it was {how}. {numbers} rollback`."


def _numbers(model: RegisteredModel) -> str:
    return ", ".join(map(str, model.versions)) or "there is none yet"


def find_by_address(client: "MlflowClient", address: str) -> tuple[str, Version]:
    """Of an address like models:/mnist@champion or models:/mnist/3 the model's name, and the version. Raises
    ParamsError where it is none, or nothing is there."""
    match = URI.fullmatch(address)
    if not match:
        raise ParamsError(
            f"'{address}' is no address of a version. Expected: models:/NAME@{CHAMPION}, models:/NAME@{CANDIDATE} or "
            "models:/NAME/NUMBER."
        )
    model = require_model(client, check_name(match[1]))
    return model.name, find_version(model, match[2] or match[3])


@dataclass(frozen=True)
class Registration:
    """What `register` did: the version, whether it was there before, and which version was the candidate until now."""

    model: RegisteredModel
    version: Version
    known: bool
    before: int | None


def register_run(
    client: "MlflowClient",
    location: Location,
    run: "Run",
    found: FoundRun,
    name: str,
    exports: Exports | None,
    text: str,
) -> Registration:
    """Register the network that MLflow keeps with `run`, which is the run `found`, and make it the candidate; a run
    that is registered already is not registered twice. `exports`: what MLflow keeps with the run; `text`: its model
    card, which the run then keeps as an artifact.

    Raises DataError where MLflow has another network than the run's record names, or none, and StoreError where MLflow
    registers it without its run; the version is removed then.
    """
    logged = _logged_network(client, location, run, found)
    formats = ", ".join(exports.manifest["formats"]) if exports else ""
    with journal.alone(location):
        model = find_model(client, name) or _create_model(client, name, found)
        tags = {
            KEY: found.record["key"],
            "sha256.model": found.record["sha256"]["model"],
            "result": card.headline(found),
            "exports": formats or "none",
        }
        known = next((one for one in model.versions.values() if one.run_id == run.info.run_id), None)
        if known:
            number = known.number
            for tag, value in tags.items() - known.tags.items():  # it may have been exported since
                client.set_model_version_tag(name, str(number), tag, value)
        else:
            number = _create_version(client, location, name, run, logged, tags, _description(found, run))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / CARD
            file.write_text(text, encoding="utf-8")
            client.log_artifact(run.info.run_id, str(file))
        before = model.aliases.get(CANDIDATE)
        if number not in (before, model.at(CHAMPION)):
            journal.move_alias(client, location, name, journal.new_entry("register", CANDIDATE, before, number))
        model = require_model(client, name)
        return Registration(model, model.versions[number], known is not None, before)


def _create_model(client: "MlflowClient", name: str, found: FoundRun) -> RegisteredModel:
    for one in registered_names(client):
        if one.lower() == name.lower() and one != name:
            raise ParamsError(
                f"--name {name}: MLflow's registry has '{one}', and names are case-sensitive: two that differ in "
                f"nothing else would be taken for each other. Use --name {one}, or another name."
            )
    dataset = found.record["dataset"]
    about = f"{found.task.description}, trained on {dataset['dataset']}"
    try:
        client.create_registered_model(name, {"dataset": dataset["dataset"], "task": found.task.name}, about)
    except Exception as error:
        if getattr(error, "error_code", None) != "RESOURCE_ALREADY_EXISTS":  # another machine was first
            raise
    return require_model(client, name)


def _create_version(
    client: "MlflowClient",
    location: Location,
    name: str,
    run: "Run",
    logged: str,
    tags: dict[str, str],
    description: str,
) -> int:
    """The number of the new version."""
    import mlflow

    mlflow.set_tracking_uri(location.uri)  # by which MLflow looks for the network
    run_id = run.info.run_id
    made = client.create_model_version(
        name, f"models:/{logged}", run_id, tags=tags, description=description, await_creation_for=0, model_id=logged
    )
    kept = client.get_model_version(name, made.version)
    if kept.run_id != run_id or kept.status != "READY" or not tags.items() <= dict(kept.tags).items():
        client.delete_model_version(name, made.version)
        raise StoreError(
            f"MLflow at {location.shown} registered version {made.version} of '{name}' as {kept.status} from the run "
            f"{kept.run_id or 'none'}. Expected: READY, from {run_id}, with all its tags. The version was removed."
        )
    return int(made.version)


def _logged_network(client: "MlflowClient", location: Location, run: "Run", found: FoundRun) -> str:
    """MLflow's id of the network that it keeps with the run, if that is the network of the run's record."""
    again = "Where the run's files are, `keras-pipeline track --again` sends it anew."
    where, expected = f"MLflow's run '{run.info.run_name}'", found.record["sha256"]["model"]
    tagged = run.data.tags.get("sha256.model")
    if tagged != expected:
        raise DataError(
            f"{where} is of the network {str(tagged)[:12]}…. Expected: {expected[:12]}…, which the record of "
            f"{found.location} names. {again}"
        )
    ready = [one for one in kept_networks(client, run) if one.source_run_id == run.info.run_id]
    if not ready:
        raise DataError(f"{where} keeps no network, or only a part of one: there is nothing to register. {again}")
    newest = ready[-1]
    file = found.folder / NETWORK if found.folder else None
    if file and file.is_file():
        check_model(found.record, file)
        _check_same_weights(
            file, location, newest.artifact_location, f"{where} keeps another network than {file}", again
        )
    return str(newest.model_id)


def _check_same_weights(file: Path, location: Location, kept_at: str, what: str, again: str) -> None:
    """Raise DataError where the network below this address of MLflow's has other weights than the file."""
    with tempfile.TemporaryDirectory() as folder:
        kept = read_weights(lookup.network_file(location, kept_at, Path(folder)))
    ours = read_weights(file)
    for name in sorted(one for one in {*ours, *kept} if RANDOM not in one):
        if name not in ours or name not in kept or not np.array_equal(ours[name], kept[name]):
            raise DataError(f"{what}: {name} differs. {again}")


def stored_exports(client: "MlflowClient", run: "Run", found: FoundRun) -> Exports | None:
    """The exports that MLflow keeps with the run; None where there are none. Raises DataError where they are of another
    network."""
    if not any(one.path == f"export/{manifests.NAME}" for one in client.list_artifacts(run.info.run_id, "export")):
        return None
    expected = found.record["sha256"]["model"]
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder)
        lookup.download_artifact(client, run, f"export/{manifests.NAME}", own / "models")
        if any(one.path == card.AGREEMENT for one in client.list_artifacts(run.info.run_id, "reports")):
            lookup.download_artifact(client, run, card.AGREEMENT, own)
        if exports := card.read_exports(own, expected):
            return exports
    raise DataError(
        f"MLflow's run '{run.info.run_name}': its exports are of another network than {expected[:12]}…, which its "
        "record names. Run `dvc repro export` where its files are, then `keras-pipeline track --again`."
    )


def _description(found: FoundRun, run: "Run") -> str:
    """What MLflow's page says of the version: short, for the registry keeps 5,000 characters at most."""
    return "\n\n".join(
        [
            f"**{card.headline(found)}** on {len(found.labels):,} test {found.things}.",
            f"Run `{run.info.run_name}`, key `{found.record['key']}`.",
            f"The model card is the run's artifact `{CARD}`.",
        ]
    )


def cannot_be_served(version: Version) -> str:
    """Why `keras-pipeline serve` cannot serve the version; "" where it can."""
    formats = version.tags.get("exports", "none")
    if SERVED_FORMAT in formats.split(", "):
        return ""
    return (
        f"version {version.number} cannot be served: its run keeps no {SERVED_FORMAT} export (exports: {formats}). Add "
        f"{SERVED_FORMAT} to export.formats in params.yaml, run `dvc repro`, and register that."
    )


def list_lines(model: RegisteredModel) -> Iterator[str]:
    """The versions for people, the newest first, with what is wrong with the aliases."""
    yield f"{model.name}: {len(model.versions)} version{'s' if len(model.versions) != 1 else ''}"
    for number, version in sorted(model.versions.items(), reverse=True):
        named = " ".join(f"@{alias}" for alias, at in sorted(model.aliases.items()) if at == number)
        run = f"run {version.tags.get(KEY, version.run_id or 'unknown')[:12]}"
        yield f"  {number:>3}  {version.created}  {run}  {version.result}{f'  {named}' if named else ''}"
    if not model.versions:
        yield "  a registration was interrupted, or all versions were deleted: `keras-pipeline model register`"
    for alias, named_version in sorted(model.aliases.items()):
        if named_version not in model.versions:
            yield f"  the alias {alias} names version {named_version}, which was deleted"
    left, at = journal.left_at(model.journal, CHAMPION), model.aliases.get(CHAMPION)
    if left != at:
        why = "its version was deleted" if left not in model.versions else "it was moved in MLflow's page"
        yield (
            f"  the champion is {journal.told(at)}, the journal left it at {journal.told(left)}: {why}, or a promotion "
            "was interrupted"
        )

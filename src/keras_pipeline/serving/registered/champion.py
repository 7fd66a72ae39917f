"""Which version of a registered model is to answer: `python -m keras_pipeline.serving.registered.champion ADDRESS
CACHE`.

A process of its own, beside the service: MLflow's memory and time are not the service's. It writes a line of JSON for
each change, and ends when its input does. An alias is looked at every second.
"""

from keras_pipeline.core import interpreter  # noqa: F401 - before all others

# isort: split
import json
import os
import re
import select
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_pipeline.checks.project import experiment_here
from keras_pipeline.core.errors import DataError, ModelFileError, ParamsError, PipelineError, masked
from keras_pipeline.export.manifest import NAME, read_format, read_manifest

if TYPE_CHECKING:
    from keras_pipeline.registry.versions import Version

LOOK_SECONDS = 1.0
ADDRESS = re.compile(r"models:/([^/@]+)(?:/[1-9]\d{0,8}|@(?:champion|candidate))", re.ASCII)
Line = dict[str, Any]


def main(arguments: list[str]) -> int:
    """Tell of every change until the input ends; of a version by its number there is none."""
    address, cache = arguments[0], Path(arguments[1])
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no line of ours
    watched = Watched(address, cache)
    while True:
        for line in watched.look():
            print(json.dumps(line), file=output, flush=True)
        if "@" not in address or select.select([0], [], [], LOOK_SECONDS)[0]:
            return 0


class Watched:
    """The aliases of a model, as they were last seen."""

    def __init__(self, address: str, cache: Path) -> None:
        self._address, self._cache = address, cache
        self._name = address.removeprefix("models:/").split("@")[0].split("/")[0]
        self._client: Any = None
        self._aliases: dict[str, str] | None = None
        self._told: dict[str, Line] = {"candidate": {"role": "candidate", "gone": True}}

    def look(self) -> Iterator[Line]:
        """What has changed."""
        roles = {"champion": self._address}
        if self._address.endswith("@champion"):
            roles["candidate"] = f"models:/{self._name}@candidate"
        try:
            aliases = self._seen()
        except Exception as fault:  # of MLflow, of a store that is away: it may come back
            yield from self._changed("champion", self._problem(fault))
            return
        if aliases == self._aliases:
            return
        whole = True
        for role, address in roles.items():
            if role == "candidate" and "candidate" not in aliases:
                yield from self._changed(role, {"role": role, "gone": True})
                continue
            try:
                line = {"role": role, **self._fetched(address)}
            except Exception as fault:
                line, whole = self._problem(fault, role), False
            yield from self._changed(role, line)
        self._aliases = aliases if whole else None

    def _changed(self, role: str, line: Line) -> Iterator[Line]:
        if self._told.get(role) != line:
            self._told[role] = line
            yield line

    def _seen(self) -> dict[str, str]:
        """The aliases of the model, by one question."""
        from keras_pipeline.registry import versions
        from keras_pipeline.tracking.store import connect_store
        from keras_pipeline.tracking.stores import address, connection

        location = address.store_location(address.project_root())
        with connection.required_store(location):
            if self._client is None:
                if location.database and not location.database.exists():
                    raise ParamsError(
                        f"{location.shown}: there is no store, so no model '{self._name}'. Expected: first "
                        "`dvc repro` and `keras-pipeline model register`."
                    )
                self._client = connect_store(location, experiment_here()).client
                versions.require_model(self._client, self._name)
            return dict(self._client.get_registered_model(self._name).aliases)

    def _fetched(self, address: str) -> Line:
        """The version that an address names, and the folder that now has its export."""
        from keras_pipeline.registry import versions
        from keras_pipeline.tracking import lookup

        name, version = versions.find_by_address(self._client, address)
        if version.run_id is None:
            raise DataError(f"{name} version {version.number} has no run. Expected: one that `model register` made.")
        folder = self._cache / name / f"{version.number}-{version.run_id}"
        try:
            _check(folder, version)
        except PipelineError:  # not there yet, or damaged since
            shutil.rmtree(folder, ignore_errors=True)
            run = self._client.get_run(version.run_id)
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
                lookup.download_artifact(self._client, run, f"export/{NAME}", Path(temporary))
                made = Path(temporary, "export")
                for file in read_manifest(made)["formats"].get("onnx", {"files": {}})["files"]:
                    lookup.download_artifact(self._client, run, f"export/{file}", Path(temporary))
                _check(made, version)
                made.replace(folder)
        return {"name": name, "version": str(version.number), "folder": str(folder)}

    def _problem(self, fault: Exception, role: str = "champion") -> Line:
        code = fault.exit_code if isinstance(fault, PipelineError) else 6
        words = str(fault) if isinstance(fault, PipelineError) else f"{type(fault).__name__}: {fault}".split("\n")[0]
        if isinstance(fault, ModuleNotFoundError):
            words += f". To ask MLflow for {self._address} needs all of requirements.lock; a folder needs less."
        return {"role": role, "problem": masked(words)[:1000], "code": code}


def _check(folder: Path, version: "Version") -> None:
    """Raise ModelFileError where the export is not whole, or of another network than the one that was registered."""
    made = read_manifest(folder)
    expected = version.tags.get("sha256.model", made["model_sha256"])  # none of a version that MLflow alone registered
    if made["model_sha256"] != expected:
        raise ModelFileError(
            f"version {version.number}: its run keeps the export of the network {made['model_sha256'][:12]}…. "
            f"Expected: {expected[:12]}…, which was registered. Where the run's files are, `dvc repro` and "
            "`keras-pipeline track --again` send its own."
        )
    read_format(folder, made, "onnx")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

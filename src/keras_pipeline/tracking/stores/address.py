"""Where MLflow keeps runs: the addresses of the store and of files in it, read and written in this module alone.

SQLAlchemy and MLflow read an address as a URL: a folder called `what?`, `100%` or `a#b` has to be quoted, once.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from keras_pipeline.core.errors import masked
from keras_pipeline.core.terminal import shown

DATABASE = "mlflow.db"
SERVERS = ("postgresql", "mysql", "mssql")
"""The database servers that MLflow keeps runs in."""
Kind = Literal["sqlite", "database", "http", "other"]


@dataclass(frozen=True)
class Location:
    """Where a store is.

    `uri`: as MLflow is given it; `kind`: an SQLite file, a database server, a server of MLflow's, or whatever else;
    `database`: the file of an SQLite store; `artifacts`: where a new experiment keeps files (None: the server
    decides); `state`: the folder for what this machine remembers of its runs.
    """

    uri: str
    kind: Kind
    database: Path | None
    artifacts: Path | None
    state: Path

    @property
    def own(self) -> bool:
        """Whether it is the SQLite file in the project's own place, where nobody else puts one."""
        return self.database == self.state / DATABASE

    @property
    def shown(self) -> str:
        """The address as people are told it, without a password."""
        return shown(masked(f"sqlite:///{self.database}" if self.database else self.uri[:200]))


def project_root() -> Path:
    """The main checkout: DVC names it in every kind of run, also in an experiment's temporary copy."""
    named = os.environ.get("DVC_ROOT")
    here = Path(named) if named else Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "dvc.yaml").exists()), here).resolve()


def store_location(root: Path) -> Location:
    """MLFLOW_TRACKING_URI (a relative SQLite path is taken from `root`), else mlruns/mlflow.db under `root`."""
    state = root / "mlruns"
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if not uri:
        return _sqlite(state / DATABASE, "", state)
    scheme = uri.partition(":")[0]
    if match := re.fullmatch(r"sqlite(?:\+pysqlite)?:///([^?]+)(\?.*)?", uri, re.DOTALL):
        path, settings = unquote(match[1]), match[2] or ""
        named = path != ":memory:" and not path.startswith("file:") and not re.search("[?&]uri=", settings)
        if named:  # else the path is an address of SQLite's own, with its own rules
            return _sqlite(root / path, settings, state)
    if scheme.partition("+")[0] in SERVERS:
        return Location(uri, "database", None, state / "artifacts", state)
    return Location(uri, "http" if scheme in ("http", "https") else "other", None, None, state)


def _sqlite(file: Path, settings: str, state: Path) -> Location:
    return Location(sqlite_address(file) + settings, "sqlite", file, file.parent / "artifacts", state)


def sqlite_address(file: Path) -> str:
    """The address of an SQLite store. With the driver's name where anything is quoted: without it MLflow makes the
    folder that the quoted path names."""
    quoted = str(file).replace("%", "%25").replace("?", "%3F")
    return f"{'sqlite' if quoted == str(file) else 'sqlite+pysqlite'}:///{quoted}"


def file_address(path: Path) -> str:
    """The address of a folder or file for artifacts."""
    return f"file://{quote(str(path))}"


def local_path(address: str) -> Path | None:
    """The folder or file of this machine that the address of artifacts names, if it names one."""
    if address.startswith("/"):
        return Path(address)
    parts = urlsplit(address)
    return Path(unquote(parts.path)) if parts.scheme == "file" and parts.netloc in ("", "localhost") else None

"""A registered model of MLflow's whose versions are exports of small networks."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from served_network import write_network


@dataclass
class Registry:
    """A project whose registry has the model `digits`."""

    root: Path
    client: Any
    experiment: str
    count: int = 0

    def register(self, alias: str | None = "champion", harm: Callable[[Path], None] | None = None) -> str:
        """A new version with a network of its own; its number."""
        self.count += 1
        folder = write_network(self.root / f"network-{self.count}", seed=self.count, run=f"{self.count:032x}")
        if harm:
            harm(folder)
        run = self.client.create_run(self.experiment, run_name=f"run-{self.count}")
        self.client.log_artifacts(run.info.run_id, str(folder), "export")
        version = self.client.create_model_version("digits", str(folder), run.info.run_id).version
        if alias:
            self.point(alias, version)
        return str(version)

    def point(self, alias: str, version: str) -> None:
        self.client.set_registered_model_alias("digits", alias, version)

"""The port of MLflow's page."""

import os
import socket

import pytest

from keras_pipeline.core.errors import MachineError
from keras_pipeline.tracking import ui
from keras_pipeline.tracking.stores import address
from tracking_fixtures import MLFLOW_WARNINGS, SECRET, Checkout

pytestmark = MLFLOW_WARNINGS


@pytest.mark.parametrize("port", [70000, -1])
def test_no_such_port(port: int) -> None:
    with pytest.raises(MachineError, match=f"--port {port}: "):
        ui._free_port(port)


def test_another_programs_port_is_not_taken_for_mlflows() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(MachineError, match=rf"--port {port}: .*in use.*Choose another one"):
            ui._free_port(port)
    assert ui._free_port(port) == port


def test_the_server_s_command_line_names_no_store(made: Checkout) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = f"postgresql://me:{SECRET}@h/runs?sslpassword={SECRET}"
    where = address.store_location(made.root)
    assert ui._environment(where)["MLFLOW_BACKEND_STORE_URI"] == where.uri
    assert not [word for word in ui._command(5000) if SECRET in word or "postgresql" in word]

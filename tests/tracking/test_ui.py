"""The port of MLflow's page."""

import socket

import pytest

from keras_pipeline.core.errors import MachineError
from keras_pipeline.tracking import ui
from tracking_fixtures import MLFLOW_WARNINGS

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

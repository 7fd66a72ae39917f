"""A mirror that answers well, and the limits of a download that does not sleep."""

from collections.abc import Iterator

import pytest

from fault_server import FaultServer
from keras_pipeline.sources.files.download import Limits
from tiny_mirror import GOOD


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def good() -> Iterator[FaultServer]:
    with FaultServer(GOOD) as server:
        yield server


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def limits(slept: list[float]) -> Limits:
    """As patient as a real download, but for the pauses between tries, which are only written down."""
    return Limits(sleep=slept.append)

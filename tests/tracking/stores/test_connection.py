"""Every way in which a store may not answer: one line with its own words, within seconds, by every verb."""

import json
import logging
import os
import re
import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fault_server
from keras_pipeline.cli import main
from keras_pipeline.cli.overviews import doctor
from keras_pipeline.core import process
from keras_pipeline.core.errors import DataError, MachineError
from keras_pipeline.tracking import store
from keras_pipeline.tracking.stores import connection
from keras_pipeline.tracking.stores.connection import StoreError, UnavailableError
from places import PROGRAM
from tracked_runs import output, python
from tracking_fixtures import EXPERIMENT, MLFLOW_WARNINGS, SECRET, Checkout, TrackingServer, answer, checkout, leaks

pytestmark = MLFLOW_WARNINGS


def said(code: int, body: str, kind: str = "application/json", **headers: str) -> fault_server.Answer:
    """An answer with this status and body."""

    def send(handler: fault_server.Handler) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        content = body.encode()
        handler.start(code, {"Content-Length": str(len(content)), "Content-Type": kind, **named})
        handler.wfile.write(content)

    return send


def cut(handler: fault_server.Handler) -> None:
    """The beginning of an answer."""
    handler.start(200, {"Content-Length": "1000", "Content-Type": "application/json"})
    handler.wfile.write(b'{"experiment": {"exper')


PAGE = "<html><head><title>Sign in &amp; pay</title><style>b {}</style></head><body>hotel\x1b[31m wifi</body></html>"
FAULTS: dict[str, tuple[fault_server.Answer, str]] = {
    "silent": (fault_server.silent, "no answer within 0.5 s"),
    "drips its header": (fault_server.drip_header(0.1), "no answer within 0.5 s"),
    "drips its body": (fault_server.drip(b'{"experiment": {"experiment_id": "1"}}', 0.1), "no answer within 0.5 s"),
    "reset": (fault_server.reset, "Remote end closed connection without response|Connection reset by peer"),
    "cut": (cut, r"IncompleteRead|asked for an experiment, it answers with application/json: "),
    "cut chunk": (fault_server.cut_chunk(b"{"), ".*(IncompleteRead|Response ended prematurely|InvalidChunkLength)"),
    "401": (said(401, "You are not authenticated.", "text/html"), "HTTP 401 Unauthorized: You are not authenticated"),
    "403": (
        said(403, '{"error_code": "PERMISSION_DENIED", "message": "no, somebody"}'),
        "HTTP 403 Forbidden: no, somebody",
    ),
    "404": (said(404, PAGE, "text/html"), "HTTP 404 Not Found: Sign in & pay"),
    "404 of its own": (said(404, '{"detail": "Not Found"}'), 'HTTP 404 Not Found: {"detail": "Not Found"}'),
    "429": (said(429, "slow down", "text/plain", Retry_After="86400"), "HTTP 429 Too Many Requests: slow down"),
    "500": (
        said(500, '{"error_code": "INTERNAL_ERROR", "message": "the disk\\nof http://u:open-sesame@db is full"}'),
        r"HTTP 500 Internal Server Error: the disk of http://\*\*\*@db is full",
    ),
    "502": (
        said(502, "<html><body><h1>502 Bad Gateway</h1>nginx</body></html>", "text/html"),
        "HTTP 502 Bad Gateway: 502 Bad Gateway nginx",
    ),
    "503": (said(503, ""), "HTTP 503 Service Unavailable"),
    "a code of its own": (said(599, "x", "text/plain"), "HTTP 599: x"),
    "a page": (said(200, PAGE, "text/html"), "it is no server of MLflow's: .* answers with text/html: Sign in & pay"),
    "nothing": (said(200, ""), "it is no server of MLflow's: .* answers with nothing"),
    "invalid JSON": (
        said(200, '{"experiment": '),
        r"it is no server of MLflow's: .* application/json: {\"experiment\"",
    ),
    "other JSON": (said(200, '{"runs": []}'), r"it is no server of MLflow's: .* application/json: {\"runs\": \[\]}"),
    "a number": (said(200, "7"), "it is no server of MLflow's: .* application/json: 7"),
    "deep JSON": (said(200, "[" * 30_000), "it is no server of MLflow's: .*"),
    "binary": (
        said(200, "\x00\x01\ud83d".encode("utf-8", "replace").decode(), "x/y"),
        "it is no server of MLflow's: .*",
    ),
    "endless": (fault_server.endless, "it is no server of MLflow's: .*"),
    "redirected to a page": (fault_server.redirect("/page"), "it is no server of MLflow's: .*: Sign in & pay"),
    "redirected for ever": (fault_server.redirect("/get-by-name"), "Exceeded 30 redirects|no answer within"),
    "redirected away": (fault_server.redirect("ftp://127.0.0.1/x"), "No connection adapters were found for 'ftp:"),
}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server is given half a second."""
    monkeypatch.setattr(connection, "CALL_SECONDS", 0.5)


@pytest.fixture
def unanswered() -> Iterator[int]:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]


def refusal(made: Checkout) -> str:
    """What is said of the store, within seconds."""
    began = time.monotonic()
    with pytest.raises(StoreError) as refused:
        store.check_store(made.where, EXPERIMENT)
    assert time.monotonic() - began < 5
    text = str(refused.value)
    assert text.isprintable()
    assert len(text) < 700
    assert SECRET not in text
    return text


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_is_none(made: Checkout, fault: str) -> None:
    with TrackingServer() as server:
        server.answers |= {"get-by-name": FAULTS[fault][0], "page": said(200, PAGE, "text/html")}
        os.environ["MLFLOW_TRACKING_URI"] = server.uri
        text = refusal(made)
    assert re.fullmatch(rf"MLflow at http://\*\*\*@127\.0\.0\.1:\d+ is not available \(({FAULTS[fault][1]}).*\)", text)
    assert not (made.root / "mlruns").exists()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "body",
    [{"experiment": {"experiment_id": "1"}}, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "No Experiment"}],
)
def test_a_server_that_is_one(made: Checkout, body: dict[str, object]) -> None:
    with TrackingServer() as server:
        server.answers["get-by-name"] = said(200 if "experiment" in body else 404, json.dumps(body))
        os.environ["MLFLOW_TRACKING_URI"] = server.uri + "/"
        store.check_store(made.where, EXPERIMENT)
        assert server.calls == ["get-by-name"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://127.0.0.1:{port}", "Connection refused"),
        ("https://127.0.0.1:{port}", "Connection refused"),
        ("http://nobody.invalid:5000", "Name or service not known|No address|Temporary failure in name|no answer"),
        ("http://", "No host supplied|Invalid URL"),
        ("http:/x", "No host supplied|Invalid URL|Failed to parse"),
        ("http://[::1", "Invalid IPv6 URL|Failed to parse"),
        ("http://a..b", "Failed to parse|label empty or too long|URL has an invalid label"),
        ("http://127.0.0.1:notaport", "Failed to parse|Port could not be cast"),
        ("http://127.0.0.1:99999", "Failed to parse|Port out of range|getsockaddrarg|port must be"),
        ("http://x\x00y", ".*"),
        ("http://" + "x" * 300, ".*"),
        ("postgresql+nodriver://me:open-sesame@h/db", "Can't load plugin: .*nodriver"),
        ("postgresql://me:open-sesame@h:x/db", "invalid literal for int|it needs the Python package"),
        ("mysql+pymysql://me:open-sesame@127.0.0.1:{port}/db", "it needs the Python package pymysql: pip install pym"),
        ("mysql://me:open-sesame@127.0.0.1:{port}/db", "it needs the Python package MySQLdb"),
        ("postgresql://me:open-sesame@127.0.0.1:{port}/db", "it needs the Python package psycopg"),
        ("mssql+pyodbc://me:open-sesame@h/db", "it needs the Python package pyodbc"),
        ("postgresql:", "Could not parse SQLAlchemy URL"),
    ],
)
def test_an_address_where_nobody_is(made: Checkout, unanswered: int, uri: str, reason: str) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = uri.replace("{port}", str(unanswered)).replace("\x00", "\x7f")
    assert re.search(rf"is not available \(.*({reason})", refusal(made))


@pytest.mark.parametrize(
    "uri",
    ["foo://x", "mlruns", "/srv/mlruns", "file:///srv/mlruns", "sqlite://", "sqlite:///:memory:", "postgres://h/x"],
)
def test_an_address_that_is_none(made: Checkout, uri: str) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = uri
    text = refusal(made)
    folder = uri in ("mlruns", "/srv/mlruns", "file:///srv/mlruns")
    more = " MLflow keeps no runs in folders any more." if folder else ""
    assert text == (
        f"MLFLOW_TRACKING_URI: {uri} is no address of a store.{more} Expected: {connection.FORMS}; or nothing, for "
        "mlruns/mlflow.db"
    )


@pytest.mark.parametrize("uri", ["databricks", "databricks://profile", "databricks-uc://profile", "uc:http://h"])
def test_an_address_that_mlflow_alone_knows_is_left_to_it(made: Checkout, uri: str) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = uri
    connection.check_answers(made.where, EXPERIMENT)


def test_mlflow_is_imported_quiet_soon_tired_and_for_this_program_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", types.ModuleType("mlflow"))  # whose import takes seconds
    monkeypatch.setattr(process, "_seconds", {})
    os.environ |= {"MLFLOW_RUN_ID": "x", "MLFLOW_REGISTRY_URI": "http://h", "MLFLOW_HTTP_REQUEST_TIMEOUT": "99"}
    loggers = [logging.getLogger(name) for name in ("mlflow", "sqlalchemy", "alembic", "urllib3")]
    before = [logger.level for logger in loggers]
    try:
        connection.start_mlflow()
        assert [logger.level for logger in loggers] == [logging.CRITICAL] * 4
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
    assert os.environ.items() >= connection.ENVIRONMENT.items()
    assert not set(connection.NOT_OURS) & set(os.environ)
    assert "import" in process.part_seconds()


@pytest.mark.usefixtures("quick")
def test_a_certificate_that_nobody_signed(made: Checkout, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    known = {"get-by-name": answer({"experiment": {"experiment_id": "1"}})}
    with fault_server.FaultServer(known, context) as server:
        os.environ["MLFLOW_TRACKING_URI"] = server.url
        assert "certificate verify failed: self-signed certificate" in refusal(made)
        os.environ["MLFLOW_TRACKING_URI"] = server.url.replace("https", "http")
        assert re.search("Remote end closed|reset by peer|Empty reply|BadStatusLine", refusal(made))
        os.environ |= {"MLFLOW_TRACKING_URI": server.url, "MLFLOW_TRACKING_SERVER_CERT_PATH": str(certificate)}
        store.check_store(made.where, EXPERIMENT)
        os.environ["MLFLOW_TRACKING_SERVER_CERT_PATH"] = str(tmp_path / "nowhere.pem")
        assert "nowhere.pem" in refusal(made)
        del os.environ["MLFLOW_TRACKING_SERVER_CERT_PATH"]
        os.environ["MLFLOW_TRACKING_INSECURE_TLS"] = "true"
        with pytest.warns(match="Unverified HTTPS request"):
            store.check_store(made.where, EXPERIMENT)


@pytest.mark.parametrize(
    ("environment", "home", "expected"),
    [
        ({"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": SECRET}, "", "Basic bWU6b3Blbi1zZXNhbWU="),
        ({"MLFLOW_TRACKING_TOKEN": SECRET}, "", f"Bearer {SECRET}"),
        ({}, "", None),
        (
            {"MLFLOW_TRACKING_USERNAME": "me"},
            f"[mlflow]\nmlflow_tracking_username = x\nmlflow_tracking_password = {SECRET}\n",
            "Basic bWU6b3Blbi1zZXNhbWU=",
        ),
    ],
)
def test_it_is_asked_as_mlflow_s_client_asks(
    made: Checkout, tmp_path: Path, environment: dict[str, str], home: str, expected: str | None
) -> None:
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_bytes(home.encode("utf-8", "surrogateescape"))
    with TrackingServer() as server:
        os.environ |= {"MLFLOW_TRACKING_URI": server.url, "HOME": str(tmp_path), **environment}
        store.check_store(made.where, EXPERIMENT)
        assert server.requests[0][1]["Authorization"] == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"[mlflow]\nmlflow_tracking_username=me\nmlflow_tracking_password={SECRET}%x".encode(), "written as %%"),
        (f"[mlflow\nmlflow_tracking_password={SECRET}".encode(), "cannot be read"),
        (f"[mlflow]\n{SECRET}".encode(), "cannot be read"),
        (b"[mlflow]\nmlflow_tracking_password=\xff" + SECRET.encode(), "cannot be read"),
    ],
)
def test_a_file_of_passwords_that_mlflow_cannot_read_is_named_and_not_shown(
    made: Checkout, tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_bytes(content)
    with TrackingServer() as server:
        os.environ |= {"MLFLOW_TRACKING_URI": server.url, "HOME": str(tmp_path)}
        told = refusal(made)
    assert "~/.mlflow/credentials" in told
    assert said in told
    assert SECRET not in told
    assert not server.requests


@pytest.mark.usefixtures("quick")
def test_a_proxy_is_asked_and_a_faulty_one_named(made: Checkout, unanswered: int) -> None:
    os.environ |= {
        "MLFLOW_TRACKING_URI": "http://mlflow.example",
        "http_proxy": f"http://me:{SECRET}@127.0.0.1:{unanswered}",
    }
    assert re.search(r"is not available \(.*(Connection refused|Unable to connect to proxy)", refusal(made))
    with TrackingServer() as server:
        os.environ["http_proxy"] = server.uri
        store.check_store(made.where, EXPERIMENT)
        assert server.requests[0][0].startswith("http://mlflow.example/api/")


def test_a_workspace_is_named_and_a_redirect_is_followed_unless_that_is_forbidden(made: Checkout) -> None:
    with TrackingServer() as server:
        os.environ |= {"MLFLOW_TRACKING_URI": f"{server.url}/base/", "MLFLOW_WORKSPACE": "ours"}
        store.check_store(made.where, 'a name & "more"')
        path, headers = server.requests[0]
        assert path == ("/base/api/2.0/mlflow/experiments/get-by-name?experiment_name=a+name+%26+%22more%22")
        assert headers["X-MLFLOW-WORKSPACE"] == "ours"
        server.answers |= {"moved": server.answers["get-by-name"], "get-by-name": fault_server.redirect("/moved")}
        for allowed in ("True", "1"):
            os.environ["MLFLOW_ALLOW_HTTP_REDIRECTS"] = allowed
            store.check_store(made.where, EXPERIMENT)
        os.environ["MLFLOW_ALLOW_HTTP_REDIRECTS"] = "false"
        assert "(HTTP 302 Found)" in refusal(made)
        del os.environ["MLFLOW_ALLOW_HTTP_REDIRECTS"], os.environ["MLFLOW_WORKSPACE"]
        store.check_store(made.where, EXPERIMENT)
        assert server.requests[-1][1]["X-MLFLOW-WORKSPACE"] is None


def test_an_unreadable_client_certificate_is_named(made: Checkout, unanswered: int) -> None:
    os.environ |= {
        "MLFLOW_TRACKING_URI": f"https://127.0.0.1:{unanswered}",
        "MLFLOW_TRACKING_CLIENT_CERT_PATH": "/no.pem",
    }
    assert "/no.pem" in refusal(made)


@pytest.mark.parametrize("name", ["AUTH", "AWS_SIGV4"])
def test_whoever_alone_can_show_who_it_is_is_not_judged_before(made: Checkout, name: str) -> None:
    with TrackingServer() as server:
        os.environ |= {"MLFLOW_TRACKING_URI": server.url, f"MLFLOW_TRACKING_{name}": "true"}
        for code in (401, 403):
            server.answers["get-by-name"] = fault_server.status(code)
            store.check_store(made.where, EXPERIMENT)
        server.answers["get-by-name"] = fault_server.status(404)
        assert "(HTTP 404 Not Found)" in refusal(made)


# Databases


AS_NOBODY = """
import os, time
import requests
from keras_pipeline.tracking import store
from keras_pipeline.tracking.stores import address

def check():
    began = time.monotonic()
    try:
        store.check_store(address.store_location(address.project_root()), "x")
        print("good")
    except store.StoreError as error:
        print(error)
    print(time.monotonic() - began < 5)

os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///params.yaml"
check()  # whose import needs rights
del os.environ["MLFLOW_TRACKING_URI"]
os.setuid(65534)
check()
"""
"""What is said of the store to somebody who may do less than the tests."""


@pytest.mark.parametrize("closed", ["file", "folder"])
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may do less")
def test_a_database_that_may_not_be_opened(closed: str) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to all others
        Path(folder).chmod(0o755)
        made = checkout(Path(folder) / "checkout")
        made.database.parent.mkdir()
        made.database.write_bytes(b"")
        (made.database if closed == "file" else made.database.parent).chmod(0)
        told = output(python(AS_NOBODY, made.root)).partition("\n")[2].partition("\n")[2]
    assert told.startswith(f"MLflow at sqlite:///{made.database} is not available (")
    assert re.search(r"\((unable to open database file|\[Errno 13\] Permission denied: .*)\)\nTrue\n$", told)


def test_what_stands_in_a_database_s_place(fresh: Checkout) -> None:
    fresh.database.mkdir()
    assert refusal(fresh).endswith(f"({fresh.database} is a folder, and no file)")
    fresh.database.rmdir()
    os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///params.yaml/x.db"
    assert refusal(fresh).endswith("/params.yaml is no folder that can be written to)")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{'x' * 300}.db"
    assert "File name too long" in refusal(fresh)


# Every verb


VERBS: dict[str, tuple[list[str], int]] = {
    "ui": (["ui", "--no-browser"], 6),
    "track": (["track"], 0),
    "compare": (["compare", "abcdef", "."], 6),
    "certify": (["certify", "abcdef"], 6),
    "relocate": (["relocate"], 6),
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_it_in_one_line(
    made: Checkout,
    unanswered: int,
    verb: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made.write()
    monkeypatch.chdir(made.root)
    before = sorted(made.root.rglob("*"))
    os.environ["MLFLOW_TRACKING_URI"] = f"http://me:{SECRET}@127.0.0.1:{unanswered}"
    arguments, code = VERBS[verb]
    assert main.main(arguments) == code
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if "exit" not in line]
    assert len(lines) == (2 if verb == "compare" else 1)  # it says first where else it looked
    assert f"http://***@127.0.0.1:{unanswered} " in lines[-1]
    assert SECRET not in out + err
    if verb == "track":  # what it could not send waits, and nothing else is changed
        assert len(list((made.root / "mlruns" / "waiting").iterdir())) == 1
        assert leaks(made.root) == []
        shutil.rmtree(made.root / "mlruns")
    assert sorted(made.root.rglob("*")) == before
    if verb != "relocate":
        assert f"MLflow at http://***@127.0.0.1:{unanswered} is not available ([Errno 111] Connection refused)" in err


def test_the_page_without_a_server() -> None:
    """As a user types it: nothing that takes seconds is imported."""
    began = time.monotonic()
    done = subprocess.run(
        [PROGRAM, "ui"],
        env={**os.environ, "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert time.monotonic() - began < 5
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr == (
        "MLflow at http://127.0.0.1:9 is not available ([Errno 111] Connection refused). Start it or correct "
        "MLFLOW_TRACKING_URI; what is in files needs no store.\n"
        "keras-pipeline ui: exit 6 (something is missing on this machine)\n"
    )


# Whose fault it is


def bug() -> None:
    raise KeyError("x")


def lacking() -> None:
    import a_package_that_nobody_has  # type: ignore[import-not-found]  # noqa: F401


def full() -> None:
    raise OSError(28, "No space left on device", "/elsewhere/x")


def bad_record() -> None:
    raise DataError("models/run.json: not the JSON that it should be")


def memory() -> None:
    raise MemoryError


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        (bug, KeyError, "'x'"),
        (lacking, MachineError, "No module named 'a_package_that_nobody_has'. The installation is not complete"),
        (full, MachineError, "/elsewhere/x: No space left on device"),
        (bad_record, DataError, "models/run.json: not"),
        (memory, MachineError, "memory is exhausted"),
    ],
)
def test_a_fault_of_ours_is_not_the_store_s(
    made: Checkout, fault: Callable[[], None], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=re.escape(text)) as raised, connection.required_store(made.where):
        fault()
    assert type(raised.value) is kind
    assert "is not available" not in str(raised.value)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (TimeoutError("no answer within 4 s"), "no answer within 4 s"),
        (OSError(28, "No space left on device", "{state}/artifacts/x"), "No space left on device"),
        (json.JSONDecodeError("Expecting value", "", 0), "Expecting value: line 1"),
    ],
)
def test_a_fault_of_the_store_s_is(made: Checkout, error: Exception, text: str) -> None:
    if isinstance(error, OSError) and error.filename:
        error.filename = error.filename.format(state=made.where.state)
    with pytest.raises(UnavailableError) as raised, connection.store_calls(made.where):
        raise error
    assert str(raised.value).startswith(f"MLflow at {made.where.shown} is not available (")
    assert text in str(raised.value)


class TellingError(Exception):
    """As MLflow's exceptions are."""

    def __init__(self, text: str, error_code: str | None = None) -> None:
        super().__init__(text)
        self.error_code = error_code


def caused(error: BaseException, by: BaseException) -> BaseException:
    error.__context__ = by
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TellingError('{"message": "no &amp; never\\n", "error_code": "X"}'), "no & never"),
        (TellingError('{"error_code": "X"}'), "X"),
        (TellingError("[1, 2]"), "[1, 2]"),
        (TellingError(" :\n"), "TellingError"),
        (TellingError("<html><TITLE a='b'>Sign\nin</TITLE><p>more</html>"), "Sign in"),
        (TellingError("<style>a {}</style><b>bold</b><script>x()</script>&lt;"), "bold <"),
        (TellingError("x" * 200), "x" * 200),
        (TellingError("x" * 201), f"{'x' * 199}…"),
        (TellingError("a\x1b[2J\tb\n\nc"), r"a\x1b[2J b c"),
        (TellingError("first\n[SQL: SELECT secret]\n(Background on this error at: x)"), "first"),
        (TellingError("first\n(Background on this error at: x)"), "first"),
        (KeyError("run"), "MLflow's client cannot read the answer, KeyError: 'run'"),
        (AttributeError(), "MLflow's client cannot read the answer, AttributeError: AttributeError"),
        (caused(TellingError("API request failed"), ConnectionResetError(104, "reset")), "[Errno 104] reset"),
        (caused(caused(TellingError("a"), OSError(5, "b")), sqlite3.OperationalError("c")), "c"),
        (caused(TellingError("a"), caused(OSError(5, "b"), ValueError("c"))), "[Errno 5] b"),
    ],
)
def test_a_store_s_reason_is_what_is_at_the_bottom_in_one_line(error: BaseException, said: str) -> None:
    assert connection.reason(error) == said


FOREIGN = (
    "mlflow.exceptions", "sqlalchemy.exc", "alembic.util", "urllib3.exceptions", "requests", "google.protobuf",
    "databricks.sdk", "filelock._error", "json.decoder",
)  # fmt: skip


@pytest.mark.parametrize("module", [*FOREIGN, "keras", "my.mlflow"])
def test_what_a_library_of_the_way_to_the_store_raised_is_the_store_s(made: Checkout, module: str) -> None:
    error = type("SomeError", (Exception,), {"__module__": module})("words")
    told = connection.what_went_wrong(error, made.where)
    if module in FOREIGN:
        assert type(told) is UnavailableError
        assert str(told) == f"MLflow at {made.where.shown} is not available (words)"
        cause = KeyError("x")
        cause.__context__ = error
        assert type(connection.what_went_wrong(cause, made.where)) is UnavailableError
    else:
        assert told is error


def test_a_file_of_this_machine_is_not_a_server_s(made: Checkout) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = "http://h"
    fault = OSError(28, "No space left on device", "/elsewhere/x")
    told = connection.what_went_wrong(fault, made.where)
    assert type(told) is MachineError
    assert str(told) == "/elsewhere/x: No space left on device"


@pytest.mark.parametrize("code", ["INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST"])
def test_what_a_store_refuses_is_no_lack_of_a_store(made: Checkout, code: str) -> None:
    with pytest.raises(StoreError) as refused, connection.required_store(made.where):
        raise TellingError("too long", code)
    assert type(refused.value) is StoreError
    assert str(refused.value) == f"MLflow at {made.where.shown} refuses what it was sent (too long)"
    with pytest.raises(TellingError), connection.required_store(made.where):
        raise TellingError("too long", "INTERNAL_ERROR")


# Calls that end in time


def test_a_call_ends_in_time_or_gives_what_it_gives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Client:
        calls: list[object] = []  # noqa: RUF012

        def get(self, seconds: float, *, value: int) -> int:
            time.sleep(seconds)
            return value

        def log_artifact(self, *arguments: object) -> None:
            self.calls.append(arguments)
            time.sleep(0.3)

        log_artifacts = log_artifact

        def fail(self) -> None:
            raise KeyError("x")

    monkeypatch.setattr(connection, "CALL_SECONDS", 0.1)
    client = connection.BoundedClient(Client())
    assert client.get(0, value=7) == 7
    with pytest.raises(KeyError, match="x"):
        client.fail()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.1 s"):
        client.get(9, value=7)
    (tmp_path / "small").write_bytes(b"x")
    (tmp_path / "large").write_bytes(b"x" * 1_000_000)
    with pytest.raises(TimeoutError):
        client.log_artifact("r", str(tmp_path / "small"))
    client.log_artifact("r", str(tmp_path / "large"), "folder")
    assert Client.calls[1] == ("r", str(tmp_path / "large"), "folder")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "small").write_bytes(b"x")
    with pytest.raises(TimeoutError):
        client.log_artifacts("r", str(tmp_path / "deep"))
    shutil.move(tmp_path / "large", tmp_path / "deep" / "er")
    client.log_artifacts("r", str(tmp_path / "deep"), "folder")
    assert Client.calls[3] == ("r", str(tmp_path / "deep"), "folder")
    assert client.carrying(1_000_000).get(0.3, value=8) == 8


def test_doctor_says_the_same(made: Checkout, unanswered: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made.root)
    os.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{unanswered}"
    assert doctor._store() == (
        False,
        f"MLflow at http://127.0.0.1:{unanswered} is not available ([Errno 111] Connection refused): mend that, or "
        "name another one in MLFLOW_TRACKING_URI",
    )
    with TrackingServer() as server:
        os.environ["MLFLOW_TRACKING_URI"] = server.uri
        assert doctor._store() == (True, f"{made.where.shown} answers")

"""Downloads: each fault is named, what can pass is tried again, and nothing partial is left."""

import contextlib
import dataclasses
import datetime
import gzip
import hashlib
import io
import ipaddress
import os
import re
import resource
import socket
import ssl
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import tiny_datasets
from fault_server import (
    Answer,
    FaultServer,
    cut_chunk,
    drip,
    endless,
    in_turn,
    redirect,
    reset,
    status,
    whole,
    without_length,
)
from keras_pipeline.core.errors import DownloadError
from keras_pipeline.sources.files import download
from keras_pipeline.sources.files.download import Limits, download_files
from keras_pipeline.sources.kinds.kind import Download, RemoteFile
from tiny_mirror import BYTES, CONTENTS, ENVELOPES, FIRST, GOOD, downloaded, reason

FASHION = gzip.compress(tiny_datasets.payloads(seed=1)["train-images"], mtime=0)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (status(403), "HTTP 403 Forbidden."),
        (status(404), "HTTP 404 Not Found."),
        (status(419), "HTTP 419."),
        (status(206), "HTTP 206 Partial Content."),
        (status(304), "HTTP 304 Not Modified."),
        (whole(b"<html>log in!</html>"), "got HTML, a page for people, 20 bytes. Expected: gzip data."),
        (whole(b""), "got an empty file."),
        (without_length(BYTES[:-9]), f"got a file that ends early at byte {len(BYTES) - 9}, after"),
        (whole(CONTENTS["train-images"]), "got IDX data that are not compressed, 4720 bytes."),
        (whole(FASHION), "with the content_sha256"),
        (whole(BYTES + b"more"), "got 4 bytes after the end of the gzip data"),
        (endless, "sends more than the 70260 bytes it may have."),
        (
            redirect("file:///etc/passwd"),
            "redirects to 'file:///etc/passwd', which is neither https nor as safe.",
        ),
        (redirect("ftp://127.0.0.1/x"), "redirects to 'ftp://127.0.0.1/x'"),
        (redirect("data:text/plain,x"), "redirects to 'data:text/plain,x'"),
        (redirect(FIRST), "more than 5 redirects."),
        (redirect("http://[::1"), "Invalid IPv6 URL"),
    ],
)
def test_a_faulty_answer_is_named_not_retried_and_leaves_nothing(
    answer: Answer, message: str, tmp_path: Path, limits: Limits, slept: list[float]
) -> None:
    assert message in reason(answer, tmp_path, limits)
    assert slept == []


@pytest.mark.parametrize("answer", [status(404), whole(FASHION), endless])
def test_the_next_mirror_is_asked_and_the_bad_one_last_from_then_on(
    answer: Answer, good: FaultServer, tmp_path: Path, limits: Limits, capsys: pytest.CaptureFixture[str]
) -> None:
    with FaultServer({**GOOD, FIRST: answer}) as bad:
        row = tiny_datasets.row(CONTENTS, bad.url, good.url)
        assert downloaded(row, tmp_path, limits=limits) == CONTENTS
        assert [path for path, _ in bad.requests] == [f"/{FIRST}"]
    assert [path for path, _ in good.requests] == [f"/{name}" for name in GOOD]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        tiny_datasets.NAMES[role]: envelope for role, envelope in ENVELOPES.items()
    }
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{bad.url}/{FIRST}: ")
    assert lines[1] == f"{FIRST}: {len(BYTES):,} bytes from {good.url}, verified."
    assert len(lines) == 5


@pytest.mark.parametrize(
    "answer",
    [
        status(500),
        status(503),
        status(429),
        reset,
        cut_chunk(BYTES[:100]),
        whole(BYTES[:-9], Content_Length=str(len(BYTES))),
    ],
)
def test_a_passing_fault_is_tried_again_with_jitter(
    answer: Answer, tmp_path: Path, limits: Limits, slept: list[float]
) -> None:
    with FaultServer({**GOOD, FIRST: in_turn(answer, answer, GOOD[FIRST])}) as server:
        assert downloaded(tiny_datasets.row(CONTENTS, server.url), tmp_path, limits=limits) == CONTENTS
        assert len(server.requests) == 6
    assert 0.5 <= slept[0] <= 1
    assert 1 <= slept[1] <= 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (status(500), "HTTP 500 Internal Server Error."),
        (reset, "RemoteDisconnected: Remote end closed connection without response."),
        (whole(BYTES[:-9], Content_Length=str(len(BYTES))), "IncompleteRead"),
    ],
)
def test_a_lasting_fault_is_tried_three_times(
    answer: Answer, message: str, tmp_path: Path, limits: Limits, slept: list[float]
) -> None:
    assert message in reason(answer, tmp_path, limits)
    assert len(slept) == 2


@pytest.mark.parametrize(("asked", "waited"), [("3", 3), ("86400", 30), ("9" * 400, 30)])
def test_retry_after_is_honoured_up_to_its_cap(
    asked: str, waited: float, tmp_path: Path, limits: Limits, slept: list[float]
) -> None:
    busy = status(503, Retry_After=asked)
    with FaultServer({**GOOD, FIRST: in_turn(busy, GOOD[FIRST])}) as server:
        downloaded(tiny_datasets.row(CONTENTS, server.url), tmp_path, limits=limits)
    assert slept == [waited]


def test_a_date_in_retry_after_means_the_usual_pause(tmp_path: Path, limits: Limits, slept: list[float]) -> None:
    busy = status(503, Retry_After="Fri, 31 Dec 2999 23:59:59 GMT")
    with FaultServer({**GOOD, FIRST: in_turn(busy, GOOD[FIRST])}) as server:
        downloaded(tiny_datasets.row(CONTENTS, server.url), tmp_path, limits=limits)
    assert 0.5 <= slept[0] < 1


@pytest.mark.parametrize("algorithm", ["content_sha256", "md5"])
@pytest.mark.parametrize("layers", [0, 1])
def test_content_encoding_gzip_is_undone_only_where_it_was_added(
    algorithm: Any, layers: int, tmp_path: Path, limits: Limits
) -> None:
    answers = {
        tiny_datasets.NAMES[role]: whole(gzip.compress(envelope) if layers else envelope, Content_Encoding="gzip")
        for role, envelope in ENVELOPES.items()
    }
    with FaultServer(answers) as server:
        row = tiny_datasets.row(CONTENTS, server.url, algorithm=algorithm)
        assert downloaded(row, tmp_path, limits=limits) == CONTENTS
        assert {headers["Accept-Encoding"] for _, headers in server.requests} == {"identity"}
    assert (tmp_path / FIRST).read_bytes() == BYTES


def test_another_envelope_is_taken_by_payload_digest_and_refused_by_md5(tmp_path: Path, limits: Limits) -> None:
    sent = {name: gzip.compress(CONTENTS[role], 1) for role, name in tiny_datasets.NAMES.items()}
    again = {name: whole(content) for name, content in sent.items()}
    with FaultServer(again) as server:
        assert downloaded(tiny_datasets.row(CONTENTS, server.url), tmp_path / "a", limits=limits) == CONTENTS
        row = tiny_datasets.row(CONTENTS, f"{server.url}/", algorithm="md5")
        with pytest.raises(DownloadError) as refused:
            downloaded(row, tmp_path / "b" / "c", limits=limits)
    found, expected = hashlib.md5(sent[FIRST]).hexdigest(), hashlib.md5(BYTES).hexdigest()
    assert str(refused.value).splitlines()[1] == (
        f"  {server.url}/{FIRST}: got {len(sent[FIRST])} bytes with the md5 {found}. Expected: {expected}. "
        "It is another dataset's file or a damaged one: use another source."
    )


def test_a_redirect_is_followed(good: FaultServer, tmp_path: Path, limits: Limits) -> None:
    with FaultServer({name: redirect(f"{good.url}/{name}") for name in GOOD}) as server:
        row = tiny_datasets.row(CONTENTS, server.url.replace("//", "//me:secret@"))
        assert downloaded(row, tmp_path, limits=limits) == CONTENTS
        assert all(headers["Authorization"] == "Basic bWU6c2VjcmV0" for _, headers in server.requests)
    assert all(headers["Authorization"] is None for _, headers in good.requests)


@pytest.mark.parametrize(("count", "good"), [(5, True), (6, False)])
def test_five_redirects_in_a_row_are_followed(count: int, good: bool, tmp_path: Path, limits: Limits) -> None:
    with FaultServer({**GOOD, FIRST: in_turn(*[redirect(FIRST)] * count, GOOD[FIRST])}) as server:
        row = tiny_datasets.row(CONTENTS, server.url)
        if good:
            assert downloaded(row, tmp_path, limits=limits) == CONTENTS
        else:
            with pytest.raises(DownloadError, match=r"more than 5 redirects\."):
                downloaded(row, tmp_path, limits=limits)
        assert [path for path, _ in server.requests].count(f"/{FIRST}") == 6


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "localhost", "10.1.2.3", "192.168.0.1", "169.254.169.254", "[::ffff:127.0.0.1]", "0.0.0.0",
     "2130706433", "[fe80::1]", "[fd00::1]"],
)  # fmt: skip
def test_no_mirror_of_the_internet_leads_into_a_private_network(
    host: str, tmp_path: Path, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = f"http://{host}/latest"
    with FaultServer({**GOOD, FIRST: redirect(target)}) as proxy:  # it answers for every host
        monkeypatch.setenv("http_proxy", proxy.url)
        with pytest.raises(DownloadError, match=r"redirects to .*, which is in a private network") as refused:
            downloaded(tiny_datasets.row(CONTENTS, "http://8.8.8.8"), tmp_path, limits=limits)
        assert f"redirects to '{target}'" in str(refused.value)
        assert [path for path, _ in proxy.requests] == [f"http://8.8.8.8/{FIRST}"]


def test_within_a_private_network_and_within_the_internet_a_redirect_is_followed(
    tmp_path: Path, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultServer({**GOOD, FIRST: in_turn(redirect(f"http://9.9.9.9/{FIRST}"), GOOD[FIRST])}) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        row = tiny_datasets.row(CONTENTS, "http://8.8.8.8")
        assert downloaded(row, tmp_path / "internet", limits=limits) == CONTENTS
    with FaultServer({**GOOD, FIRST: in_turn(redirect(f"http://10.1.2.3/{FIRST}"), GOOD[FIRST])}) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        row = tiny_datasets.row(CONTENTS, "http://192.168.1.1")
        assert downloaded(row, tmp_path / "private", limits=limits) == CONTENTS


def test_of_a_kept_file_no_more_is_read_than_it_may_have(good: FaultServer, tmp_path: Path, limits: Limits) -> None:
    with (tmp_path / FIRST).open("wb") as file:
        file.truncate(1 << 40)
    assert downloaded(tiny_datasets.row(CONTENTS, good.url), tmp_path, limits=limits) == CONTENTS
    assert (tmp_path / FIRST).read_bytes() == BYTES


def test_what_will_not_pass_is_not_tried_again(tmp_path: Path, limits: Limits, slept: list[float]) -> None:
    with pytest.raises(DownloadError, match="gaierror"):
        downloaded(tiny_datasets.row(CONTENTS, "http://mirror.invalid"), tmp_path, limits=limits)
    assert slept == []


def test_a_refused_port_and_an_unknown_host_cost_less_than_five_seconds(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        row = tiny_datasets.row(CONTENTS, f"http://127.0.0.1:{port}", "http://mirror.invalid")
        started = time.monotonic()
        with pytest.raises(DownloadError) as refused:
            downloaded(row, tmp_path)
    assert time.monotonic() - started < 5
    _, first, second, _ = str(refused.value).splitlines()
    assert "ConnectionRefusedError: [Errno 111] Connection refused" in first
    assert "http://mirror.invalid/train-images-idx3-ubyte.gz: gaierror" in second


def test_a_host_that_takes_no_connection_is_left(tmp_path: Path, limits: Limits, slept: list[float]) -> None:
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):  # those that it will never take fill its queue
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        with pytest.raises(DownloadError) as refused:
            downloaded(tiny_datasets.row(CONTENTS, url), tmp_path, limits=dataclasses.replace(limits, connect=0.2))
    assert str(refused.value).splitlines()[1] == f"  {url}/{FIRST}: no connection within 0.2 s."
    assert slept == []


def test_a_mirror_that_was_left_is_listened_to_no_longer(tmp_path: Path, limits: Limits) -> None:
    impatient = dataclasses.replace(limits, total=0.1)
    with FaultServer({FIRST: drip(BYTES, 0.01)}) as server:
        with pytest.raises(DownloadError, match=r"not complete after 0\.1 s\."):
            downloaded(tiny_datasets.row(CONTENTS, server.url), tmp_path, limits=impatient)
        for thread in threading.enumerate():
            if isinstance(thread, download._Transfer) and thread.url.startswith(server.url):
                thread.join(20)
                assert not thread.is_alive()


def test_on_a_terminal_the_bytes_that_came_are_shown(
    tmp_path: Path, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def in_halves(handler: Any) -> None:
        handler.start(200, {"Content-Length": str(len(BYTES))})
        handler.wfile.write(BYTES[:2000])
        time.sleep(0.5)
        handler.wfile.write(BYTES[2000:])

    seen = Terminal()
    monkeypatch.setattr(sys, "__stderr__", seen)
    with FaultServer({**GOOD, FIRST: in_halves}) as server:
        downloaded(tiny_datasets.row(CONTENTS, server.url), tmp_path, limits=limits)
    assert re.search(rf"{FIRST}: +\d+%\|.*\| 2\.00k/{len(BYTES) / 1000:.2f}k \[.*B/s\]", seen.getvalue())
    assert seen.getvalue().endswith("\r")  # and then nothing is left of it


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1 with its key, as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def test_tls_is_verified_and_never_left(
    certificate: Path, good: FaultServer, tmp_path: Path, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with FaultServer({**GOOD, FIRST: in_turn(redirect(f"{good.url}/{FIRST}"), *[GOOD[FIRST]] * 2)}, context) as server:
        row = tiny_datasets.row(CONTENTS, server.url)
        with pytest.raises(DownloadError, match=r"SSLCertVerificationError: .*self-signed certificate"):
            downloaded(row, tmp_path, limits=limits)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with pytest.raises(DownloadError, match=f"redirects to '{good.url}/.*, which is neither https"):
            downloaded(row, tmp_path, limits=limits)
        assert good.requests == []
        assert downloaded(row, tmp_path, limits=limits) == CONTENTS
        with FaultServer({name: redirect(f"{server.url}/{name}") for name in GOOD}) as plain:
            row = tiny_datasets.row(CONTENTS, plain.url)
            assert downloaded(row, tmp_path / "safer", limits=limits) == CONTENTS


def test_the_proxy_of_the_environment_is_used(
    good: FaultServer, tmp_path: Path, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", good.url.replace("//", "//me:secret@"))
    downloaded(tiny_datasets.row(CONTENTS, "http://mirror.invalid/base/"), tmp_path, limits=limits)
    path, headers = good.requests[0]
    assert path == f"http://mirror.invalid/base/{FIRST}"
    assert headers["Proxy-Authorization"] == "Basic bWU6c2VjcmV0"


def test_a_wrong_proxy_is_named_without_its_password(
    good: FaultServer, tmp_path: Path, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", good.url.replace("//", "//me:secret@"))
    with pytest.raises(DownloadError, match="at the proxy: Tunnel connection failed: 407") as refused:
        downloaded(tiny_datasets.row(CONTENTS, "https://mirror.invalid"), tmp_path, limits=limits)
    assert "secret" not in str(refused.value)


def test_no_password_or_token_reaches_a_message(
    tmp_path: Path, limits: Limits, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {**GOOD, FIRST: in_turn(redirect("ftp://you:secret@host/x?key=secret"), GOOD[FIRST])}
    with FaultServer(answers) as server:
        mirror = server.url.replace("//", "//me:secret@")
        row = tiny_datasets.row(CONTENTS, mirror, "s3://me:secret@bucket", "http://me:secret@[::1")
        with pytest.raises(DownloadError) as refused:
            downloaded(row, tmp_path, limits=limits)
        downloaded(row, tmp_path, limits=limits)
    assert "s3" in str(refused.value)
    assert "secret" not in str(refused.value) + capsys.readouterr().out


@pytest.mark.parametrize("form", ["{}", "file://{}", "{}/"])
def test_own_folder_comes_first(form: str, good: FaultServer, tmp_path: Path, limits: Limits) -> None:
    own = tmp_path / "with space %20"
    own.mkdir()
    for role, name in tiny_datasets.NAMES.items():
        (own / name).write_bytes(ENVELOPES[role])
    mirror = form.format(str(own).replace("%", "%25") if form.startswith("file") else own)
    row = tiny_datasets.row(CONTENTS, good.url)
    assert downloaded(row, tmp_path / "kept", [mirror], limits) == CONTENTS
    assert good.requests == []


def test_every_mirror_is_named_with_its_reason(tmp_path: Path, limits: Limits) -> None:
    (tmp_path / "own").mkdir()
    row = tiny_datasets.row(CONTENTS, "s3://bucket")
    with pytest.raises(DownloadError) as refused:
        downloaded(row, tmp_path / "kept", [f"{tmp_path}/own", f"{tmp_path}/own"], limits)
    lines = str(refused.value).splitlines()
    assert lines[0] == f"{tmp_path}/kept/{FIRST}: no mirror gave this file."
    assert lines[1] == f"  [Errno 2] No such file or directory: '{tmp_path}/own/{FIRST}'"
    assert lines[2] == "  s3://bucket: got s3. Expected: a folder, file://, http:// or https://."
    assert lines[3:] == [
        "Expected: a mirror that answers with the file. Two ways out: name a folder or a mirror that has it, "
        "KERAS_PIPELINE_MIRRORS=/path/to/folder (or file://, http://, https://; several with commas), or take images "
        "that need no download: `dvc exp run -S fetch.dataset=digits`, or so in params.yaml."
    ]


@pytest.mark.parametrize(
    ("mirror", "said"),
    [
        ("pipes", f"pipes/{FIRST}: got no regular file."),
        ("devices", f"devices/{FIRST}: got no regular file."),
        ("loop", "Too many levels of symbolic links"),
        ("~nobody-of-this-name/x", "~nobody-of-this-name/x: Could not determine home directory."),
        ("a\0b", "a\0b: embedded null byte"),
        ("file:///%00", "file:///%00: embedded null byte"),
        ("file://another-host/none", f"No such file or directory: '/none/{FIRST}'"),
        ("m" * 5000, "File name too long"),
        ("C:\\data", "C:\\data: got c. Expected: a folder, file://, http:// or https://."),
        ("http://", "No host supplied"),
        ("http://127.0.0.1:99999", "Failed to parse"),
        ("http://a b/", "Host 'a b' contains invalid character ' '."),
        (f"http://{'ä' * 70}.de", "Label too long."),
        ("/etc/passwd", "Not a directory"),
    ],
)
def test_what_is_no_mirror_is_said_in_a_line_and_the_next_is_asked(
    mirror: str, said: str, good: FaultServer, tmp_path: Path, limits: Limits, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for folder in ("pipes", "devices"):
        Path(folder).mkdir()
    os.mkfifo(f"pipes/{FIRST}")
    Path("devices", FIRST).symlink_to("/dev/zero")
    Path("loop").symlink_to("loop")
    row = tiny_datasets.row(CONTENTS, good.url)
    assert downloaded(row, tmp_path / "kept", [mirror], limits) == CONTENTS
    assert said in capsys.readouterr().out.split("\n")[0]


def test_kept_files_are_used_without_a_request(good: FaultServer, tmp_path: Path, limits: Limits) -> None:
    row = tiny_datasets.row(CONTENTS, good.url)
    downloaded(row, tmp_path, limits=limits)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    good.requests.clear()
    assert downloaded(row, tmp_path, ["http://mirror.invalid"], limits) == CONTENTS
    assert good.requests == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == stamps


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "html", "another dataset", "dangling link", "pipe"])
def test_a_damaged_kept_file_is_said_and_fetched_anew(
    damage: str, good: FaultServer, tmp_path: Path, limits: Limits, capsys: pytest.CaptureFixture[str]
) -> None:
    row = tiny_datasets.row(CONTENTS, good.url)
    downloaded(row, tmp_path, limits=limits)
    good.requests.clear()
    capsys.readouterr()
    kept = tmp_path / FIRST
    if damage in ("dangling link", "pipe"):
        kept.unlink()
        kept.symlink_to(tmp_path / "nowhere") if damage == "dangling link" else os.mkfifo(kept)
    else:
        flipped = bytes([*BYTES[:99], BYTES[99] ^ 4, *BYTES[100:]])
        damaged = {"flip": flipped, "cut": BYTES[:99], "empty": b"", "html": b"<html>", "another dataset": FASHION}
        kept.write_bytes(damaged[damage])
    assert downloaded(row, tmp_path, limits=limits) == CONTENTS
    assert [path for path, _ in good.requests] == [f"/{FIRST}"]
    assert kept.read_bytes() == BYTES
    assert ("It is fetched anew." in capsys.readouterr().out) == (damage != "dangling link")


@pytest.mark.parametrize("at", ["", FIRST])
def test_a_folder_or_file_in_the_way_is_an_oserror_before_any_request(
    at: str, good: FaultServer, tmp_path: Path, limits: Limits
) -> None:
    folder = tmp_path / "kept"
    if at:
        (folder / at).mkdir(parents=True)
    else:
        folder.write_bytes(b"a file")
    with pytest.raises((FileExistsError, IsADirectoryError), match=f"{folder / at}"):
        downloaded(tiny_datasets.row(CONTENTS, good.url), folder, limits=limits)
    assert good.requests == []


def test_a_full_disk_is_an_oserror_and_leaves_nothing(good: FaultServer, tmp_path: Path, limits: Limits) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            downloaded(tiny_datasets.row(CONTENTS, good.url), tmp_path, limits=limits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_download_left_is_removed(good: FaultServer, tmp_path: Path, limits: Limits) -> None:
    (tmp_path / f".{FIRST}.abc").write_bytes(BYTES[:99])
    (tmp_path / "mine").write_bytes(b"")
    downloaded(tiny_datasets.row(CONTENTS, good.url), tmp_path, limits=limits)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*GOOD, "mine"])


ARCHIVE = b"PK\3\4" + bytes(range(256)) * 40
SHA256, MD5 = hashlib.sha256(ARCHIVE).hexdigest(), hashlib.md5(ARCHIVE).hexdigest()


def archive(mirror: str, **changes: Any) -> Download:
    """A file of which size and digest of itself are known, and no content."""
    return Download(mirrors=(mirror,), files=(RemoteFile(name="a.zip", **{"bytes": len(ARCHIVE), **changes}),))


@pytest.mark.parametrize("digest", [{"sha256": SHA256}, {"md5": MD5}, {"sha256": SHA256, "md5": MD5}])
@pytest.mark.parametrize("layers", [0, 1])
def test_a_file_of_any_format_is_verified_as_it_is(
    digest: dict[str, str], layers: int, tmp_path: Path, limits: Limits
) -> None:
    answer = whole(gzip.compress(ARCHIVE), Content_Encoding="gzip") if layers else whole(ARCHIVE)
    with FaultServer({"a.zip": answer}) as server:
        assert download_files(archive(server.url, **digest), tmp_path, limits=limits) == {}
        assert download_files(archive(server.url, **digest), tmp_path, limits=limits) == {}
        assert len(server.requests) == 1
    assert (tmp_path / "a.zip").read_bytes() == ARCHIVE


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ARCHIVE[:-1], f"got a zip archive, {len(ARCHIVE) - 1} bytes. Expected: {len(ARCHIVE):,} bytes."),
        (ARCHIVE + b"x", f"got more than {len(ARCHIVE) + 1:,} bytes"),
        (ARCHIVE + b"xx", f"sends more than the {len(ARCHIVE) + 1} bytes it may have."),
        (b"<html>log in!</html>", "got HTML, a page for people, 20 bytes."),
        (ARCHIVE[:-1] + b"x", f"got {len(ARCHIVE)} bytes with the sha256"),
    ],
)
def test_another_file_is_refused_and_not_kept(content: bytes, message: str, tmp_path: Path, limits: Limits) -> None:
    with FaultServer({"a.zip": whole(content)}) as server, pytest.raises(DownloadError) as refused:
        download_files(archive(server.url, sha256=SHA256), tmp_path, limits=limits)
    assert message in str(refused.value)
    assert list(tmp_path.iterdir()) == []

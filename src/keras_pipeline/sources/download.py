"""From mirrors to verified bytes on disk.

No byte is kept under a file's name before its digest is right. Every wait has an end: a mirror that is slow,
silent, endless or lying costs some seconds, then the next one is asked.
"""

import hashlib
import http.client
import ipaddress
import random
import socket
import sys
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import requests
import urllib3

from keras_pipeline.config.datasets import Dataset, RemoteFile
from keras_pipeline.core import files, terminal
from keras_pipeline.core.errors import DataError, DownloadError, masked
from keras_pipeline.sources import formats

_REDIRECTS = 5


@dataclass(frozen=True)
class Limits:
    """How patient a download is; times in seconds.

    `connect` and `read` bound one silence, `total` a file from one mirror with all its tries. A mirror that
    gives less than `speed` bytes per second over `window` seconds is left. `wait` bounds the pause before
    another of the `tries`, whatever the server asks for.
    """

    connect: float = 5
    read: float = 10
    total: float = 1800
    window: float = 20
    speed: float = 10_000
    tries: int = 3
    wait: float = 30
    sleep: Callable[[float], None] = time.sleep


class _MirrorError(OSError):
    """Why a mirror did not give a file."""


class _PassingError(_MirrorError):
    """A fault that may be gone at the next try, `after` the seconds that the server asked for (0: none)."""

    def __init__(self, reason: str, after: float = 0) -> None:
        super().__init__(reason)
        self.after = after


def download_dataset(
    dataset: Dataset, folder: Path, mirrors: Sequence[str] = (), limits: Limits = Limits()
) -> dict[str, bytes]:
    """The decompressed, verified content of each of the dataset's files by role; `folder` keeps the .gz.

    A file in `folder` with the right digest is used as it is, without a request; a damaged one is said and
    replaced. `mirrors` (folders, file://, http:// or https:// bases) are asked first, then the dataset's own.
    One process at a time may use a folder: the caller holds a lock. Raises DownloadError with each mirror's
    reason when none gives a file, OSError when `folder` cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    order = list(dict.fromkeys([*mirrors, *dataset.mirrors]))
    return {
        role: _kept(file, folder / file.name) or _fetched(file, folder / file.name, order, limits)
        for role, file in dataset.files.items()
    }


def _kept(file: RemoteFile, path: Path) -> bytes | None:
    try:
        return _verified(file, _read(path, file), str(path))
    except FileNotFoundError:
        return None
    except DataError as error:
        print(f"{error} It is fetched anew.")
        return None


def _fetched(file: RemoteFile, path: Path, order: list[str], limits: Limits) -> bytes:
    for leftover in path.parent.glob(f".{file.name}.*"):
        leftover.unlink()
    reasons = []
    for mirror in tuple(order):
        try:
            content = _content(mirror, file, limits)
            payload = _verified(file, content, f"{mirror.rstrip('/')}/{file.name}")
        except (OSError, ValueError) as error:
            named = isinstance(error, OSError | DataError)
            reasons.append(masked(str(error) if named else f"{mirror}: {error}"))
            order.remove(mirror)  # The files still to come are asked of the other mirrors first.
            order.append(mirror)
            continue
        files.write_atomically(path, content)
        for reason in reasons:
            print(reason)
        print(f"{file.name}: {len(content):,} bytes from {masked(mirror)}, verified.")
        return payload
    raise DownloadError(
        f"{path}: no mirror gave this file.\n"
        + "".join(f"  {reason}\n" for reason in reasons)
        + "Expected: a mirror that answers with the file. Two ways out: name a folder or a mirror that has "
        "it, KERAS_PIPELINE_MIRRORS=/path/to/folder (or file://, http://, https://; several with commas), or "
        "take images that need no download: `dvc exp run -S fetch.dataset=digits`, or so in params.yaml."
    )


def _verified(file: RemoteFile, content: bytes, name: str) -> bytes:
    payload = formats.decompress(content, name, file.payload_size)
    if file.algorithm == "gzip md5":
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    else:
        digest = hashlib.sha256(payload).hexdigest()
    if digest != file.digest:
        raise DataError(
            f"{name}: got {len(content)} bytes with the {file.algorithm} {digest}. Expected: {file.digest}. "
            "It is another dataset's file or a damaged one: use another source."
        )
    return payload


def _content(mirror: str, file: RemoteFile, limits: Limits) -> bytes:
    address = urlsplit(mirror)
    if address.scheme in ("http", "https"):
        return _from_server(f"{mirror.rstrip('/')}/{file.name}", file, limits)
    if address.scheme == "file":
        return _read(Path(unquote(address.path)) / file.name, file)
    if address.scheme:
        raise _MirrorError(f"{mirror}: got {address.scheme}. Expected: a folder, file://, http:// or https://.")
    try:
        return _read(Path(mirror).expanduser() / file.name, file)
    except RuntimeError as error:  # of a home that nobody has
        raise _MirrorError(f"{mirror}: {error}") from None


def _most_bytes(file: RemoteFile) -> int:
    # gzip of bytes that do not compress adds 5 bytes per block of 16 KiB or more, and a header with a name.
    return file.payload_size + file.payload_size // 1000 + 65_536


def _read(path: Path, file: RemoteFile) -> bytes:
    if path.is_fifo() or path.is_socket() or path.is_char_device():  # to open one may wait for ever
        raise DataError(f"{path}: got no regular file. Expected: {file.name}.")
    with path.open("rb") as opened:
        return opened.read(_most_bytes(file))


def _from_server(url: str, file: RemoteFile, limits: Limits) -> bytes:
    deadline = time.monotonic() + limits.total
    tries = 1
    while True:
        try:
            return _received(_Transfer(url, _most_bytes(file), limits), file.name, deadline)
        except _PassingError as fault:
            if tries == limits.tries:
                raise
            # Jitter: many machines that were turned away together do not come back together.
            jitter = random.uniform(0.25, 0.5)  # noqa: S311 (no secret)
            limits.sleep(min(fault.after or 2**tries * jitter, limits.wait))
            tries += 1


def _received(transfer: "_Transfer", name: str, deadline: float) -> bytes:
    from tqdm import tqdm

    limits = transfer.limits
    transfer.start()
    window_start, window_bytes = time.monotonic(), 0
    off = not terminal.shows_progress(sys.__stderr__)
    with tqdm(desc=name, unit="B", unit_scale=True, leave=False, disable=off, file=sys.__stderr__) as bar:
        try:
            while True:
                transfer.join(0.1)
                bar.total = transfer.size
                bar.update(len(transfer.body) - bar.n)
                if not transfer.is_alive():
                    break
                now = time.monotonic()
                if now > deadline:
                    raise _MirrorError(f"{transfer.url}: not complete after {limits.total:g} s.")
                if now - window_start >= limits.window:
                    if len(transfer.body) - window_bytes < limits.speed * limits.window:
                        raise _MirrorError(
                            f"{transfer.url}: given up, less than {limits.speed:g} bytes per second over "
                            f"{limits.window:g} s ({len(transfer.body)} bytes in all)."
                        )
                    window_start, window_bytes = now, len(transfer.body)
        finally:
            transfer.abandoned = True
    if transfer.error:
        raise transfer.error
    return bytes(transfer.body)


class _Transfer(threading.Thread):
    """One request, in a thread that its starter can leave behind.

    A socket's timeout bounds one silence only: neither a slow name server nor a header that comes byte by
    byte would ever end in the main thread.
    """

    def __init__(self, url: str, most_bytes: int, limits: Limits) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.most_bytes = most_bytes
        self.limits = limits
        self.body = bytearray()
        self.size: int | None = None
        self.error: Exception | None = None
        self.abandoned = False

    def run(self) -> None:
        try:
            with requests.Session() as session, self._open(session) as response:
                self._take(response)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            self.error = self._fault(error)
        except Exception as error:  # The starter raises it.
            self.error = error

    def _open(self, session: requests.Session) -> requests.Response:
        url = self.url
        for _ in range(_REDIRECTS + 1):
            response = session.get(
                url,
                stream=True,
                allow_redirects=False,
                timeout=(self.limits.connect, self.limits.read),
                headers={"Accept-Encoding": "identity"},
            )
            if not response.is_redirect:
                return response
            response.close()
            target = urljoin(url, response.headers["Location"])
            if urlsplit(target).scheme not in ("https", urlsplit(url).scheme):
                raise _MirrorError(f"{self.url}: redirects to {target!r}, which is neither https nor as safe.")
            if _is_private(target) and not _is_private(self.url):
                raise _MirrorError(
                    f"{self.url}: redirects to {target!r}, which is in a private network, as the mirror is not."
                )
            url = target
        raise _MirrorError(f"{self.url}: more than {_REDIRECTS} redirects.")

    def _take(self, response: requests.Response) -> None:
        status = response.status_code
        if status != 200:
            reason = f"{self.url}: HTTP {status} {http.client.responses.get(status, '')}.".replace(" .", ".")
            if status == 429 or status >= 500:
                seconds = response.headers.get("Retry-After", "")
                raise _PassingError(reason, float(seconds) if seconds.isdecimal() else 0)
            raise _MirrorError(reason)
        self.size = response.raw.length_remaining
        # read1: what has arrived, where read would wait for a whole block from a mirror that drips.
        while not self.abandoned and (block := response.raw.read1(65_536, decode_content=False)):
            self.body += block
            if len(self.body) > self.most_bytes:
                raise _MirrorError(f"{self.url}: sends more than the {self.most_bytes} bytes it may have.")
        if "gzip" in response.headers.get("Content-Encoding", "").lower():
            self.body = _without_second_gzip(self.body, self.most_bytes)

    def _fault(self, error: Exception) -> _MirrorError:
        cause: BaseException = error
        while cause.__cause__ or cause.__context__:
            cause = cause.__cause__ or cause.__context__ or cause
        if isinstance(error, requests.ConnectTimeout):
            return _MirrorError(f"{self.url}: no connection within {self.limits.connect:g} s.")
        if isinstance(cause, TimeoutError):
            return _MirrorError(f"{self.url}: silent for {self.limits.read:g} s.")
        at = " at the proxy" if isinstance(error, requests.exceptions.ProxyError) else ""
        reason = f"{self.url}: {type(cause).__name__}{at}: {cause}."
        broken = ConnectionResetError | ConnectionAbortedError | BrokenPipeError | http.client.IncompleteRead
        return _PassingError(reason) if isinstance(cause, broken) else _MirrorError(reason)


def _is_private(url: str) -> bool:
    """Whether its host has an address that the internet does not see. A name that nobody here knows has none."""
    try:
        found = socket.getaddrinfo(urlsplit(url).hostname, None)
    except OSError:
        return False
    addresses = [ipaddress.ip_address(address[0]) for *_, address in found]
    return any(not (getattr(one, "ipv4_mapped", None) or one).is_global for one in addresses)


def _without_second_gzip(body: bytearray, most_bytes: int) -> bytearray:
    # "Content-Encoding: gzip" is said by proxies that compress the .gz again, and by servers that only mean
    # that the file itself is gzip. Only the first is undone.
    try:
        inner = zlib.decompressobj(wbits=31).decompress(body, most_bytes)
    except zlib.error:
        return body
    return bytearray(inner) if inner.startswith(b"\x1f\x8b") else body

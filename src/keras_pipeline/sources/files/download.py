"""From mirrors to verified bytes on disk.

No byte is kept under a file's name before its digest is right. Every wait has an end: a mirror that is slow,
silent, endless or lying costs some seconds, then the next one is asked.
"""

import hashlib
import http.client
import ipaddress
import os
import random
import shutil
import socket
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urljoin, urlsplit

import requests
import urllib3

from keras_pipeline.core import files, terminal
from keras_pipeline.core.errors import DataError, DownloadError, masked
from keras_pipeline.sources.files import formats
from keras_pipeline.sources.kinds.kind import Download, RemoteFile

LARGEST_UNSIZED = 2**26
"""Bytes of a file of which nobody has told how large it is."""
_REDIRECTS = 5
_BLOCK = 2**20


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


class _DiskError(Exception):
    """What this machine's disk raised, which no other mirror mends."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def download_files(
    download: Download, folder: Path, mirrors: Sequence[str] = (), limits: Limits = Limits()
) -> dict[str, bytes]:
    """Have the verified files of a dataset in `folder`; gives what is in those whose content is known, by name.

    A file in `folder` with the right digest is used as it is, without a request; a damaged one is said and
    replaced. `mirrors` (folders, file://, http:// or https:// bases) are asked first, then the dataset's own.
    One process at a time may use a folder: the caller holds a lock. Raises DownloadError with each mirror's
    reason when none gives a file, OSError when `folder` cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    order = list(dict.fromkeys([*mirrors, *download.mirrors]))
    contents = {}
    for file in download.files:
        content = _kept(file, folder / file.name)
        if content is None:
            content = _fetched(file, folder / file.name, order, limits)
        if file.content_bytes:
            contents[file.name] = content
    return contents


def _kept(file: RemoteFile, path: Path) -> bytes | None:
    try:
        with _opened(path, file) as opened:
            return _verified(file, opened, str(path))
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
            content, size = _from_mirror(mirror, file, path, limits)
        except _MirrorError as error:
            reasons.append(masked(str(error)))
            order.remove(mirror)  # The files still to come are asked of the other mirrors first.
            order.append(mirror)
            continue
        for reason in reasons:
            print(reason)
        print(f"{file.name}: {size:,} bytes from {masked(mirror)}, verified.")
        return content
    raise DownloadError(
        f"{path}: no mirror gave this file.\n"
        + "".join(f"  {reason}\n" for reason in reasons)
        + "Expected: a mirror that answers with the file. Two ways out: name a folder or a mirror that has "
        "it, KERAS_PIPELINE_MIRRORS=/path/to/folder (or file://, http://, https://; several with commas), or "
        "take images that need no download: `dvc exp run -S fetch.dataset=digits`, or so in params.yaml."
    )


def _from_mirror(mirror: str, file: RemoteFile, path: Path, limits: Limits) -> tuple[bytes, int]:
    """The file, verified before it has its name: its content, if that is known, and its size."""
    with files.writing_atomically(path, _most_bytes(file)) as out:
        try:
            _receive(mirror, file, out, limits)
            with _disk_faults():
                out.flush()
            with _read_back(out) as written:
                return _verified(file, written, f"{mirror.rstrip('/')}/{file.name}"), written.seek(0, os.SEEK_END)
        except _DiskError as fault:
            raise fault.error from None
        except (OSError, ValueError) as error:
            named = isinstance(error, OSError | DataError)
            raise _MirrorError(str(error) if named else f"{mirror}: {error}") from None


def _read_back(out: BinaryIO) -> BinaryIO:
    """What was written to a file, from its start on."""
    written = os.fdopen(os.dup(out.fileno()), "rb")
    written.seek(0)
    return written


@contextmanager
def _disk_faults() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _DiskError(error) from None


def _verified(file: RemoteFile, opened: BinaryIO, name: str) -> bytes:
    """What is in the file, where that is known, else nothing. Raises DataError where it is another file."""
    most, content = _most_bytes(file), b""
    if file.content_bytes:
        packed = opened.read(most)
        content = formats.decompress(packed, name, file.content_bytes)
        blocks: Iterable[bytes] = [packed]
    else:
        blocks = iter(lambda: opened.read(_BLOCK), b"")
    found = {"md5": hashlib.md5(usedforsecurity=False), "sha256": hashlib.sha256()}
    asked = {key: value for key in ("md5", "sha256") if (value := getattr(file, key))}
    size, start = 0, b""
    for block in blocks:
        start = start or block[:512]
        size += len(block)
        if size > most:
            break
        for key in asked:
            found[key].update(block)
    if file.bytes not in (None, size):
        received = formats.looks_like(start, size) if size < most else f"more than {most:,} bytes"
        raise DataError(f"{name}: got {received}. Expected: {file.bytes:,} bytes. Use another source.")
    digests = {key: found[key].hexdigest() for key in asked}
    if file.content_sha256:
        asked["content_sha256"] = file.content_sha256
        digests["content_sha256"] = hashlib.sha256(content).hexdigest()
    for key, expected in asked.items():
        if digests[key] != expected:
            raise DataError(
                f"{name}: got {size} bytes with the {key} {digests[key]}. Expected: {expected}. "
                "It is another dataset's file or a damaged one: use another source."
            )
    return content


def _receive(mirror: str, file: RemoteFile, out: BinaryIO, limits: Limits) -> None:
    address = urlsplit(mirror)
    if address.scheme in ("http", "https"):
        _from_server(f"{mirror.rstrip('/')}/{file.name}", file, out, limits)
        return
    if address.scheme == "file":
        path = Path(unquote(address.path)) / file.name
    elif address.scheme:
        raise _MirrorError(f"{mirror}: got {address.scheme}. Expected: a folder, file://, http:// or https://.")
    else:
        try:
            path = Path(mirror).expanduser() / file.name
        except RuntimeError as error:  # of a home that nobody has
            raise _MirrorError(f"{mirror}: {error}") from None
    left = _most_bytes(file)
    with _opened(path, file) as opened:
        while left and (block := opened.read(min(left, _BLOCK))):
            left -= len(block)
            with _disk_faults():
                out.write(block)


def _most_bytes(file: RemoteFile) -> int:
    # gzip of bytes that do not compress adds 5 bytes per block of 16 KiB or more, and a header with a name.
    content = file.content_bytes or LARGEST_UNSIZED
    return file.bytes + 1 if file.bytes else content + content // 1000 + 65_536


def _opened(path: Path, file: RemoteFile) -> BinaryIO:
    if path.is_fifo() or path.is_socket() or path.is_char_device():  # to open one may wait for ever
        raise DataError(f"{path}: got no regular file. Expected: {file.name}.")
    return path.open("rb")


def _from_server(url: str, file: RemoteFile, out: BinaryIO, limits: Limits) -> None:
    deadline = time.monotonic() + limits.total
    tries = 1
    while True:
        try:
            _follow(_Transfer(url, _most_bytes(file), out, limits), file.name, deadline)
            return
        except _PassingError as fault:
            if tries == limits.tries:
                raise
            # Jitter: many machines that were turned away together do not come back together.
            jitter = random.uniform(0.25, 0.5)  # noqa: S311 (no secret)
            limits.sleep(min(fault.after or 2**tries * jitter, limits.wait))
            tries += 1


def _follow(transfer: "_Transfer", name: str, deadline: float) -> None:
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
                bar.update(transfer.taken - bar.n)
                if not transfer.is_alive():
                    break
                now = time.monotonic()
                if now > deadline:
                    raise _MirrorError(f"{transfer.url}: not complete after {limits.total:g} s.")
                if now - window_start >= limits.window:
                    if transfer.taken - window_bytes < limits.speed * limits.window:
                        raise _MirrorError(
                            f"{transfer.url}: given up, less than {limits.speed:g} bytes per second over "
                            f"{limits.window:g} s ({transfer.taken} bytes in all)."
                        )
                    window_start, window_bytes = now, transfer.taken
        finally:
            transfer.abandoned = True
    if transfer.error:
        raise transfer.error


class _Transfer(threading.Thread):
    """One request, in a thread that its starter can leave behind.

    A socket's timeout bounds one silence only: neither a slow name server nor a header that comes byte by
    byte would ever end in the main thread.
    """

    def __init__(self, url: str, most_bytes: int, out: BinaryIO, limits: Limits) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.most_bytes = most_bytes
        self.limits = limits
        self.out = out
        self.taken = 0
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
        with _disk_faults():
            self.out.seek(0)
            self.out.truncate()
        while not self.abandoned and (block := response.raw.read1(65_536, decode_content=False)):
            self.taken += len(block)
            if self.taken > self.most_bytes:
                raise _MirrorError(f"{self.url}: sends more than the {self.most_bytes} bytes it may have.")
            with _disk_faults():
                self.out.write(block)
        if "gzip" in response.headers.get("Content-Encoding", "").lower() and not self.abandoned:
            with _disk_faults():
                _undo_second_gzip(self.out, self.most_bytes, packed=self.url.endswith((".gz", ".tgz")))

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


def _undo_second_gzip(out: BinaryIO, most_bytes: int, *, packed: bool) -> None:
    # "Content-Encoding: gzip" is said by proxies that compress the file, a .gz again, and by servers that only mean
    # that the file itself is gzip. Only the first is undone.
    out.flush()
    with tempfile.TemporaryFile() as copy:
        with _read_back(out) as written:
            shutil.copyfileobj(written, copy)
        copy.seek(0)
        inflater = zlib.decompressobj(wbits=31)
        try:
            inner = inflater.decompress(copy.read(_BLOCK), _BLOCK)
            if packed and not inner.startswith(b"\x1f\x8b"):
                return
            out.seek(0)
            out.truncate()
            while inner and out.tell() <= most_bytes:
                out.write(inner)
                inner = inflater.decompress(inflater.unconsumed_tail or copy.read(_BLOCK), _BLOCK)
        except zlib.error:
            if out.tell():
                raise

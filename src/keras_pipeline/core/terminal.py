"""What people read: the two outputs of this process show every text as text, and one that is gone stops nothing. Bars
and colours are for a person at a terminal."""

import codecs
import io
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from keras_pipeline.core.errors import masked

UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufdd0-\ufdef\ufeff\ufffe\uffff\ud800-\udfff]"
)
"""What cannot be seen, or changes how its neighbours look: control characters, escapes, and marks of direction."""
PLAIN = {"×": "x", "…": "...", "−": "-", "–": "-", "±": "+-", "→": "->", "²": "2", "·": "-"}
"""Our own characters, for an output that cannot take them."""


def shown(text: str) -> str:
    r"""`text` with each character that cannot be seen written out, as \x1b or \u202e: no terminal obeys it then."""
    return UNSEEN.sub(_written_out, text)


_MARKS = {"\ufdd0": "\x1b[32m", "\ufdd1": "\x1b[31m", "\ufdd2": "\x1b[0m"}
"""What stands for a colour until it is written: no character, and no escape that `shown` would write out."""
MARK = re.compile("([\ufdd0-\ufdd2])")
_quiet = False
REFRESH_SECONDS = 0.1
"""How often what stands behind a bar is written anew."""


def better(text: str) -> str:
    """`text` in green, where colours are shown."""
    return f"\ufdd0{text}\ufdd2" if _shows_colours(sys.stdout) else text


def worse(text: str) -> str:
    """`text` in red, where colours are shown."""
    return f"\ufdd1{text}\ufdd2" if _shows_colours(sys.stdout) else text


def _shows_colours(stream: Any) -> bool:
    return _is_terminal(stream) and not os.environ.get("NO_COLOR")


def _is_terminal(stream: Any) -> bool:
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def shows_progress(stream: Any) -> bool:
    """Whether a bar may be drawn: a person looks at the stream, and has not asked for quiet."""
    return _is_terminal(stream) and not _quiet


@contextmanager
def quiet(*, result: bool) -> Iterator[None]:
    """Within, nothing is printed and no bar drawn; the last line is printed at the end where it is the `result`.
    Warnings and errors go to standard error, as always."""
    global _quiet
    before, said, _quiet = sys.stdout, io.StringIO(), True
    sys.stdout = said
    try:
        yield
    finally:
        sys.stdout, _quiet = before, False
    if result and (lines := said.getvalue().splitlines()):
        print(lines[-1])


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(PLAIN.get(one, one.encode("ascii", "backslashreplace").decode()) for one in letters), error.end


class Progress:
    """A bar for `total` steps of which `done` are done, with the time left; without a terminal there is none."""

    def __init__(self, title: str, total: int, unit: str, done: int = 0) -> None:
        self.bar: Any = None
        self.refreshed = 0.0
        if shows_progress(sys.stdout):
            from tqdm import tqdm

            self.bar = tqdm(
                desc=shown(title), total=total, initial=done, unit=unit, leave=False, dynamic_ncols=True,
                file=sys.__stdout__,
            )  # fmt: skip

    def advance(self, done: int, title: str = "", **values: str) -> None:
        """So many steps are done; `values` stand behind the bar."""
        if self.bar is None:
            return
        now = time.monotonic()
        if now - self.refreshed > REFRESH_SECONDS:
            self.refreshed = now
            if title:
                self.bar.set_description(shown(title), refresh=False)
            self.bar.set_postfix({name: shown(value) for name, value in values.items()}, refresh=False)
        self.bar.update(done - self.bar.n)

    def refresh(self) -> None:
        """Let the time go on where nothing else does."""
        if self.bar is not None and time.monotonic() - self.refreshed > 1:
            self.refreshed = time.monotonic()
            self.bar.refresh()

    def print(self, text: str) -> None:
        """A line above the bar."""
        if self.bar is None:
            print(text, flush=True)
        else:
            with self.bar.external_write_mode(file=sys.__stdout__):
                print(text, flush=True)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


@contextmanager
def withheld_errors() -> Iterator[None]:
    """Within, what goes to descriptor 2, as from the C++ parts of a library, is shown only where the block fails."""
    sys.stderr.flush()
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as withheld:
        os.dup2(withheld.fileno(), 2)
        try:
            yield
        except BaseException:
            withheld.seek(0)
            os.write(standard_error, withheld.read())
            raise
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)


def open_descriptors() -> None:
    """Let descriptors 0, 1 and 2 be open, on nothing where they were closed: no file of ours may become one of them."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


@contextmanager
def open_output() -> Iterator[list[OSError]]:
    """Within, what is printed is `shown`, in any encoding, and `masked` if for standard error.

    An output that nobody reads, or that is full, takes everything in silence from then on. Gives the list of the
    faults of standard output.
    """
    faults: list[OSError] = []
    before = sys.stdout, sys.stderr
    codecs.register_error("keras-pipeline", _plain)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:  # Python has None for what is closed
        output, messages = (stream or nowhere for stream in before)
        for stream in (output, messages):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="keras-pipeline")
        sys.stdout, sys.stderr = cast(TextIO, _Output(output, faults)), cast(TextIO, _Messages(messages, []))
        try:
            yield faults
        finally:
            sys.stdout, sys.stderr = before


class _Output:
    """A stream that is given what is `shown`; its faults go to a list. All else is as in the stream."""

    def __init__(self, stream: TextIO, faults: list[OSError]) -> None:
        self.stream, self.faults = stream, faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with self._lasting():
            if _shows_colours(self.stream):
                self.stream.write("".join(_MARKS.get(part) or shown(part) for part in re.split(MARK, text)))
            else:
                self.stream.write(shown(text))
        return len(text)

    def flush(self) -> None:
        with self._lasting():
            self.stream.flush()

    @contextmanager
    def _lasting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.faults.append(error)
            with suppress(OSError):  # else Python would try again at its end, and complain
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, self.stream.fileno())
                os.close(nothing)


class _Messages(_Output):
    """As `_Output`, `masked` too."""

    def write(self, text: str) -> int:
        return super().write(masked(text))

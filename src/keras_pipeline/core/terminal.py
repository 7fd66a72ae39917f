"""What people read: the two outputs of this process show every text as text, and one that is gone stops nothing."""

import codecs
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from keras_pipeline.core.errors import masked

UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)
"""What cannot be seen, or changes how its neighbours look: control characters, escapes, and marks of direction."""
PLAIN = {"×": "x", "…": "...", "−": "-", "–": "-", "±": "+-", "→": "->", "²": "2"}
"""Our own characters, for an output that cannot take them."""


def shown(text: str) -> str:
    r"""`text` with each character that cannot be seen written out, as \x1b or \u202e: no terminal obeys it then."""
    return UNSEEN.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(PLAIN.get(one, one.encode("ascii", "backslashreplace").decode()) for one in letters), error.end


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

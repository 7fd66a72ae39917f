"""What can go wrong for a user, one class a kind, each with the exit code it ends in.

Every message says three things: what was received, what was expected, how to mend it. A stage lets
these pass; `main.main` prints them without a traceback and exits with `exit_code`. Anything else
that escapes is our bug: exit code 70 and a traceback in a file.
"""

import os
import re
import tempfile
import traceback
from urllib.parse import quote, unquote

from keras_pipeline.core.temporary import lasting_folder

SECRET_NAME = re.compile(r"(PASSWORD|PASSWD|TOKEN|SECRET|API_KEY|ACCESS_KEY|PRIVATE_KEY)$")
"""Variables of the environment that hold a secret; others may hold an address with one."""
REMOTE = r"(?<=\w)(?<!sqlite)(?<!file)://"
"""In an address that may have a password; what names a file has none, and may have any of its signs."""
SHORTEST_SECRET = 4
"""A shorter one would be found in the midst of every message."""

SECRET = re.compile(
    r"\b(A[KS]IA[0-9A-Z]{16}|gh[oprsu]_[0-9A-Za-z]{30,}|github_pat_\w{20,}|glpat-[\w-]{20,}|xox[a-z]-[\w-]{10,}"
    r"|sk-(?=[\w-]*\d)(?=[\w-]*[A-Z])[\w-]{20,}|[rs]k_live_\w{16,}|hf_[0-9A-Za-z]{30,}|AIza[\w-]{30,}"
    r"|npm_[0-9A-Za-z]{30,}|pypi-[\w-]{30,}|eyJ[\w-]{8,}\.[\w-]{4,}[\w.-]*)"
    r"|-----BEGIN [A-Z ]*KEY-----[^-]*(-----END [A-Z ]*KEY-----)?"
    r"|(?i:(?<![a-z])(passw(or)?d|pwd|secret|token|api[_-]?key|access[_-]?key)=[^\s&'\",;]{6,})"
)
"""Keys and tokens that are known by their form, of Amazon, GitHub, GitLab, Slack, OpenAI, Stripe, Hugging Face, Google,
npm and PyPI; JSON web tokens, private keys; and what is called a password or a token where it stands."""


def masked(text: str) -> str:
    """`text` without the passwords and tokens of addresses, of this process's environment, and known by their form."""
    text = SECRET.sub("***", text)
    text = re.sub(rf"{REMOTE}\S*@", "://***@", text)
    text = re.sub(rf"({REMOTE}[^\s?]*\?)[^\s'\"]+", r"\1***", text)
    for secret in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _secrets() -> set[str]:
    """The secrets of the environment, as they may stand in a message."""
    found: set[str] = set()
    for name, value in os.environ.items():
        if SECRET_NAME.search(name):
            found |= {value, quote(value, safe="")}
        for who in re.findall(rf"{REMOTE}(\S*)@", value):
            name, _, password = who.partition(":")
            if password in ("", "x-oauth-basic"):
                password = name
            for form in (password, unquote(password)):
                # Where it should have been quoted, a library takes its parts for a host, a port, a path.
                parts = re.split(r"[@:/?#%]", form)
                found |= {form, *parts, *(f"{part}@" for part in parts if len(part) > 1)}
    return {one for one in found if len(one) >= SHORTEST_SECRET or one.endswith("@")} - {"@"}


def keep_traceback(error: BaseException) -> str:
    """The file that now tells where `error` was raised, for whoever mends it, without passwords; why there is none, and
    the place itself, where none can be written."""
    try:
        descriptor, path = tempfile.mkstemp(".txt", "keras-pipeline-", lasting_folder())
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(masked("".join(traceback.format_exception(error))))
        return path
    except OSError as fault:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"no file ({fault.strerror}); it ends in {last.filename}, line {last.lineno}: {error}"


class PipelineError(ValueError):
    """A fault whose message is meant for the user; never raised itself, only its kinds are."""

    exit_code = 70


class ParamsError(PipelineError):
    """params.yaml or the command line cannot be used as written."""

    exit_code = 2


class DataError(PipelineError):
    """A data file is not what its format, its digest or its manifest says."""

    exit_code = 3


class DownloadError(PipelineError):
    """No mirror gave the files."""

    exit_code = 4


class DivergedError(PipelineError):
    """The loss or a weight is no longer a finite number."""

    exit_code = 5


class MachineError(PipelineError):
    """The machine lacks something: disk, permission, memory, a device, a program."""

    exit_code = 6


class ModelFileError(PipelineError):
    """A model file is damaged, or not the one that this pipeline wrote."""

    exit_code = 7


class StoppedError(PipelineError):
    """The training was asked to end, and kept a checkpoint: the same command goes on from there."""

    exit_code = 75


class BusyError(PipelineError):
    """Another process is at work on the same files; the same command succeeds later."""

    exit_code = 75

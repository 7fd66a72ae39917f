"""What can go wrong for a user, one class a kind, each with the exit code it ends in.

Every message says three things: what was received, what was expected, how to mend it. A stage lets
these pass; `main.main` prints them without a traceback and exits with `exit_code`. Anything else
that escapes is our bug: exit code 70 and a traceback in a file.
"""

import re


def masked(text: str) -> str:
    """`text` without the passwords and tokens that its addresses may hold."""
    text = re.sub(r"(\w://)\S*@", r"\1***@", text)
    return re.sub(r"(\w://[^\s?]*\?)[^\s'\"]+", r"\1***", text)


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

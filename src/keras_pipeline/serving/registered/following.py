"""A model of the registry, followed: the process that looks, and the networks that change by what it says.

A version that cannot be had, or an alias that is gone, changes nothing: the network before answers on, and it is said.
"""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from keras_pipeline.core import process
from keras_pipeline.core.errors import DataError, MachineError, ModelFileError, ParamsError, PipelineError
from keras_pipeline.serving.network import Models, Network, load_network
from keras_pipeline.serving.registered.champion import ADDRESS

FIRST_SECONDS = 120
AGAIN_SECONDS = 5.0
KINDS: dict[int, type[PipelineError]] = {
    one.exit_code: one for one in (ParamsError, DataError, MachineError, ModelFileError)
}


class Following:
    """`models` follow the registry as long as this is not closed."""

    def __init__(self, address: str, cache: Path) -> None:
        """Raises the fault, where the first version cannot be had."""
        if not ADDRESS.fullmatch(address):
            raise ParamsError(
                f"'{address}' is no address of a version. Expected: models:/NAME@champion, models:/NAME@candidate or "
                "models:/NAME/NUMBER."
            )
        self._command = process.python("-m", "keras_pipeline.serving.registered.champion", address, str(cache))
        self._address, self._closed = address, False
        self._process = self._start()
        timer = threading.Timer(FIRST_SECONDS, self._process.kill)
        timer.start()
        line = self._output.readline()
        timer.cancel()
        told: dict[str, Any] = (
            json.loads(line) if line else {"problem": f"{address}: MLflow gave no answer.", "code": 6}
        )
        if "problem" in told:
            self.close()
            raise KINDS.get(told["code"], MachineError)(told["problem"])
        self.models = Models(_network(told))
        self._thread = threading.Thread(target=self._follow, daemon=True, name="the registry")
        self._thread.start()

    def close(self) -> None:
        """Follow no more."""
        self._closed = True
        if self._process.stdin:
            self._process.stdin.close()

    def _start(self) -> "subprocess.Popen[str]":
        started = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", start_new_session=True
        )
        self._output: IO[str] = started.stdout  # type: ignore[assignment]
        return started

    def _follow(self) -> None:
        while not self._closed:
            for line in self._output:
                self._change(json.loads(line))
            self._process.wait()
            if self._closed or "@" not in self._address:
                return
            self._problem("the process that looks into the registry has ended; it is started again")
            time.sleep(AGAIN_SECONDS)
            self._process = self._start()

    def _change(self, told: dict[str, Any]) -> None:
        candidate = told["role"] == "candidate"
        if told.get("gone"):
            self.models.candidate = None
            _say("there is no candidate any more")
        elif "problem" in told and candidate:
            self.models.candidate = None
            _say(f"the candidate cannot be had: {told['problem']}")
        elif "problem" in told:
            self._problem(told["problem"])
        else:
            try:
                network = _network(told)
            except PipelineError as fault:
                if candidate:
                    _say(f"the candidate cannot be had: {fault}")
                else:
                    self._problem(str(fault))
                return
            if candidate:
                self.models.candidate = network
            else:
                self.models.champion, self.models.problem = network, None
            _say(f"{told['role']} is version {network.version} now, run {network.manifest['run']}")

    def _problem(self, words: str) -> None:
        self.models.problem = words
        _say(f"version {self.models.champion.version} answers on: {words}")


def _network(told: dict[str, Any]) -> Network:
    return load_network(Path(told["folder"]), told["name"], told["version"])


def _say(words: str) -> None:
    print(f"serve: {words}", file=sys.stderr, flush=True)

"""The images are made of what the project pins, run as nobody in particular, and see no data; a linter agrees.

Their steps are run, without an engine for containers, in tests/proofs/test_containers.py.
"""

import shutil
import subprocess

import pytest

import dockerfiles
from dockerfiles import Step
from keras_pipeline.cli import main
from places import ROOT

SERVICE, TRAINING = ROOT / "Dockerfile", ROOT / "Dockerfile.training"
BOTH = pytest.mark.parametrize("path", [SERVICE, TRAINING], ids=lambda path: path.name)


def last_stage(steps: list[Step]) -> list[Step]:
    return [step for step in steps if step.stage == steps[-1].stage]


@BOTH
def test_the_linter_finds_nothing(path: dockerfiles.Path) -> None:
    linter = shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed: make setup")
    done = subprocess.run([linter, "--no-color", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@BOTH
def test_nobody_is_root_and_every_package_has_its_digest(path: dockerfiles.Path) -> None:
    steps = dockerfiles.read_steps(path)
    [user] = [step.rest for step in last_stage(steps) if step.word == "USER"]
    assert all(int(number) > 0 for number in user.split(":"))
    installed = [
        part for step in steps if step.word == "RUN" for part in step.rest.split("&&") if "pip install" in part
    ]
    assert installed
    for part in installed:
        assert ("--require-hashes -r " in part) != ("--no-deps" in part)  # the second is this project itself
    assert not [step for step in steps if step.word == "ADD"]


@BOTH
def test_an_image_sees_what_it_copies_and_nothing_else_of_the_checkout(path: dockerfiles.Path) -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    seen = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        word
        for step in dockerfiles.read_steps(path)
        if step.word == "COPY" and "--from" not in step.rest
        for word in step.words[:-1]
    }
    assert copied <= seen
    assert all((ROOT / one).exists() for one in seen)
    assert "**/__pycache__" in lines


def test_the_service_is_started_as_its_command_line_has_it_and_asked_whether_it_is_well() -> None:
    steps = last_stage(dockerfiles.read_steps(SERVICE))
    by_word = {step.word: step for step in steps}
    words = [*by_word["ENTRYPOINT"].words, *by_word["CMD"].words]
    chosen = main.make_parser().parse_args(words[1:])
    assert (words[0], chosen.verb, chosen.model, chosen.host) == ("keras-pipeline", "serve", "/model", "0.0.0.0")
    assert by_word["EXPOSE"].rest == str(chosen.port)
    assert f"http://127.0.0.1:{chosen.port}/health" in by_word["HEALTHCHECK"].rest


def test_the_service_has_no_framework_in_it() -> None:
    lock = (ROOT / "requirements-serve.lock").read_text()
    names = {line.split("==")[0] for line in lock.splitlines() if "==" in line}
    assert {"onnxruntime", "uvicorn"} <= names
    assert not names & {"tensorflow", "keras", "torch", "jax", "mlflow", "dvc"}

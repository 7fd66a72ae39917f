"""The steps of the images, done without an engine for containers: in a folder, by a user who owns nothing."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import dockerfiles
import served_network
from places import ROOT

pytestmark = pytest.mark.proof
NOBODY = 10001
TOKEN = "a-token-of-the-proof"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Instead of /; gigabytes, which are not kept."""
    yield tmp_path / "root"
    shutil.rmtree(tmp_path)


def build(dockerfile: str, root: Path, stage: int) -> None:
    """Do the COPY and RUN steps of a stage below `root` instead of /; but for those that make a user of the image."""
    here = root / "build"
    here.mkdir(parents=True)
    subprocess.run([_python(root), "-m", "venv", root / "system"], check=True, timeout=300)
    environment = {
        **os.environ,
        "PATH": f"{root / 'system' / 'bin'}:/usr/bin:/bin",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    for step in dockerfiles.read_steps(ROOT / dockerfile):
        if step.stage != stage:
            continue
        if step.word == "COPY":
            *sources, target = step.words
            for source in sources:
                subprocess.run(["cp", "-r", ROOT / source, here / target], check=True)
        elif step.word == "RUN":
            command = step.rest.partition("&& useradd")[0]
            for folder in ("/venv", "/wheels"):
                command = command.replace(folder, f"{root}{folder}")
            subprocess.run(["sh", "-ec", command], cwd=here, env=environment, check=True, timeout=1800)


def _python(root: Path) -> Path:
    """This Python, without its environment; a copy below `root` where only its owner may run it."""
    own = Path(os.path.realpath(sys.executable))
    if all(folder.stat().st_mode & 1 for folder in own.parents):
        return own
    shutil.copytree(
        sys.base_prefix, root / "python", symlinks=True, ignore=shutil.ignore_patterns("site-packages", "test")
    )
    return root / "python" / own.relative_to(os.path.realpath(sys.base_prefix))


def test_the_service_is_built_and_answers_a_user_who_may_write_nothing(root: Path) -> None:
    """The steps of the service's image, done without an engine for containers, install its packages alone, without
    TensorFlow; a user who may write nothing serves a network from it, to who has the token."""
    build("Dockerfile", root, 0)
    served_network.write_network(root / "model")
    subprocess.run(["chmod", "-R", "a+rX", root], check=True)
    for folder in (root, *list(root.parents)[:3]):  # pytest's, which are for their owner alone
        folder.chmod(0o755)
    installed = subprocess.run([root / "venv/bin/python", "-m", "pip", "list"], capture_output=True, text=True)
    assert "onnxruntime" in installed.stdout
    assert "tensorflow" not in installed.stdout
    steps = {step.word: step for step in dockerfiles.read_steps(ROOT / "Dockerfile") if step.stage == 1}
    words = [str(root / "model") if word == "/model" else word for word in
             [*steps["ENTRYPOINT"].words, *steps["CMD"].words]]  # fmt: skip
    words[words.index("8000")] = "18734"
    environment = {
        "PATH": f"{root}/venv/bin:/usr/bin:/bin", "HOME": "/nowhere", "PYTHONDONTWRITEBYTECODE": "1",
        "KERAS_PIPELINE_SERVE_TOKEN": TOKEN, "LD_LIBRARY_PATH": str(root / "python" / "lib"),
    }  # fmt: skip
    who = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
    before = sorted(map(str, root.rglob("*")))
    service = subprocess.Popen(words, cwd="/", env=environment, stdout=subprocess.DEVNULL, **who)  # type: ignore[call-overload]
    try:
        deadline = time.monotonic() + 30
        check = [word.replace(":8000", ":18734") for word in
                 dockerfiles.Step(0, "CMD", steps["HEALTHCHECK"].rest.partition("CMD ")[2]).words]  # fmt: skip
        while subprocess.run(check, env=environment, capture_output=True).returncode:
            assert service.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        address = "http://127.0.0.1:18734/predict"
        headers = {"Content-Type": "application/octet-stream", "Authorization": f"Bearer {TOKEN}"}
        request = urllib.request.Request(address, bytes(784), headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert json.loads(answer.read())
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(urllib.request.Request(address, bytes(784), {**headers, "Authorization": "x"}))
    finally:
        service.terminate()
        assert service.wait(timeout=30) == 0
    assert sorted(map(str, root.rglob("*"))) == before


def test_the_image_for_training_is_built_and_runs_this_code(root: Path) -> None:
    """The steps of the image for training, done without an engine for containers, install all packages by their
    digests with pip, and run the code of the checkout."""
    build("Dockerfile.training", root, 0)
    program = root / "venv" / "bin" / "keras-pipeline"
    done = subprocess.run([program, "params", "check"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "params.yaml" in done.stdout
    code = "import keras_pipeline, tensorflow; print(keras_pipeline.__file__)"
    shown = subprocess.run([root / "venv/bin/python", "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == str(root / "build/src/keras_pipeline/__init__.py")

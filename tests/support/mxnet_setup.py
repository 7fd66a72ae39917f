"""`make mxnet` where it must fail."""

import shutil
import subprocess
from pathlib import Path

from places import ROOT


def make_mxnet(folder: Path, environ: dict[str, str]) -> str:
    for name in ("Makefile", "requirements-mxnet.lock"):
        shutil.copy(ROOT / name, folder)
    done = subprocess.run(
        ["make", "mxnet"], cwd=folder, env=environ, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 2
    assert "Error 6" in done.stderr
    assert not (folder / ".venv-mxnet").exists()
    return done.stderr

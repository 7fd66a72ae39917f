"""pip as the Makefile calls it, with a folder of packages instead of a network."""

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from places import ROOT

pytestmark = pytest.mark.slow
INFO = "asked-1.0.dist-info"


def wheel(folder: Path, code: str) -> str:
    """Write a package into the folder; its digest."""
    path = folder / "asked-1.0-py3-none-any.whl"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("asked.py", code)
        archive.writestr(f"{INFO}/METADATA", "Metadata-Version: 2.1\nName: asked\nVersion: 1.0\n")
        archive.writestr(f"{INFO}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{INFO}/RECORD", f"asked.py,,\n{INFO}/METADATA,,\n{INFO}/WHEEL,,\n{INFO}/RECORD,,\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_packages_of_a_folder_are_installed_without_a_network_and_by_digest_alone(tmp_path: Path) -> None:
    options = re.search(r"pip (install [^\n]*--require-hashes -r) requirements.lock\n", (ROOT / "Makefile").read_text())
    assert options
    lock, target = tmp_path / "a.lock", tmp_path / "installed"

    def install() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pip", *options[1].split(), str(lock), "--target", str(target)]
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels"), "HOME": str(tmp_path)}
        return subprocess.run(command, env=os.environ | offline, capture_output=True, text=True, check=False)

    lock.write_text(f"asked==1.0 --hash=sha256:{wheel(tmp_path / 'wheels', 'good = True')}\n")
    assert install().returncode == 0
    assert (target / "asked.py").read_text() == "good = True"

    (target / "asked.py").unlink()
    wheel(tmp_path / "wheels", "good = False")  # the same name and version, published anew
    done = install()
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (target / "asked.py").exists()

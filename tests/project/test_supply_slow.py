"""tools/install.py as the Makefile calls it, with folders and servers of packages instead of a network."""

import base64
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import fault_server
from places import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("uv") is None, reason="no uv: it could not be had by `make setup`"),
]
INFO = "asked-1.0.dist-info"
METADATA = "Metadata-Version: 2.1\nName: asked\nVersion: 1.0\n"
WHEEL = "asked-1.0-py3-none-any.whl"


def wheel(folder: Path, code: str) -> str:
    """Write a package into the folder; its digest."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr("asked.py", code)
        archive.writestr(f"{INFO}/METADATA", METADATA)
        archive.writestr(f"{INFO}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{INFO}/RECORD", f"asked.py,,\n{INFO}/METADATA,,\n{INFO}/WHEEL,,\n{INFO}/RECORD,,\n")
    return hashlib.sha256((folder / WHEEL).read_bytes()).hexdigest()


class Place:
    """An empty home, a folder of one package, its lock file, and a folder to install it into."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.target, self.program = folder, folder / "installed", ROOT / "tools" / "install.py"
        self.digest = wheel(folder / "wheels", "good = True")
        (folder / "a.lock").write_text(f"asked==1.0 --hash=sha256:{self.digest}\n")
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "SSL_"))}
        self.environ = own | {"HOME": str(folder), "PIP_CONFIG_FILE": str(folder / "pip.conf"), "no_proxy": "*"}
        self.offline()

    def offline(self) -> None:
        self.settings(f"no-index = true\nfind-links = {self.folder / 'wheels'}\n")

    def settings(self, text: str) -> None:
        (self.folder / "pip.conf").write_text(f"[global]\n{text}")

    def command(self) -> list[str]:
        return [
            *(sys.executable, str(self.program), "--require-hashes", "-r", str(self.folder / "a.lock")),
            *("--target", str(self.target)),
        ]

    def install(self, **environ: str) -> subprocess.CompletedProcess[str]:
        shutil.rmtree(self.target, ignore_errors=True)
        return subprocess.run(
            self.command(), env=self.environ | environ, capture_output=True, text=True, timeout=120, check=False
        )

    def installed_by(self) -> str:
        assert (self.target / "asked.py").read_text() == "good = True"
        return (self.target / INFO / "INSTALLER").read_text().strip()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_packages_of_a_folder_are_installed_without_a_network_and_by_digest_alone(place: Place) -> None:
    done = place.install()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert place.installed_by() == "uv"

    wheel(place.folder / "wheels", "good = False")  # the same name and version, published anew
    done = place.install()
    assert done.returncode != 0
    assert "Hash mismatch for `asked==1.0`" in done.stderr
    assert "pip does" not in done.stderr
    assert not (place.target / "asked.py").exists()


def test_without_uv_pip_installs_and_says_so(place: Place) -> None:
    other = place.folder / "tools"
    other.mkdir()
    place.program = Path(shutil.copy(place.program, other))
    (place.folder / "requirements-uv.lock").write_text(f"uv==0.0.0 --hash=sha256:{'0' * 64}\n")
    done = place.install()
    assert (done.returncode, done.stderr) == (
        0,
        "setup: uv cannot install here (ERROR: No matching distribution found for uv==0.0.0); pip does, which takes "
        "longer.\n",
    )
    assert place.installed_by() == "pip"


def test_an_index_whose_password_stands_in_netrc(place: Place) -> None:
    files = {
        "": f'<a href="/{WHEEL}#sha256={place.digest}" data-core-metadata="true">{WHEEL}</a>'.encode(),
        WHEEL: (place.folder / "wheels" / WHEEL).read_bytes(),
        f"{WHEEL}.metadata": METADATA.encode(),
    }

    def answer(handler: fault_server.Handler) -> None:
        known = handler.headers["Authorization"] == "Basic " + base64.b64encode(b"user:secret").decode()
        body = files[handler.path.rpartition("/")[2]] if known else b""
        headers = {"Content-Length": str(len(body)), "Content-Type": "text/html", "WWW-Authenticate": "Basic"}
        handler.start(200 if known else 401, headers)
        handler.wfile.write(body)

    with fault_server.FaultServer(dict.fromkeys(files, answer)) as server:
        (place.folder / ".netrc").write_text("machine 127.0.0.1 login user password secret\n")
        (place.folder / ".netrc").chmod(0o600)
        place.settings(f"index-url = {server.url}/simple/\n")
        done = place.install()
    assert (done.returncode, done.stderr) == (0, "")
    assert place.installed_by() == "uv"


def test_no_package_shares_its_bytes_with_a_cache(place: Place) -> None:
    assert place.install().returncode == 0
    assert (place.target / "asked.py").stat().st_nlink == 1
    assert not (Path(sys.prefix) / ".uv-cache").exists()
    for _ in range(2):
        assert place.install(UV_CACHE_DIR=str(place.folder / "kept")).returncode == 0
        assert place.installed_by() == "uv"
        (place.target / "asked.py").write_text("edited in place")


def test_one_process_at_a_time_installs(place: Place) -> None:
    with (Path(sys.prefix) / ".installing").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with subprocess.Popen(place.command(), env=place.environ, stdout=subprocess.PIPE, text=True) as second:
            assert second.stdout
            assert "another process installs packages" in second.stdout.readline()
            time.sleep(0.2)
            assert not place.target.exists()
            fcntl.flock(file, fcntl.LOCK_UN)
            assert second.wait(60) == 0
    assert place.installed_by() == "uv"

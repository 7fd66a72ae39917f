"""What tools/install.py gives uv of pip's settings."""

import importlib.util
import json
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from places import ROOT


@pytest.fixture(scope="module")
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", ROOT / "tools" / "install.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _no_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_the_strongest_place_of_a_setting_of_pip_counts(install: ModuleType) -> None:
    listed = (
        ":env:.default-timeout='180'\n:env:.index-url='https://env/simple'\nglobal.index-url='https://global/simple'\n"
        "install.find-links='\\n/a\\n/b'\nglobal.find-links='/c'\ndownload.cert='/d'\nnonsense\n"
    )
    assert install.pip_settings(listed) == {
        "timeout": "180", "index-url": "https://env/simple", "find-links": "\n/a\n/b",
    }  # fmt: skip


def test_settings_of_pip_become_uv_s(install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wheels ü").mkdir()
    (tmp_path / "wheels").mkdir()
    text, variables = install.uv_settings(
        {
            "index-url": 'https://user:se"cret@host/simple',
            "extra-index-url": "https://one/simple\nhttps://two/simple",
            "find-links": "wheels https://three/links",
            "trusted-host": "host:8080",
            "no-index": "Yes",
            "cert": "/ca.pem",
            "proxy": "http://proxy:3128",
            "timeout": "60",
            "quiet": "1",
        }
    )
    assert tomllib.loads(text) == {
        "index-strategy": "unsafe-best-match",
        "index-url": 'https://user:se"cret@host/simple',
        "extra-index-url": ["https://one/simple", "https://two/simple"],
        "find-links": [str(tmp_path / "wheels"), "https://three/links"],
        "allow-insecure-host": ["host:8080"],
        "no-index": True,
    }
    assert variables == {"SSL_CERT_FILE": "/ca.pem", "ALL_PROXY": "http://proxy:3128", "UV_HTTP_TIMEOUT": "60"}


def test_what_pip_is_not_told_uv_is_not_told(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert install.uv_settings({"no-index": "false", "find-links": ""}) == (
        f"index-strategy = {json.dumps('unsafe-best-match')}\n", {},
    )  # fmt: skip
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/bundle.pem")
    assert install.uv_settings({})[1] == {"SSL_CERT_FILE": "/bundle.pem"}
    monkeypatch.setenv("SSL_CERT_FILE", "/own.pem")
    assert install.uv_settings({})[1] == {}


def test_what_uv_says_holds_no_password(install: ModuleType) -> None:
    program = "import sys; sys.exit('error: https://user:secret@host/simple/ is not there')"
    assert install._run([sys.executable, "-c", program], {}) == (
        1,
        "error: https://***@host/simple/ is not there",
    )

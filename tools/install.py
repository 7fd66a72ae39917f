"""`pip install` into this Python's environment, done by uv where uv can: python tools/install.py ARGUMENTS.

uv takes a third of pip's time. It comes as a wheel that pip fetches and checks (requirements-uv.lock), and is given
pip's own settings, since it reads none of them. Where it cannot be had or fails, one line says so and pip installs; but
a package that is not the one of the lock file ends the installation.

uv links what it installs to the files of its cache, and who edits a package would edit all environments of the machine:
so its cache is a folder of this environment, gone at the end. Where UV_CACHE_DIR names one to keep, files are copied.
"""

import ast
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / "requirements-uv.lock"
PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
CACHE = Path(sys.prefix) / ".uv-cache"
OTHER_BYTES = re.compile(r"do not match the hashes|hash mismatch", re.IGNORECASE)
"""What pip, and what this version of uv, say of a package that is not the one of the lock file."""
TRUE = ("1", "true", "yes", "on", "y", "t")
LISTS = {"extra-index-url": "extra-index-url", "find-links": "find-links", "trusted-host": "allow-insecure-host"}
"""pip's settings with several values, and what uv calls them."""
VARIABLES = {
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "retries": "UV_HTTP_RETRIES",
    "keyring-provider": "UV_KEYRING_PROVIDER",
}
"""pip's settings that uv takes from its environment. The addresses of proxies there, and ~/.netrc, both read."""


def pip_settings(listed: str) -> dict[str, str]:
    """The settings of `pip install` out of the output of `pip config list`; of several places, the strongest."""
    found: dict[str, tuple[int, str]] = {}
    for line in listed.splitlines():
        if match := re.fullmatch(r"(global|install|:env:)\.(?:default-)?([a-z-]+)=(.*)", line):
            rank = ("global", "install", ":env:").index(match[1])
            if rank >= found.get(match[2], (0, ""))[0]:
                found[match[2]] = rank, str(ast.literal_eval(match[3]))
    return {name: value for name, (_, value) in found.items()}


def uv_settings(settings: dict[str, str]) -> tuple[str, dict[str, str]]:
    """pip's settings as uv's: a configuration file, whose addresses may hold passwords, and variables."""
    lines: dict[str, object] = {"index-strategy": "unsafe-best-match"}  # as pip does: the lock's digests decide
    if address := settings.get("index-url"):
        lines["index-url"] = address
    for name, own in LISTS.items():
        if values := settings.get(name, "").split():
            # uv reads a path as one beside its configuration file.
            lines[own] = [str(Path(one).resolve()) if Path(one).exists() else one for one in values]
    if settings.get("no-index", "").lower() in TRUE:
        lines["no-index"] = True
    variables = {own: settings[name] for name, own in VARIABLES.items() if settings.get(name)}
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # which pip follows, and uv does not
        if os.environ.get(name) and "SSL_CERT_FILE" not in os.environ:
            variables.setdefault("SSL_CERT_FILE", os.environ[name])
    return "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in lines.items()), variables


def install_by_uv(arguments: list[str]) -> tuple[int, str]:
    """The exit code, and what uv or, in getting it, pip said."""
    if not _has_uv():
        got = _run([*PIP, "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(LOCK)], {})
        if got[0]:
            return got
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, errors="replace", check=False
    )
    text, variables = uv_settings(pip_settings(listed.stdout))
    kept = os.environ.get("UV_CACHE_DIR")
    with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        done = _run(
            [
                *(sys.executable, "-m", "uv", "--config-file", file.name, "pip", "install", "--quiet"),
                *("--python", sys.executable, "--link-mode", "copy" if kept else "hardlink"),
                *("--cache-dir", kept or str(CACHE), *arguments),
            ],
            variables,
        )
    if not kept:
        shutil.rmtree(CACHE, ignore_errors=True)
    return done


def _has_uv() -> bool:
    try:
        return f"uv=={metadata.version('uv')} " in LOCK.read_text(encoding="utf-8")
    except metadata.PackageNotFoundError:
        return False


def _run(command: list[str], variables: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        command, env=os.environ | variables, stderr=subprocess.PIPE, text=True, errors="replace", check=False
    )
    return done.returncode, re.sub(r"//[^/@\s]*@", "//***@", done.stderr.strip())


def main(arguments: list[str]) -> int:
    """Install, one process at a time; the exit code."""
    with (Path(sys.prefix) / ".installing").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("setup: another process installs packages into this environment; waiting for it", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        if "-r" not in arguments and not _has_uv():  # for this project alone, uv is not fetched, nor missed again
            return subprocess.run([*PIP, *arguments], check=False).returncode
        code, said = install_by_uv(arguments)
        if not code:
            return 0
        if OTHER_BYTES.search(said):
            print(said, file=sys.stderr)
            return code
        reason = said.splitlines()[-1].strip().removeprefix("cause: ") if said else f"exit code {code}"
        print(f"setup: uv cannot install here ({reason}); pip does, which takes longer.", file=sys.stderr)
        return subprocess.run([*PIP, *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

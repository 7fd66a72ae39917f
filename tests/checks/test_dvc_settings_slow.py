"""DVC is asked for its own settings; and what another user plants in a folder open to everyone is not run."""

import contextlib
import os
import pickle
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from keras_pipeline.checks import dvc_settings
from keras_pipeline.checks.dvc_settings import ask_dvc, cache_folder, site_cache, site_cache_fault
from keras_pipeline.core.errors import MachineError
from places import ROOT
from real_workspace import IDENTITY

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A real DVC project with this one's settings and a file that DVC tracks; the current folder, and its own home."""
    for name in [name for name in os.environ if name.startswith(("DVC_", "GIT_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DVC_SYSTEM_CONFIG_DIR", str(tmp_path / "system"))
    folder = tmp_path / "project"
    for name in (".dvc/config", ".dvcignore", ".gitignore", ".dvc-site-cache/repo/.gitignore"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / ".dvc" / "config.local").write_text(f"[core]\n    site_cache_dir = {folder}/.dvc-site-cache\n")
    monkeypatch.chdir(folder)
    subprocess.run(["git", "init", "--quiet"], check=True)
    return folder


@pytest.fixture
def tracked(project: Path) -> Path:
    """The project with a file that DVC keeps."""
    (project / "data.txt").write_text("data")
    dvc("add", "--quiet", "data.txt")
    return project


def dvc(*arguments: str, folder: Path | None = None, umask: int = 0o022) -> str:
    command = [sys.executable, "-P", "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, umask=umask)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Payload:
    """What runs when it is unpickled: it makes a file, and nothing else."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.canary), "w")


def plant(site: Path, canary: Path) -> None:
    """Put the payload into every list of links below, as DVC's library keeps one."""
    databases = list(site.rglob("links/cache.db"))
    assert databases
    for path in databases:
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(
                "INSERT OR IGNORE INTO Cache (key, raw, store_time, access_time, mode, value) "
                "VALUES (?, 0, 0, 0, 1, 'x')",
                (sqlite3.Binary(pickle.dumps(Payload(canary))),),
            )


def test_a_pickle_planted_in_an_open_folder_runs_there_and_not_with_the_project_s_setting(
    tracked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary, everyone_s = tmp_path / "canary", tmp_path / "everyone's"
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(everyone_s))
    dvc("checkout")
    assert everyone_s.stat().st_mode & 0o777 == 0o777  # as DVC makes /var/tmp/dvc, its default
    assert "can be written by others, and DVC runs what it finds there" in str(site_cache_fault(tracked))
    plant(everyone_s, canary)
    subprocess.run([sys.executable, "-P", "-m", "dvc", "checkout"], capture_output=True, check=False)
    assert canary.exists()
    canary.unlink()
    monkeypatch.delenv("DVC_SITE_CACHE_DIR")
    plant(everyone_s, canary)
    dvc("checkout")
    (tracked / "sub").mkdir()
    dvc("checkout", "../data.txt.dvc", folder=tracked / "sub")
    assert not canary.exists()


def test_the_site_cache_is_in_the_project_and_closed(tracked: Path) -> None:
    project = tracked
    assert site_cache(project) == project / ".dvc-site-cache"
    assert (project / ".dvc-site-cache" / "repo").stat().st_mode & 0o022 == 0  # git made it, not DVC
    assert len(list((project / ".dvc-site-cache" / "repo").iterdir())) == 2
    assert site_cache_fault(project) is None
    status = subprocess.run(["git", "status", "--porcelain", "-uall"], capture_output=True, text=True, check=True)
    assert [line for line in status.stdout.splitlines() if "cache" in line] == ["?? .dvc-site-cache/repo/.gitignore"]
    (project / ".dvc-site-cache").chmod(0o700)
    dvc("checkout", umask=0)
    assert site_cache_fault(project) is None
    with contextlib.chdir(project):
        assert site_cache_fault(Path()) is None  # as doctor asks


def test_dvc_in_a_subfolder_leaves_its_own_which_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "sub" / "folder").mkdir(parents=True)
    dvc("status", folder=project / "sub" / "folder")
    assert site_cache_fault(project) is None
    (project / ".dvc" / "config.local").write_text("[core]\n    site_cache_dir = .dvc-site-cache\n")
    assert "from whatever folder it is called in: dvc config --local" in str(site_cache_fault(project))
    dvc("status", folder=project / "sub" / "folder")
    stray = project / "sub" / "folder" / ".dvc-site-cache"
    assert site_cache_fault(project) == (
        f"{stray} was made by DVC, called in that folder, for everyone to write into: rm -r {stray}"
    )
    done = subprocess.run(["git", "status", "--porcelain", "-uall"], capture_output=True, text=True, check=True)
    assert "sub/folder" not in done.stdout


def test_a_site_cache_that_others_can_write_is_told(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = project / ".dvc-site-cache"
    open_again = f"can be written by others, and DVC runs what it finds there: rm -rf {site}/repo/* && chmod 700 {site}"
    monkeypatch.setattr(dvc_settings, "ask_dvc", lambda *_: str(project / ".dvc-site-cache"))
    (site / "repo" / "cache.db").touch()
    for path in (site, site / "repo", site / "repo" / "cache.db"):
        mode = path.stat().st_mode
        path.chmod(0o777)
        assert str(site_cache_fault(project)).startswith(f"{path} {open_again}")
        path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(site / "repo", 12345, -1)
        assert "belongs to another user, and DVC runs what it finds there" in str(site_cache_fault(project))
        os.chown(site / "repo", 0, -1)
    site.rename(tmp_path / "elsewhere")
    site.symlink_to(tmp_path / "elsewhere")
    assert "is a link to elsewhere: git checkout HEAD -- " in str(site_cache_fault(project))
    site.unlink()
    assert f"is not there, and DVC would make it open to every user: mkdir -p -m 700 {site} {site}/repo" in str(
        site_cache_fault(project)
    )
    monkeypatch.setattr(dvc_settings, "ask_dvc", lambda *_: "")
    assert site_cache(project) == Path("/var/tmp/dvc")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "open"))
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert str(site_cache_fault(project)).endswith(f"dvc config --local core.site_cache_dir {project}/.dvc-site-cache")


def test_the_cache_is_where_any_of_dvc_s_settings_says(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_folder(project) == project / ".dvc" / "cache"
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "global"))
    for level, named in (
        ("system/config", tmp_path / "of the machine"),
        ("global/config", tmp_path / "of the team"),
        ("project/.dvc/config", "../../of the project"),
        ("project/.dvc/config.local", "../../local"),
    ):
        (tmp_path / Path(named).name).mkdir()
        (tmp_path / level).parent.mkdir(exist_ok=True)
        with (tmp_path / level).open("a") as settings:
            settings.write(f"[cache]\n    dir = {named}\n")
        assert cache_folder(project) == tmp_path / Path(named).name
    (project / "sub").mkdir()
    assert cache_folder(project / "sub") == tmp_path / "local"
    (tmp_path / "local").rename(tmp_path / "gone")
    with pytest.raises(MachineError, match=r"local: it is not there\. Is its disk mounted\?.*--show-origin"):
        cache_folder(project)
    (tmp_path / "local").write_text("a file")
    with pytest.raises(MachineError, match=r"local: Not a directory"):
        cache_folder(project)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_the_terminal_s_encoding_is_not_that_of_what_dvc_answers(
    project: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    cache = project / "größe"
    cache.mkdir()
    (project / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {cache}\n", encoding="utf-8")
    assert cache_folder(project) == cache


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("[core", r"DVC refuses: configuration error - config file error: .*at line 1"),
        ("<<<<<<< HEAD\n[core]\n", r"DVC refuses: .*Invalid line \('<<<<<<< HEAD'\)"),
        ("[cache]\n    dir = s3://me:open-sesame@bucket\n", r"DVC's cache s3://\*\*\*@bucket: it is not there"),
    ],
)
def test_dvc_s_refusal_is_passed_on_in_its_own_words(project: Path, settings: str, said: str) -> None:
    (project / ".dvc" / "config").write_text(settings)
    with pytest.raises(MachineError, match=said) as raised:
        cache_folder(project)
    assert "\n" not in str(raised.value)


def test_a_module_of_the_folder_stands_for_none_of_dvc_s(project: Path) -> None:
    for name in ("json.py", "dvc.py", "configobj.py"):
        (project / name).write_text("raise SystemExit('hijacked')\n")
    assert ask_dvc(project, "cache", "dir") == str(project / ".dvc" / "cache")
    with pytest.raises(MachineError, match="DVC refuses: "):
        ask_dvc(project, "nothing")


def test_an_experiment_in_a_folder_of_its_own_works_with_the_setting(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC changes the current folder there, so that a relative path would name another site cache half way."""
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)
    (project / "params.yaml").write_text("a: 1\n")
    (project / "dvc.yaml").write_text("stages: {s: {cmd: touch made, params: [a], outs: [made]}}\n")
    subprocess.run(["git", "add", "."], check=True)
    subprocess.run(["git", "commit", "--quiet", "--message", "first"], check=True)
    dvc("exp", "run", "--temp", "--set-param", "a=2")
    assert site_cache_fault(project) is None

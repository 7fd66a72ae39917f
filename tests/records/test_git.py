"""What git says of a folder, and what it does not say: "unknown" is never "clean"."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from keras_pipeline.core.errors import MachineError
from keras_pipeline.records import git as asked
from keras_pipeline.records.git import describe_git, git_state, is_unknown


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, for git the end of the world; the current one."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    return tmp_path / "folder"


def git(*arguments: str | Path) -> str:
    settings = ("user.name=n", "user.email=e", "commit.gpgsign=false", "protocol.file.allow=always")
    command = ["git", *(part for setting in settings for part in ("-c", setting)), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def committed(folder: Path) -> str:
    """The first commit of a new repository there, with one file."""
    git("init", "--quiet", folder)
    (folder / "file").write_text("one")
    git("-C", folder, "add", "file")
    git("-C", folder, "commit", "--quiet", "-m", "first")
    return git("-C", folder, "rev-parse", "HEAD")


def test_no_repository_no_commit_a_commit_and_changes_are_four_answers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert git_state() == {"commit": None, "dirty": None, "reason": "no repository"}
    git("init", "--quiet")
    assert git_state() == {"commit": None, "dirty": False, "reason": "no commit yet"}
    (folder / "file").write_text("zero")
    git("add", "file")
    assert git_state() == {"commit": None, "dirty": True, "reason": "no commit yet"}
    commit = committed(folder)
    assert len(commit) == 40
    assert git_state() == {"commit": commit, "dirty": False}
    (folder / "untracked").touch()
    assert git_state() == {"commit": commit, "dirty": False}
    (folder / "sub").mkdir()
    monkeypatch.chdir(folder / "sub")
    (folder / "file").write_text("two")
    assert git_state() == {"commit": commit, "dirty": True}
    git("add", "-u", "..")
    assert git_state() == {"commit": commit, "dirty": True}
    assert describe_git(git_state()) == f"{commit[:12]} with changes"


def test_a_repository_of_another_user_is_unknown_in_git_s_words_with_its_remedy(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(folder)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # of git's own tests: the same refusal
    state = git_state()
    assert (state["commit"], state["dirty"]) == (None, None)
    assert state["reason"] == (
        f"unknown: fatal: detected dubious ownership in repository at '{folder}' "
        f"(its remedy: git config --global --add safe.directory {folder})"
    )
    assert is_unknown(state)
    assert describe_git(state) == state["reason"]


def remove_head(folder: Path) -> None:
    (folder / ".git" / "HEAD").unlink()


def lose_objects(folder: Path) -> None:
    shutil.rmtree(folder / ".git" / "objects")
    (folder / ".git" / "objects").mkdir()


def damage(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / ".git" / name).write_bytes(content)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (remove_head, "fatal: not a git repository"),
        (damage("HEAD", b"garbage\n"), "fatal: not a git repository"),
        (damage("HEAD", b"\xff\xfe"), "fatal: not a git repository"),
        (damage("refs/heads/main", b"garbage\n"), "git cannot read the branch of HEAD"),
        (damage("refs/heads/main", b""), "git cannot read the branch of HEAD"),
        (lose_objects, "fatal: bad object HEAD"),
        (damage("index", b"garbage"), "fatal: .git/index: index file smaller than expected"),
        (damage("config", b"[core"), "fatal: bad config line 2 in file .git/config"),
        (damage("config", b"[\x1b[31mcore"), "fatal: bad config line 1 in file .git/config"),
        (
            lambda folder: git("-C", folder, "config", "core.bare", "true"),
            "fatal: this operation must be run in a work tree",
        ),
        (
            lambda folder: git("-C", folder, "config", "extensions.password", "https://me:open-sesame@host/"),
            "fatal: unknown repository extension",
        ),
    ],
)
def test_a_damaged_repository_is_unknown(folder: Path, change: Callable[[Path], object], said: str) -> None:
    committed(folder)
    git("branch", "-m", "main")
    git("config", "core.repositoryformatversion", "1")
    change(folder)
    state = git_state()
    assert (state["commit"], state["dirty"]) == (None, None)
    assert state["reason"].startswith(f"unknown: {said}")
    assert state["reason"].isprintable()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "git is not installed, and what is recorded is found by its commit. Install git."),
        ("denied", "git cannot be run: Permission denied. Mend that, see `command -v git`."),
        ("file", "git cannot be run: Exec format error. Mend that, see `command -v git`."),
    ],
)
def test_a_git_that_cannot_be_run_is_unknown(
    folder: Path, monkeypatch: pytest.MonkeyPatch, path: str, said: str
) -> None:
    committed(folder)
    (folder / "denied").mkdir()
    (folder / "denied" / "git").write_text("#!/bin/sh\n")
    (folder / "file").write_bytes(b"")
    (folder / "git").write_bytes(b"no program")
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", {"": str(folder / "empty"), "denied": str(folder / "denied"), "file": str(folder)}[path])
    assert git_state() == {"commit": None, "dirty": None, "reason": f"unknown: {said}"}


def test_git_is_asked_in_english_asks_nobody_and_starts_no_program_of_a_repository(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = committed(folder)
    for name in ("hook", ".git/hooks/post-checkout", ".git/hooks/post-index-change"):
        (folder / name).write_text(f"#!/bin/sh\ntouch {folder}/ran\n")
        (folder / name).chmod(0o755)
    git("config", "core.fsmonitor", str(folder / "hook"))
    index = (folder / ".git" / "index").stat().st_mtime_ns
    os.utime(folder / "file", (1, 1))  # so that git would like to write what it finds into its index
    assert git_state() == {"commit": commit, "dirty": False}
    assert (folder / ".git" / "index").stat().st_mtime_ns == index
    done = asked.run_git(folder, "checkout", "--detach", "HEAD")
    assert done.args[-3:] == ["checkout", "--detach", "HEAD"]
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"HEAD is now at {commit[:7]} first\n")
    assert not (folder / "ran").exists()

    (folder / "git").write_text(
        '#!/bin/sh\nread line; echo "$LC_ALL $GIT_TERMINAL_PROMPT $line"; echo "\\377" >&2; exit 3'
    )
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    done = asked.run_git(folder, "x")
    assert (done.returncode, done.stdout, done.stderr) == (3, "C 0 \n", "\udcff\n")


def test_a_git_that_does_not_answer_is_ended_with_all_that_it_started(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "git").write_text("#!/bin/sh\nsleep 60 & echo $! > child; wait\n")
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(asked, "PATIENCE_SECONDS", 1.0)
    began = time.monotonic()
    state = git_state()
    assert time.monotonic() - began < 20
    assert (state["commit"], state["dirty"]) == (None, None)
    assert state["reason"] == f"unknown: git status did not answer within 1 s. Is the disk of {folder} slow or gone?"
    child = int((folder / "child").read_text())
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            return
        time.sleep(0.05)
    raise AssertionError("what git started goes on")


def test_a_folder_that_was_removed_is_unknown(folder: Path) -> None:
    (folder / "gone").mkdir()
    os.chdir(folder / "gone")
    (folder / "gone").rmdir()
    state = git_state()
    os.chdir(folder)
    assert is_unknown(state)
    with pytest.raises(MachineError) as refused:
        asked.run_git(folder / "gone", "status")
    gone = f"{folder}/gone: this folder was removed. Run the command in one that is there."
    assert str(refused.value) == gone
    assert git_state(folder / "gone") == {"commit": None, "dirty": None, "reason": f"unknown: {gone}"}


def test_git_variables_of_a_hook_name_no_other_repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "other").mkdir()
    (folder / "here").mkdir()
    other, here = committed(folder / "other"), committed(folder / "here")
    for name, value in {"GIT_DIR": ".git", "GIT_WORK_TREE": "", "GIT_INDEX_FILE": ".git/index"}.items():
        monkeypatch.setenv(name, str(folder / "other" / value))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(folder / "nothing"))
    assert git_state(folder / "other") == {"commit": other, "dirty": False}
    assert git_state(folder / "here") == {"commit": here, "dirty": False}


def test_shallow_clones_worktrees_submodules_and_odd_names_are_known(folder: Path) -> None:
    origin = folder / "origin \udcff"  # a name that is no UTF-8
    origin.mkdir()
    commit = committed(origin)
    (origin / "caf\udce9").touch()
    git("-C", origin, "add", ".")
    assert git_state(origin) == {"commit": commit, "dirty": True}
    git("clone", "--quiet", "--depth", "1", origin.as_uri(), folder / "shallow")
    git("-C", origin, "worktree", "add", "--quiet", "--detach", folder / "worktree")
    (folder / "outer").mkdir()
    outer = committed(folder / "outer")
    git("-C", folder / "outer", "submodule", "--quiet", "add", origin, "inner")
    for place in ("shallow", "worktree", "outer/inner"):
        assert git_state(folder / place) == {"commit": commit, "dirty": False}
    assert git_state(folder / "outer") == {"commit": outer, "dirty": True}
    shutil.rmtree(origin)
    assert git_state(folder / "worktree")["reason"].startswith("unknown: fatal: not a git repository: ")


def test_an_index_that_another_git_writes_stops_no_question(folder: Path) -> None:
    commit = committed(folder)
    (folder / ".git" / "index.lock").touch()
    assert git_state() == {"commit": commit, "dirty": False}


def test_the_first_words_are_git_s_whatever_it_printed_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    committed(folder)
    monkeypatch.setenv("GIT_TRACE", "1")
    monkeypatch.setenv("LANGUAGE", "de")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert git_state()["reason"].startswith("unknown: fatal: detected dubious ownership")
    assert asked.refusal(" \n") == "git gave no reason"
    assert asked.refusal("first\n error: x\n\tgit one\n\tgit two\n") == "first (its remedy: git one)"
    assert asked.refusal("trace\nerror: x \nfatal: y\n") == "error: x"
    assert asked.refusal("fatal: unable to access 'https://me:open-sesame@host/'\x1b[31m") == (
        "fatal: unable to access 'https://***@host/'\\x1b[31m"
    )


@pytest.mark.parametrize(
    ("git_of_a_record", "text"),
    [
        ({"commit": "c" * 40, "dirty": True}, "cccccccccccc with changes"),
        ({"commit": "c" * 40, "dirty": False}, "cccccccccccc"),
        ({"commit": None, "dirty": False}, "no commit"),  # of an earlier version, which did not ask why
    ],
)
def test_records_of_earlier_versions_are_described(git_of_a_record: dict[str, object], text: str) -> None:
    assert describe_git(git_of_a_record) == text
    assert not is_unknown(git_of_a_record)

"""What DVC refuses or never ends to read is named with file, line and repair, in no time."""

import json
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from keras_pipeline.checks import dvc_files
from keras_pipeline.checks.dvc_files import LockedFile, find_faults, find_torn_lock, load_lock, read_lock
from keras_pipeline.core.errors import DataError
from places import ROOT

CONFLICT = "  a: 1\n<<<<<<< HEAD\n  b: 12\n=======\n  b: 10\n>>>>>>> colleague\n"
SHIPPED = {name: (ROOT / name).read_bytes() for name in ("dvc.yaml", "dvc.lock", ".dvc/config", ".dvcignore")}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the files of this project that DVC reads; its name looks like a place for another."""
    folder = tmp_path / "of {somebody} 100%"
    for name, content in SHIPPED.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "reports").mkdir()
    (folder / "reports" / "metrics.json").write_text('{\n  "test/accuracy": 0.5\n}\n')
    return folder


def test_the_project_as_it_is_has_no_fault(project: Path, tmp_path: Path) -> None:
    assert find_faults(project) == []
    assert find_faults(ROOT) == []
    assert find_faults(tmp_path / "nothing") == []
    locked = load_lock(project)
    assert {*locked} == {"scan", "fetch", "normalize", "train", "evaluate", "export", "track"}
    written = json.loads(SHIPPED_LOCK)["stages"]["train"]["outs"]
    assert locked["train"].outs == {one["path"]: LockedFile(one["md5"], False) for one in written}
    assert load_lock(tmp_path / "nothing") == {}


SHIPPED_LOCK = json.dumps(YAML(typ="safe", pure=True).load(SHIPPED["dvc.lock"]))
"""JSON, as an independent reader has it."""


def test_a_file_of_dvc_2_has_a_digest_of_its_own_kind() -> None:
    one, two = "1" * 32, "2" * 32
    entry = {"cmd": "x", "outs": [{"path": "f", "md5": one}], "deps": [{"path": "g", "hash": "md5", "md5": two}]}
    stage = read_lock(json.dumps({"schema": "2.0", "stages": {"a": entry}}).encode(), "dvc.lock")["a"]
    assert (stage.outs, stage.deps) == ({"f": LockedFile(one, True)}, {"g": LockedFile(two, False)})


THEIRS = (
    "Take one side and let DVC bring it in line: `git checkout --theirs {0} && dvc repro`; where nothing is being "
    "merged, `rm {0} && dvc repro`: what was trained before is restored, not trained again."
)
BY_HAND = "Keep one side of the conflict, delete its markers, then `git add {0}`."


@pytest.mark.parametrize(
    ("name", "repair"),
    [
        ("dvc.lock", THEIRS),
        ("reports/metrics.json", THEIRS),
        ("dvc.yaml", BY_HAND),
        (".dvc/config", BY_HAND),
        (".dvc/config.local", BY_HAND),
        (".dvcignore", BY_HAND),
        ("models/model.keras.dvc", BY_HAND),
        ("data.dvc", BY_HAND),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_conflict_markers_are_named_with_their_line_and_the_repair(
    project: Path, name: str, repair: str, ending: str
) -> None:
    path = project / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(CONFLICT.replace("\n", ending).encode())
    [fault] = find_faults(project)
    assert fault == f"{path}:2: a git conflict marker, '<<<<<<<'. {repair.format(path)}"


def test_every_file_is_named_at_once(project: Path) -> None:
    for name in ("dvc.lock", "dvc.yaml", "reports/metrics.json"):
        (project / name).write_text(CONFLICT)
    assert len(find_faults(project)) == 3


HALF = SHIPPED["dvc.lock"][: SHIPPED["dvc.lock"].index(b"md5: ") + 15]
"""DVC takes half a digest for one, and says nothing."""
EMPTY = "this file is empty: DVC was ended while it wrote it."
NO_STAGES = ": stages: not what `dvc repro` writes, or only half of it."


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", f":1: {EMPTY}"),
        (b"\n \n", f":1: {EMPTY}"),
        (
            SHIPPED["dvc.lock"].replace(b"'2.0'", b"'" + b"3.0" * 9 + b"'"),
            ":1: of schema '3.03.03.03.03.03.03.', which another version of DVC wrote. Expected: '2.0'. "
            "Install that version.",
        ),
        (b"stages: {}\n", ":1: this is not what `dvc repro` writes: it says no schema."),
        (b"[]", ":1: this is not what `dvc repro` writes: it says no schema."),
        (b"schema: '2.0'\nstages:\n  fetch:\n", NO_STAGES),
        (HALF, NO_STAGES),
        (b"schema: '2.0'\nstages: {a: {cmd: x, outs: [x]}}", NO_STAGES),
        (b"schema: '2.0'\nstages: {a: {cmd: x, outs: {}}}", NO_STAGES),
        (b"schema: '2.0'\nstages: {a: {cmd: '', outs: []}}", NO_STAGES),
        (b"schema: '2.0'\nstages: {a: {cmd: x, more: []}}", NO_STAGES),
        (b"schema: '2.0'\nstages: {a: {cmd: x, params: {params.yaml: [x]}}}", NO_STAGES),
        (b"schema: '2.0'\nstages: {a: {cmd: x, outs: [{path: ''}]}}", NO_STAGES),
        (b"schema: '2.0'\nstages: {a: {cmd: x, outs: [{md5: " + b"0" * 32 + b"}]}}", NO_STAGES),
        (
            b"schema: '2.0'\nstages:\n  a:\n    cmd: x\n    de",
            ":5:5: this line has no ':' after its key. Write 'key: value'.",
        ),
        (
            b"schema: '2.0'\nstages: [\n",
            ":3:1: a value is missing here. Write one, or put text in quotes.",
        ),
        (b"\nschema: '2.0'\n\xff\n\n", ":3: the byte 0xff is not UTF-8."),
        (b"schema: '2.0'\n\0\n\n", ":2: a character that YAML does not allow."),
        (b'schema: "\\U00110000"', ": an escape names no character, as '\\U00110000'."),
    ],
)
def test_a_damaged_lock_is_named_with_the_repair(project: Path, content: bytes, said: str) -> None:
    path = project / "dvc.lock"
    path.write_bytes(content)
    assert find_faults(project) == [
        f"{path}{said} Restore the committed one, `git checkout HEAD -- {path}`, or `rm {path} && dvc repro`: what was "
        "trained before is restored, not trained again."
    ]
    with pytest.raises(DataError):
        load_lock(project)
    with pytest.raises(DataError) as refused:
        read_lock(content, "dvc.lock", "Name another commit.")
    assert str(refused.value) == f"dvc.lock{said} Name another commit."


def test_of_a_stage_nothing_but_its_command_is_needed() -> None:
    written = (
        b"schema: '2.0'\nstages: {a: {cmd: x}, b: {cmd: [x, y], params: {params.yaml: {a: 1}}, outs: [{path: f}]}}"
    )
    stages = read_lock(written, "dvc.lock")
    assert (stages["a"].deps, stages["a"].outs) == ({}, {})
    assert stages["b"].outs == {"f": LockedFile("", True)}
    assert read_lock(b"schema: '2.0'\n", "dvc.lock") == {}
    folder = "schema: '2.0'\nstages: {a: {cmd: x, outs: [{path: f, md5: %s.dir, hash: md5}]}}" % ("1" * 32)
    assert read_lock(folder.encode(), "dvc.lock")["a"].outs == {"f": LockedFile("1" * 32 + ".dir", False)}


def test_what_is_no_file_is_named(project: Path) -> None:
    path = project / "dvc.lock"
    path.unlink()
    path.mkdir()
    assert find_faults(project) == [
        f"{path}: this is a directory, where DVC wants a file. Move it away, then `git checkout HEAD -- {path}`."
    ]
    path.rmdir()
    path.symlink_to("/dev/zero")
    assert find_faults(project) == [
        f"{path}: this is no regular file, where DVC wants a file. Move it away, then `git checkout HEAD -- {path}`."
    ]
    path.unlink()
    path.symlink_to("gone")
    assert find_faults(project) == [f"{path}: a link to gone, where no file is. Replace the link."]
    path.unlink()
    path.symlink_to("dvc.lock")
    assert find_faults(project) == [
        f"{path}: cannot be read: Too many levels of symbolic links. Expected: a file; see `ls -l {path}`."
    ]


def test_a_cut_at_every_line_is_a_fault_or_what_dvc_takes_too(project: Path) -> None:
    """DVC's own schema is the judge."""
    from dvc.exceptions import DvcException
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    content = SHIPPED["dvc.lock"]
    cuts = [index for index in range(len(content)) if content[index : index + 1] == b"\n"][::17]
    for cut in cuts:
        text = content[:cut]
        try:
            COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe", pure=True).load(text) or {})
            refused = False
        except (Invalid, DvcException, Exception):
            refused = True
        (project / "dvc.lock").write_bytes(text)
        assert bool(find_faults(project)) == refused, text[-80:]


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(f'*{before}' for _ in range(9))}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "aliases": BOMB,
    "an alias of itself": "a: &a [*a]\n",
    "an alias of nothing": "a: *b\n",
    "lists in lists": "- " * 60_000,
    "brackets": "[" * 120_000,
    "keys": "? " * 60_000,
    "values": "schema: '2.0'\n" + "k: v\n" * 26_000,
    "stages": "schema: '2.0'\nstages:\n" + "".join(f"  s{index}:\n    cmd: x\n" for index in range(6_000)),
    "lines": "\n" * 130_000,
    "a text": "'" + "x" * 131_000,
    "a comment": "#" * 131_000,
    "colons": "a" + ":" * 131_000,
    "anchors": "&a " * 43_000,
    "tags": "!" * 131_000,
    "escapes": '"' + "\\x41" * 32_000 + '"',
    "too large": " " * 10_000_000,
}


QUIET = ("lines", "a comment", "tags", "escapes")
"""What is as long, and nothing else."""
PLACES = {
    "aliases": "4:40 8,000 values",
    "an alias of itself": "1:8 8,000 values",
    "an alias of nothing": "1:4 8,000 values",
    "lists in lists": "1:63 32 levels",
    "keys": "1:63 32 levels",
    "values": "4000:4 8,000 values",
    "stages": "4000:10 8,000 values",
}


@pytest.mark.parametrize("name", ["dvc.lock", "dvc.yaml"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_takes_no_time(project: Path, name: str, kind: str) -> None:
    (project / name).write_text(HOSTILE[kind])
    began = time.process_time()
    faults = find_faults(project)
    assert time.process_time() - began < 1
    path = str(project / name)
    assert bool(faults) == (kind not in QUIET or name == "dvc.lock")
    assert all(fault.startswith(path) for fault in faults)
    if name == "dvc.yaml" and kind in PLACES:
        place, what = PLACES[kind].split(" ", 1)
        assert faults == [
            f"{path}:{place}: more than {what}, with its aliases ('*') written out: DVC would read it for very long. "
            f"Mend it, or `git checkout HEAD -- {path}`."
        ]
    if kind == "too large":
        assert faults[0].startswith(f"{path}: larger than 128 KiB, which none is. ")


def test_what_is_just_small_enough_is_read(project: Path) -> None:
    path = project / "dvc.yaml"
    for good, content in {
        True: "a: &a [" + "x," * 1998 + "]\nb: [*a, *a, *a]\n",  # 8,000 values
        False: "a: &a [" + "x," * 1998 + "]\nb: [*a, *a, *a, x]\n",
    }.items():
        path.write_text(content)
        assert (find_faults(project) == []) is good
    for good, size in ((True, 128 * 1024), (False, 128 * 1024 + 1)):
        path.write_text("#" * size)
        assert (find_faults(project) == []) is good
    for good, depth in ((True, 31), (False, 32)):
        path.write_text("- " * depth + "x")
        assert (find_faults(project) == []) is good


def test_a_few_aliases_are_the_user_s(project: Path) -> None:
    (project / "dvc.yaml").write_text(
        "x: &deps [a, b]\nstages: {one: {cmd: x, deps: *deps}, two: {cmd: y, deps: *deps}}\n"
    )
    assert find_faults(project) == []


def test_a_torn_list_of_locks_is_told_from_one_that_is_being_written(tmp_path: Path) -> None:
    assert find_torn_lock(tmp_path) is None
    path = tmp_path / dvc_files.RWLOCK
    path.parent.mkdir(parents=True)
    path.write_text('{"read": {}}')
    assert find_torn_lock(tmp_path) is None
    for content in ("", "{", "[]"):
        path.write_text(content)
        assert find_torn_lock(tmp_path) == (
            f"{path} is torn: DVC was ended while it wrote it, and refuses it: rm -r {path}"
        )
    writer = threading.Timer(0.1, path.write_text, ["{}"])
    writer.start()
    assert find_torn_lock(tmp_path) is None
    writer.join()
    path.unlink()
    path.mkdir()
    assert "rm -r" in str(find_torn_lock(tmp_path))


ALLOWED = {"pydantic", "pydantic_core", "annotated_types", "typing_inspection", "typing_extensions", "ruamel"}
ALONE = """\
import sys
known = {allowed} | sys.stdlib_module_names | {{"keras_pipeline"}}
class Only:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] not in known and not name.startswith("_sysconfigdata"):
            raise ModuleNotFoundError("not among the packages of params check: " + name, name=name)
sys.meta_path.insert(0, Only)
sys.argv = ["keras-pipeline", "params", "check"]
from keras_pipeline.cli.main import main
code = main()
status = open("/proc/self/status").read()  # the most that getrusage tells is that of the process it was forked from
print("memory", status.partition("VmHWM:")[2].split()[0])
sys.exit(code)
"""


def check_alone(folder: Path) -> "subprocess.CompletedProcess[str]":
    """`keras-pipeline params check` in a process that can import these packages only, with CI's limits."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    return subprocess.run(
        [sys.executable, "-P", "-c", ALONE.format(allowed=ALLOWED)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=limit,
    )


def test_params_check_needs_the_packages_of_its_own_list_alone(project: Path) -> None:
    shutil.copy(ROOT / "params.yaml", project)
    done = check_alone(project)
    assert done.stdout.startswith("params.yaml: good\nmemory"), done.stderr
    assert done.returncode == 0
    locked = (ROOT / "requirements-check.lock").read_text()
    names = {line.partition("==")[0] for line in locked.splitlines() if "==" in line}
    assert {name.replace("-", "_").removesuffix("_yaml") for name in names} == ALLOWED
    whole = (ROOT / "requirements.lock").read_text()
    assert all(line in whole for line in locked.splitlines() if not line.startswith("#"))


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml", "dvc.lock"])
def test_params_check_ends_hostile_files_within_a_second_and_300_mb(project: Path, name: str) -> None:
    shutil.copy(ROOT / "params.yaml", project)
    for kind in ("aliases", "values"):
        (project / name).write_text(HOSTILE[kind])
        done = check_alone(project)
        assert done.returncode == (2 if name == "params.yaml" else 3), done.stderr
        assert done.stderr.startswith(f"{name}:")
        assert "Traceback" not in done.stderr
        assert int(done.stdout.split("memory")[1]) < 300_000

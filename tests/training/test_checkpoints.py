"""Checkpoints: equal to the bit, two generations, and never a wrong one, whatever cuts or flips."""

import errno
import hashlib
import json
import os
import random
import re
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mutated_files
from file_size import file_size_limit
from kept_checkpoints import IDENTITY, Arrays, array, epoch, like, names, save
from keras_pipeline.training.checkpoints import KEPT_TRAININGS, Checkpoints, check_progress, remove_checkpoints


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest and make the digest fit: not damage, but a file of another kind."""
    content = path.read_bytes()[32:]
    length = int.from_bytes(content[:8], "little")
    manifest = json.loads(content[8 : 8 + length])
    change(manifest)
    text = json.dumps(manifest).encode()
    sealed(path, len(text).to_bytes(8, "little") + text + content[8 + length :])


def sealed(path: Path, content: bytes) -> None:
    path.write_bytes(hashlib.sha256(content).digest() + content)


# What is saved is loaded.


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(st.text(), array(), max_size=4), st.dictionaries(st.text(), VALUES, max_size=3))
def test_every_bit_comes_back(
    tmp_path_factory: pytest.TempPathFactory, arrays: Arrays, progress: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    Checkpoints(folder, IDENTITY).save(arrays, progress)
    found = Checkpoints(folder, IDENTITY).latest()
    assert found is not None
    assert found[1] == progress
    assert list(found[0]) == list(arrays)
    for name, loaded in found[0].items():
        assert (loaded.dtype, loaded.shape) == (arrays[name].dtype, arrays[name].shape)
        assert loaded.tobytes() == arrays[name].tobytes()
        assert loaded.flags.writeable


def test_a_network_with_its_optimizer_comes_back(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    arrays: Arrays = {
        "trainable/dense_1/kernel": draw.standard_normal((784, 64), "float32"),
        "trainable/dense_1/bias": draw.standard_normal(64, "float32").astype(ml_dtypes.bfloat16),
        "optimizer/iterations": np.array(2345),
        "seed": draw.integers(0, 2**32, 2, np.uint32),
        "nothing": np.zeros((0, 3), "float16"),
    }
    progress = {"epoch": 3, "history": [{"val/loss": 0.1 + 0.2}], "run": None}
    Checkpoints(tmp_path, IDENTITY).save(arrays, progress)
    found = Checkpoints(tmp_path, IDENTITY).latest()
    assert found is not None
    assert found[1] == progress
    for name, loaded in found[0].items():
        assert (loaded.dtype, loaded.shape) == (arrays[name].dtype, arrays[name].shape)
        assert loaded.tobytes() == arrays[name].tobytes()


@pytest.mark.parametrize("value", ["text", b"bytes", object(), np.array(1.0, ">f4"), np.array((1,), [("a", "i4")])])
def test_what_is_no_number_of_this_machine_is_refused(value: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^array odd: dtype\(.*\) cannot be saved\. Expected: plain numbers\.$"):
        Checkpoints(tmp_path, IDENTITY).save({"odd": np.asarray(value)}, {})
    assert names(tmp_path) == []


def test_progress_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        Checkpoints(tmp_path, IDENTITY).save({}, {"best": float("nan")})
    assert names(tmp_path) == []


# Generations, folders, identities.


def test_nothing_is_there_before_the_first_save(tmp_path: Path) -> None:
    training = Checkpoints(tmp_path / "folder", IDENTITY)
    assert training.latest() is None
    assert training.differences() == []
    training.remove()
    assert names(tmp_path) == []


def test_two_generations_are_kept_and_counted_on(tmp_path: Path) -> None:
    save(Checkpoints(tmp_path, IDENTITY), *range(1, 4))
    training = Checkpoints(tmp_path, IDENTITY)
    assert names(training.own) == ["00000002.checkpoint", "00000003.checkpoint"]
    assert epoch(training) == 3
    save(training, 4)
    assert names(training.own) == ["00000003.checkpoint", "00000004.checkpoint"]
    save(training, *range(5, 13))  # past a change in the number of digits
    assert names(training.own) == ["00000011.checkpoint", "00000012.checkpoint"]
    assert epoch(training) == 12


def test_the_folder_is_named_by_the_identity_whatever_its_order(tmp_path: Path) -> None:
    canonical = json.dumps(IDENTITY, sort_keys=True, separators=(",", ":"))
    backwards = dict(reversed(IDENTITY.items())) | {"params": dict(reversed(IDENTITY["params"].items()))}
    for identity in (IDENTITY, backwards):
        training = Checkpoints(tmp_path, identity)
        assert training.own == tmp_path / hashlib.sha256(canonical.encode()).hexdigest()[:16]
    save(training, 1)
    assert epoch(Checkpoints(tmp_path, IDENTITY)) == 1


def test_another_identity_sees_nothing_of_it(tmp_path: Path) -> None:
    save(Checkpoints(tmp_path, IDENTITY), 1, 2)
    other = Checkpoints(tmp_path, IDENTITY | {"data": "00" * 32})
    assert other.latest() is None
    save(other, 7)
    assert epoch(other) == 7
    assert epoch(Checkpoints(tmp_path, IDENTITY)) == 2


def test_the_end_of_a_training_removes_its_folder_only(tmp_path: Path) -> None:
    training, other = Checkpoints(tmp_path, IDENTITY), Checkpoints(tmp_path, {"seed": 2})
    save(training, 1)
    save(other, 1)
    training.remove()
    training.remove()
    assert list(tmp_path.iterdir()) == [other.own]
    assert epoch(training) is None


def test_a_new_training_removes_the_oldest_of_the_others(tmp_path: Path) -> None:
    trainings = [Checkpoints(tmp_path, {"seed": seed}) for seed in range(KEPT_TRAININGS)]
    for age, training in enumerate(reversed(trainings)):
        save(training, 1)
        os.utime(training.own, (1000 + age, 1000 + age))
    foreign = tmp_path / "not-a-training"
    foreign.mkdir()
    os.utime(foreign, (0, 0))
    too_many = Path(shutil.copytree(trainings[-1].own, tmp_path / "0123456789abcdef"))
    save(trainings[0], 2)  # not its first save: nothing goes
    assert len(names(tmp_path)) == KEPT_TRAININGS + 2
    shutil.rmtree(too_many)
    new = Checkpoints(tmp_path, {"seed": -1})
    save(new, 1)
    assert set(tmp_path.iterdir()) == {foreign, new.own, *(training.own for training in trainings[:-1])}
    trainings[1].remove()
    save(trainings[1], 1)
    assert set(tmp_path.iterdir()) == {foreign, new.own, *(training.own for training in trainings[:-1])}


# Which run it is.


BEGUN = {"key": "ab" * 16, "started": 1.5, "resumed": ["epoch 1 step 1"], "devices": ["/cpu:0"]}


def test_the_run_is_known_before_the_first_checkpoint_and_then_by_the_checkpoints_alone(tmp_path: Path) -> None:
    training = Checkpoints(tmp_path, IDENTITY)
    assert training.begun() is None
    training.begin({**BEGUN, "resumed": []})
    training.begin(BEGUN)
    again = Checkpoints(tmp_path, IDENTITY)
    assert again.begun() == BEGUN
    assert again.latest() is None
    assert Checkpoints(tmp_path, {"seed": 2}).begun() is None
    assert Checkpoints(tmp_path, {"seed": 2}).differences() == []  # of no training that could be gone on with
    save(training, 1)
    assert again.begun() is None
    for path in training.own.glob("*.checkpoint"):
        path.write_bytes(b"")  # epochs were told of already: whoever begins anew is another run
    assert again.begun() is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_a_torn_word_of_the_run_is_none(content: bytes, tmp_path: Path) -> None:
    training = Checkpoints(tmp_path, IDENTITY)
    training.begin(BEGUN)
    (training.own / "run.json").write_bytes(content)
    assert training.begun() is None
    remove_checkpoints(tmp_path, BEGUN["key"])
    assert names(tmp_path) == [training.own.name]
    (training.own / "run.json").unlink()
    (training.own / "run.json").symlink_to("run.json")  # for ever
    assert training.begun() is None
    Checkpoints(tmp_path, {"seed": 2}).begin(BEGUN)
    for digit in "01234567":
        shutil.copytree(training.own, tmp_path / (digit * 16), symlinks=True)
        (tmp_path / (digit * 16) / "run.json").unlink()
        (tmp_path / (digit * 16) / "run.json").write_bytes(b"[]")
    Checkpoints(tmp_path, {"seed": 3}).begin(BEGUN)  # whatever the order in which they are found
    remove_checkpoints(tmp_path, BEGUN["key"])
    assert names(tmp_path) == sorted([*(digit * 16 for digit in "01234567"), training.own.name])


def test_a_training_is_forgotten_by_the_key_of_its_run(tmp_path: Path) -> None:
    remove_checkpoints(tmp_path / "folder", BEGUN["key"])
    training, other = Checkpoints(tmp_path, IDENTITY), Checkpoints(tmp_path, {"seed": 2})
    training.begin(BEGUN)
    other.begin({**BEGUN, "key": "cd" * 16})
    for one in (training, other):
        save(one, 1)
    remove_checkpoints(tmp_path, BEGUN["key"])
    remove_checkpoints(tmp_path, BEGUN["key"])
    assert names(tmp_path) == [other.own.name]
    assert epoch(other) == 1


def test_one_that_cannot_be_forgotten_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    training = Checkpoints(tmp_path, IDENTITY)
    training.begin(BEGUN)
    monkeypatch.setattr(Path, "rename", fails)
    remove_checkpoints(tmp_path, BEGUN["key"])
    expected = f"{training.own}: cannot be removed (Permission denied); it is of no more use\n"
    assert capfd.readouterr().err == expected


def test_a_removal_that_is_killed_leaves_nothing_to_go_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(path: Path, **_: Any) -> None:
        if path.is_dir():
            raise KeyboardInterrupt

    training = Checkpoints(tmp_path, IDENTITY)
    training.begin(BEGUN)
    save(training, 1)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            training.remove()
    again = Checkpoints(tmp_path, IDENTITY)
    assert (again.latest(), again.begun()) == (None, None)
    save(again, 1)
    again.remove()
    assert names(tmp_path) == []


# Why nothing is resumed.


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ({"params": IDENTITY["params"] | {"train.epochs": 20}}, ["params.train.epochs: 20 there, 10 here"]),
        (
            {"params": IDENTITY["params"] | {"train.optimizer.name": "sgd"}},
            ['params.train.optimizer.name: "sgd" there, "adam" here'],
        ),
        ({"params": {**IDENTITY["params"], "seed": 1.0}}, ["params.seed: 1.0 there, 1 here"]),
        (
            {"params": {**IDENTITY["params"], "model.layers": [{"dense": 5}]}},
            ['params.model.layers: [{"dense":5}] there, [] here'],
        ),
        (
            {"code": "01" * 32, "data": "23" * 32},
            ["code: 010101010101 there, cdcdcdcdcdcd here", "data: 232323232323 there, abababababab here"],
        ),
        (
            {"versions": {"numpy": "2"}},
            ['versions.keras: not given there, "3.15.1" here', 'versions.numpy: "2" there, not given here'],
        ),
        ({"versions": {}}, ['versions.keras: not given there, "3.15.1" here', "versions: {} there, not given here"]),
    ],
)
def test_it_says_what_differs_from_the_newest_other_training(
    there: dict[str, Any], expected: list[str], tmp_path: Path
) -> None:
    older, newer = Checkpoints(tmp_path, {"seed": "older"}), Checkpoints(tmp_path, IDENTITY | there)
    save(newer, 1)
    save(older, 1)
    os.utime(older.own, (1000, 1000))
    here = Checkpoints(tmp_path, IDENTITY)
    assert here.differences() == expected
    save(here, 1)
    assert here.differences() == []


def test_at_most_ten_differences_are_told(tmp_path: Path) -> None:
    save(Checkpoints(tmp_path, {"params": {str(number): number for number in range(50)}}), 1)
    assert len(Checkpoints(tmp_path, {"params": {}}).differences()) == 10


def test_a_damaged_training_tells_no_differences(tmp_path: Path) -> None:
    newer, older = Checkpoints(tmp_path, {"seed": 3}), Checkpoints(tmp_path, {"seed": 2})
    save(older, 1)
    save(newer, 1, 2)
    os.utime(older.own, (1000, 1000))
    here = Checkpoints(tmp_path, {"seed": 1})
    (newer.own / "00000002.checkpoint").write_bytes(b"")
    assert here.differences() == ["seed: 3 there, 1 here"]
    (newer.own / "00000001.checkpoint").write_bytes(b"")
    assert here.differences() == ["seed: 2 there, 1 here"]
    (older.own / "00000001.checkpoint").write_bytes(b"")
    assert here.differences() == []


# Damage.


def damages(content: bytes) -> Iterator[bytes]:
    """Each byte with one bit flipped, each shorter length, longer ones, blocks of zeros, other files."""
    draw = random.Random(1)
    for position, byte in enumerate(content):
        yield content[:position] + bytes([byte ^ 1 << draw.randrange(8)]) + content[position + 1 :]
    for length in range(len(content)):
        yield content[:length]
    for start in range(0, len(content), 16):
        yield content[:start] + bytes(len(content) - start)
    yield from (content + b"\0", content + content, content[32:], b"<html></html>", bytes(len(content)))


def test_a_damaged_checkpoint_is_never_used_and_the_other_one_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    training = Checkpoints(tmp_path, IDENTITY)
    save(training, 1, 2)
    newest = training.own / "00000002.checkpoint"
    content, tried = newest.read_bytes(), 0
    for damaged in damages(content):
        newest.write_bytes(damaged)
        assert epoch(training) == 1
        assert capfd.readouterr().err == (
            f"{newest}: not used: it is damaged, its bytes are not those that were written; "
            "00000001.checkpoint is tried instead.\n"
        )
        tried += 1
    assert tried >= 1000
    newest.write_bytes(content)
    assert epoch(training) == 2
    assert capfd.readouterr().err == ""


def test_both_damaged_is_none_and_the_next_save_mends_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    training = Checkpoints(tmp_path, IDENTITY)
    save(training, 1, 2)
    for path in training.own.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert epoch(training) is None
    lines = capfd.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        str(training.own / "00000002.checkpoint"),
        str(training.own / "00000001.checkpoint"),
    ]
    assert lines[1].endswith("; the training starts over.")
    save(training, 3)
    assert names(training.own) == ["00000002.checkpoint", "00000003.checkpoint"]
    assert epoch(training) == 3


def other_shape(shape: list[int]) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["arrays"][0].__setitem__(2, shape)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda manifest: manifest.update(format=2), "it has format 2, expected 1"),
        (
            lambda manifest: manifest["identity"].update(code="0"),
            "it belongs to a training with other params, data, code or versions",
        ),
        (lambda manifest: manifest.clear(), ".*"),
        (lambda manifest: manifest["arrays"][0].__setitem__(1, "object"), ".*"),
        (lambda manifest: manifest["arrays"][0].__setitem__(1, "bfloat17"), ".*bfloat17.*"),
        (other_shape([7, 3]), "it ends within the array trainable/dense/kernel"),
        (other_shape([-1]), ".*"),
        (other_shape([1 << 40, 1 << 20]), ".*"),
    ],
)
def test_a_file_of_another_kind_is_passed_over(
    change: Callable[[dict[str, Any]], None], reason: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    training = Checkpoints(tmp_path, IDENTITY)
    save(training, 1, 2)
    newest = training.own / "00000002.checkpoint"
    rewritten(newest, change)
    assert epoch(training) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert re.fullmatch(rf"{newest}: not used: {reason}; 00000001\.checkpoint is tried instead\.", line)


PROGRESS = {
    "key": "f" * 32,
    "started": 1.0,
    "resumed": ["epoch 2 step 1"],
    "devices": ["/cpu:0"],
    "epoch": 1,
    "step": 3,
    "seconds": 2.5,
    "history": [{"epoch": 1, "val/loss": 0.5}],
}


MUTANTS = list(mutated_files.json_mutants("", PROGRESS))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_a_progress_from_which_no_training_can_go_on_is_passed_over(
    mutant: mutated_files.Mutant, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    training = Checkpoints(tmp_path, IDENTITY)
    training.save(like(1), PROGRESS)
    training.save(like(2), PROGRESS)
    newest = training.own / "00000002.checkpoint"
    rewritten(newest, lambda manifest: manifest.update(progress=json.loads(mutant.content)))
    found = training.latest(check_progress)
    assert found is not None
    check_progress(found[1])
    told = capfd.readouterr().err
    if found[1] == PROGRESS:
        assert re.fullmatch(rf"{newest}: not used: .*; 00000001\.checkpoint is tried instead\.\n", told)
        assert found[0]["best"][0] == 1
    else:  # another number of the same kind
        assert not told
        assert re.split("[. ]", mutant.what)[0] in ("started", "step", "seconds", "history", "resumed", "devices")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(8),
        b"\xff" * 8,
        b"\xff" * 7 + b"\x7f",
        b"\2" + bytes(7) + b"[]",
        b"\xff\xff" + bytes(6) + b"[" * 65535,
    ],
)
def test_a_sealed_file_of_nonsense_is_passed_over(
    content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    training = Checkpoints(tmp_path, IDENTITY)
    save(training, 1, 2)
    sealed(training.own / "00000002.checkpoint", content)
    assert epoch(training) == 1
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_what_cannot_be_opened_is_passed_over(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    training = Checkpoints(tmp_path, IDENTITY)
    save(training, 1)
    (training.own / "00000002.checkpoint").mkdir()
    (training.own / "00000003.checkpoint").symlink_to("nowhere")
    assert epoch(training) == 1
    assert len(capfd.readouterr().err.splitlines()) == 2


# Saves that fail.


@pytest.mark.parametrize("size", [300, 300_000])  # written at the close, written at once
@pytest.mark.parametrize("there", [0, 1, 2, 3])
def test_a_full_disk_leaves_the_old_generations(there: int, size: int, tmp_path: Path) -> None:
    training = Checkpoints(tmp_path, IDENTITY)
    save(training, *range(1, there + 1))
    before = {path: path.read_bytes() for path in training.own.glob("*")}
    with file_size_limit(1000), pytest.raises(OSError) as failed:
        training.save(like(9, size), {"epoch": 9})
    assert (failed.value.errno, failed.value.filename) == (errno.EFBIG, str(training.own / "temporary"))
    whole = sum(one.nbytes for one in like(9, size).values()) / 1e6
    [note] = failed.value.__notes__
    assert re.fullmatch(r"[\d.]+ MB are needed", note)
    assert float(note.split()[0]) == pytest.approx(whole, abs=0.06)
    assert {path: path.read_bytes() for path in training.own.iterdir()} == before
    assert epoch(training) == (there or None)
    save(training, 10)
    assert epoch(training) == 10


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_at_the_last_moment_leaves_the_old_generations(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise error

    training = Checkpoints(tmp_path, IDENTITY)
    save(training, 1, 2)
    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(type(error)):
        save(training, 3)
    assert names(training.own) == ["00000001.checkpoint", "00000002.checkpoint"]
    assert epoch(training) == 2


def test_a_folder_deleted_between_saves_is_made_again(tmp_path: Path) -> None:
    training = Checkpoints(tmp_path / "folder", IDENTITY)
    for gone in (training.own, training.folder):
        save(training, 1, 2)
        shutil.rmtree(gone)
        assert training.latest() is None
        save(training, 3)
        assert epoch(training) == 3


def test_a_folder_that_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "folder", Path("/proc/checkpoints")):
        training = Checkpoints(folder, IDENTITY)
        assert training.latest() is None
        assert training.differences() == []
        with pytest.raises(OSError):
            save(training, 1)


# Processes that are killed.


def test_what_a_killed_save_left_goes_with_the_next(tmp_path: Path) -> None:
    training = Checkpoints(tmp_path, IDENTITY)
    save(training, 1)
    (training.own / "temporary").write_bytes(bytes(100_000))
    assert epoch(training) == 1
    save(training, 2)
    assert names(training.own) == ["00000001.checkpoint", "00000002.checkpoint"]
    assert epoch(training) == 2


def test_a_saved_checkpoint_is_readable_by_whoever_may_read_new_files(tmp_path: Path) -> None:
    training = Checkpoints(tmp_path, IDENTITY)
    save(training, 1)
    (tmp_path / "new").touch()
    (path,) = training.own.iterdir()
    assert path.stat().st_mode == (tmp_path / "new").stat().st_mode


def test_arrays_are_written_where_they_are(tmp_path: Path) -> None:
    # A second copy of a large network could be what the memory has no room for.
    arrays = {"large": np.zeros(8 << 20, np.uint8)}
    tracemalloc.start()
    try:
        Checkpoints(tmp_path, IDENTITY).save(arrays, {})
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()

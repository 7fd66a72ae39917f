"""data/raw: what is written is read back, in the order of the source; an interrupted run is gone on with."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError
from keras_pipeline.sources import raw, raw_writer
from keras_pipeline.sources.kinds.kind import Examples, Split
from places import SUPPORT
from tiny_raw import Blocks, noise, write_examples

COUNT = 300


def examples(images: Any = None, **changes: Any) -> Examples:
    images = noise(COUNT, (4, 3, 1)) if images is None else images
    count = len(images)
    values = {"labels": np.arange(count) % 10, "places": [f"image {index}" for index in range(count)], **changes}
    return Examples(Blocks(images, **values.pop("blocks", {})), **values)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: files.file_sha256(path) for path in folder.iterdir()}


@pytest.mark.parametrize("shape", [(4, 3, 1), (1, 1, 3)])
@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<f4"])
def test_what_is_written_is_read_back_in_the_order_of_the_source(
    dtype: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    images = noise(COUNT, shape).astype(dtype)
    splits: list[Split] = [("test", "train", "validation", "train")[index % 4] for index in range(COUNT)]  # type: ignore[misc]
    given = examples(images, splits=splits, facts={"decoder": "1.0"}, preparation={"size": [4, 3]})
    described = write_examples(tmp_path / "raw", given)
    found = raw.read_raw(tmp_path / "raw")
    assert found.description == described == json.loads((tmp_path / "raw" / "dataset.json").read_text())
    assert described["images"] == {"train": 150, "validation": 75, "test": 75}
    assert (described["facts"], described["preparation"]) == ({"decoder": "1.0"}, {"size": [4, 3]})
    for split in ("train", "validation", "test"):
        chosen = np.array(splits) == split
        assert found.images[split].dtype.str == dtype
        assert np.array_equal(found.images[split], images[chosen])
        assert np.array_equal(found.labels[split], given.labels[chosen])
        assert np.array_equal(np.load(tmp_path / "raw" / f"{split}_images.npy"), images[chosen])
    assert not (tmp_path / "raw.unfinished").exists()


def test_without_a_test_split_the_pixels_tell_and_nobody_moves_when_data_grow(tmp_path: Path) -> None:
    images = noise(COUNT, (4, 3, 1))
    images[200:210] = images[:10]  # exact copies stay together
    write_examples(tmp_path / "few", examples(images[:250]))
    write_examples(tmp_path / "many", examples(images))
    few, many = (raw.read_raw(tmp_path / name) for name in ("few", "many"))
    assert 0.1 < len(many.images["test"]) / COUNT < 0.3
    tested = {image.tobytes() for image in many.images["test"]}
    assert {image.tobytes() for image in few.images["test"]} <= tested
    assert not tested & {image.tobytes() for image in many.images["train"]}


def test_groups_are_never_divided_and_their_codes_go_with_the_training_images(tmp_path: Path) -> None:
    groups = [f"person {index // 7}" for index in range(COUNT)]
    write_examples(tmp_path / "raw", examples(groups=groups))
    found = raw.read_raw(tmp_path / "raw")
    assert found.groups is not None
    assert found.times is None
    assert set(np.unique(found.groups, return_counts=True)[1]) <= {7, 6}  # the last one has six
    assert len(found.images["test"]) + len(found.groups) == COUNT
    assert found.groups[0] in {raw_writer.group_code("person 0"), raw_writer.group_code("person 1")}


def test_the_latest_are_the_test_split_and_those_of_one_time_stay_together(tmp_path: Path) -> None:
    times = np.array([float(index // 3) for index in range(COUNT)])[::-1].copy()
    write_examples(tmp_path / "raw", examples(times=times))
    found = raw.read_raw(tmp_path / "raw")
    assert found.times is not None
    assert len(found.images["test"]) == 60
    assert found.times.max() < 80 <= times[:60].min()


def test_damaged_images_are_left_out_said_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = dict.fromkeys(range(5, 45, 3), "it ends early")
    given = examples(splits=["train"] * 200 + ["test"] * 100, blocks={"damaged": damaged})
    described = write_examples(tmp_path / "raw", given)
    assert (described["images"], described["left_out"]) == ({"train": 186, "test": 100}, 14)
    kept = np.setdiff1d(np.arange(200), list(damaged))
    assert np.array_equal(raw.read_raw(tmp_path / "raw").labels["train"], given.labels[kept])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "image 5: left out: it ends early"
    assert (len(lines), lines[-1]) == (11, "and 4 more are left out")


@pytest.mark.parametrize(
    ("changes", "keys", "message"),
    [
        ({"splits": ["train"] * COUNT}, {"splits": {"test": 0.01}, "classes": tuple("0123456789")}, None),
        ({"splits": ["test"] * COUNT}, {}, "of 300 examples none is in the train split"),
        ({"labels": np.full(COUNT, 10)}, {}, "image 0: got the class number 10. Expected: 0 to 9"),
        ({}, {"counts": {"train": 1}}, "got .* train examples. Expected: 1, as `counts`"),
    ],
)
def test_what_is_not_as_the_dataset_file_says_leaves_nothing(
    changes: dict[str, Any], keys: dict[str, Any], message: str | None, tmp_path: Path
) -> None:
    if message is None:
        assert write_examples(tmp_path / "raw", examples(**changes), **keys)["images"]["test"] > 0
        return
    with pytest.raises(DataError, match=message):
        write_examples(tmp_path / "raw", examples(**changes), **keys)
    assert not (tmp_path / "raw").exists()


class Interrupted(Blocks):
    """The user interrupts after some images."""

    def blocks(self, done: int = 0) -> Any:
        for number, block in enumerate(super().blocks(done)):
            if number == 20:
                raise KeyboardInterrupt
            yield block


def test_an_interrupted_run_is_gone_on_with_and_gives_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = noise(COUNT, (4, 3, 1))
    write_examples(tmp_path / "whole", examples(images))
    for done in (140, 280):
        interrupted = examples(images)
        object.__setattr__(interrupted, "inputs", Interrupted(images))
        with pytest.raises(KeyboardInterrupt):
            write_examples(tmp_path / "raw", interrupted)
        assert json.loads((tmp_path / "raw.unfinished" / "journal.json").read_text())["done"] == done
        assert not (tmp_path / "raw").exists()
    write_examples(tmp_path / "raw", examples(images))
    assert digests(tmp_path / "raw") == digests(tmp_path / "whole")
    said = capsys.readouterr().out
    assert "tiny: 140 of 300 images are there already; goes on behind them." in said
    assert "tiny: 280 of 300 images are there already" in said


@pytest.mark.parametrize("damage", ["another dataset", "torn journal", "no journal", "short array"])
def test_what_was_left_of_something_else_is_not_gone_on_with(damage: str, tmp_path: Path) -> None:
    images = noise(COUNT, (4, 3, 1))
    interrupted = examples(images)
    object.__setattr__(interrupted, "inputs", Interrupted(images))
    with pytest.raises(KeyboardInterrupt):
        write_examples(tmp_path / "raw", interrupted, "other" if damage == "another dataset" else "tiny")
    left = tmp_path / "raw.unfinished"
    if damage == "torn journal":
        (left / "journal.json").write_text('{"key": ')
    elif damage == "no journal":
        (left / "journal.json").unlink()
    elif damage == "short array":
        (left / "train_images.npy").write_bytes(b"")
    write_examples(tmp_path / "raw", examples(images))
    write_examples(tmp_path / "whole", examples(images))
    assert digests(tmp_path / "raw") == digests(tmp_path / "whole")


KILLED = """
import sys, time
from pathlib import Path
import tiny_raw, test_raw_writer
from keras_pipeline.sources import raw_writer
raw_writer.JOURNAL_SECONDS = 0.02
class Slow(tiny_raw.Blocks):
    def blocks(self, done=0):
        for block in super().blocks(done):
            time.sleep(0.01)
            yield block
given = test_raw_writer.examples()
object.__setattr__(given, "inputs", Slow(given.inputs.images))
print("begun", flush=True)
tiny_raw.write_examples(Path(sys.argv[1]), given)
"""


def test_a_killed_run_is_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = [str(SUPPORT), str(Path(__file__).parent), *sys.path]
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{KILLED}", str(tmp_path / "raw")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        deadline = time.monotonic() + 60
        while not (tmp_path / "raw.unfinished" / "journal.json").exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
    write_examples(tmp_path / "raw", examples())
    write_examples(tmp_path / "whole", examples())
    assert digests(tmp_path / "raw") == digests(tmp_path / "whole")
    assert "are there already" in capsys.readouterr().out

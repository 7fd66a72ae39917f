"""What is seen of a dataset's own files: every change, in one line, and nothing is read twice."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError
from keras_pipeline.sources import dataset_file
from keras_pipeline.sources.files import scan
from keras_pipeline.sources.kinds.kind import Recorded

OLD = 1_700_000_000


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One of files in the folder `photos` of the current folder, each older than some seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scan, "_UNSETTLED_NS", 0)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "own.yaml").write_text(
        "kind: idx\npath: photos\nsize: [4, 3]\ntrain: {images: a, labels: b}\nclasses: [x, z]\n"
    )
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        write(name, name)
    return dataset_file.load_dataset("own")


def write(name: str, text: str, when: float = OLD) -> None:
    path = Path("photos", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (when, when))


def look(dataset: Any) -> scan.Scan:
    return scan.look("own", dataset, Path("downloads"))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read."""
    found: list[str] = []
    original = files.file_sha256

    def noted(path: Path) -> str:
        found.append(str(path))
        return original(path)

    monkeypatch.setattr(files, "file_sha256", noted)
    return found


def test_what_changed_is_told_in_one_line_and_only_that_is_read(dataset: Any, read: list[str]) -> None:
    first = look(dataset)
    assert (first.said, len(read)) == ("", 3)
    assert first.source
    assert (first.source["files"], first.source["bytes"]) == (3, 21)
    read.clear()
    assert look(dataset) == first
    assert read == []
    write("a/2.png", "another")
    write("b/2.png", "new")
    write("b/3.png", "new", OLD + 1)
    second = look(dataset)
    assert second.said == "photos: 2 files added, 1 changed since the last time"
    assert sorted(read) == ["photos/a/2.png", "photos/b/2.png", "photos/b/3.png"]
    assert second.source != first.source
    for name in ("b/2.png", "b/3.png"):
        Path("photos", name).unlink()
    write("a/2.png", "a/2.png", OLD + 2)
    assert look(dataset).said == "photos: 2 files removed, 1 changed since the last time"
    assert look(dataset).source == first.source


def test_the_digest_is_of_names_and_contents_alone(dataset: Any, read: list[str]) -> None:
    first = look(dataset)
    write("a/1.png", "a/1.png", OLD + 100)
    again = look(dataset)
    assert (again.source, again.said) == (first.source, "")
    assert read[3:] == ["photos/a/1.png"]
    Path("photos/a/1.png").rename("photos/a/0.png")
    assert look(dataset).source != first.source


def test_a_change_of_which_size_and_time_tell_nothing_is_seen(dataset: Any) -> None:
    first = look(dataset)
    before = Path("photos/a/1.png").stat()
    write("a/1.png", "other..")
    after = Path("photos/a/1.png").stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    assert look(dataset).source != first.source


def test_what_was_written_a_moment_ago_is_read_again(
    dataset: Any, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_UNSETTLED_NS", 10**12)
    first = look(dataset)
    assert (look(dataset), len(read)) == (first, 6)


def test_the_digest_is_that_of_sha256sum(dataset: Any) -> None:

    lines = "".join(
        f"{files.file_sha256(Path('photos', name))}  {name}\n" for name in ("a/1.png", "a/2.png", "b/1.png")
    )
    assert look(dataset).source == {"files": 3, "bytes": 21, "sha256": hashlib.sha256(lines.encode()).hexdigest()}


@pytest.mark.parametrize("damage", ["{", "[]", '{"place": 1, "files": {"a": [1]}}', "null", ""])
def test_what_is_kept_may_be_damaged_or_gone(damage: str, dataset: Any) -> None:
    first = look(dataset)
    Path("downloads/own.scan.json").write_text(damage)
    assert look(dataset) == first
    Path("downloads/own.scan.json").unlink()
    assert look(dataset) == first


def test_what_is_not_data_is_not_looked_at(dataset: Any) -> None:
    first = look(dataset)
    for name in (".hidden", "Thumbs.db", "__MACOSX/a", "a/.ipynb_checkpoints/1.png"):
        write(name, "x")
    assert look(dataset) == first


def test_a_link_is_refused_with_its_place(dataset: Any) -> None:
    Path("photos/a/link.png").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match=r"^photos: 'a/link\.png': a link, a pipe or a device"):
        look(dataset)


def test_data_that_are_not_here_are_taken_for_what_was_recorded(dataset: Any) -> None:
    first = look(dataset)
    Path("photos").rename("elsewhere")
    with pytest.raises(DataError, match=r"^datasets/own\.yaml: photos is not here\. Looked for: .*/photos"):
        look(dataset)
    known = dataset.model_copy(update={"recorded": Recorded(**first.source)})
    again = look(known)
    assert (again.source, again.path) == (first.source, None)
    assert again.said == "photos is not here: taken for what datasets/own.yaml recorded"


def test_an_experiment_finds_the_data_and_what_was_seen_in_the_main_checkout(
    dataset: Any, read: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = look(dataset)
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    read.clear()
    again = look(dataset)
    assert (again.source, again.said) == (first.source, "")
    assert again.path == tmp_path / "photos"
    assert read == []


def test_a_file_is_a_dataset_of_one(tmp_path: Path, dataset: Any) -> None:
    (tmp_path / "data.zip").write_bytes(b"PK")
    seen = look(dataset.model_copy(update={"path": "data.zip"}))
    assert seen.source
    assert (seen.source["files"], seen.source["bytes"]) == (1, 2)


def test_downloads_are_known_by_their_published_digests_and_what_is_made_by_none(tmp_path: Path) -> None:
    shipped = {name: scan.look(name, dataset_file.load_dataset(name), tmp_path) for name in ("mnist", "kmnist", "line")}
    assert shipped["line"].source is None
    assert shipped["mnist"].source
    assert shipped["kmnist"].source
    assert shipped["mnist"].source["sha256"] != shipped["kmnist"].source["sha256"]
    assert shipped["mnist"].source["files"] == 4
    assert list(tmp_path.iterdir()) == []

"""The files of a dataset: the same from a folder and from archives; what is hostile is refused with its place."""

import gzip
import io
import os
import pickle
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from keras_pipeline.core.errors import DataError
from keras_pipeline.sources.files import archives
from keras_pipeline.sources.source_files import Folder, open_source, open_unpacked

CONTENTS = {"b/2.png": b"two" * 1000, "a.csv": b"x,y\n1,2\n", "b/10.png": b"", "b/c/ä.png": bytes(range(256))}
LEFT_OUT = {".DS_Store": b"x", "__MACOSX/a.csv": b"x", "b/Thumbs.db": b"x", "b/.hidden/1.png": b"x"}
EXPECTED = ["a.csv", "b/10.png", "b/2.png", "b/c/ä.png"]


def make_folder(path: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def make_zip(path: Path, contents: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("b")
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, contents: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith(("gz",)) else "w") as archive:
        folder = tarfile.TarInfo("b")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in contents.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


FORMS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "own": make_folder, "own.zip": make_zip, "own.tar": make_tar, "own.tar.gz": make_tar, "own.tgz": make_tar,
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_and_an_archive_have_the_same_files(form: str, tmp_path: Path) -> None:
    source = open_source(FORMS[form](tmp_path / form, {**CONTENTS, **LEFT_OUT}), form, tmp_path / "kept")
    for one in (source, pickle.loads(pickle.dumps(source))):
        assert one.names() == EXPECTED
        for name in EXPECTED:
            assert one.size(name) == len(CONTENTS[name])
            with one.open(name) as file:
                assert file.read() == CONTENTS[name]
                file.seek(2)
                assert file.read(3) == CONTENTS[name][2:5]
                assert file.read() == CONTENTS[name][5:]
            assert one.local(name) == (tmp_path / "own" / name if form == "own" else None)
        with pytest.raises(DataError, match=f"^{form}: 'c.png' is not in it"):
            one.open("c.png")


def test_two_members_are_read_at_once(tmp_path: Path) -> None:
    for form in ("own.zip", "own.tar"):
        source = open_source(FORMS[form](tmp_path / form, CONTENTS), form, tmp_path)
        with source.open("b/2.png") as first, source.open("b/c/ä.png") as second:
            assert first.read(4) == b"twot"
            assert second.read(4) == bytes(range(4))
            assert first.read(2) == b"wo"


def test_a_tar_gz_is_unpacked_once_and_anew_where_it_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_tar(tmp_path / "own[1].tar.gz", CONTENTS)
    for _ in range(2):
        open_source(path, "own[1].tar.gz", tmp_path / "kept")
    assert capsys.readouterr().out.count("unpacked, once, to") == 1
    make_tar(path, {"other.png": b"x"})
    os.utime(path, (1, 1))
    assert open_source(path, "own[1].tar.gz", tmp_path / "kept").names() == ["other.png"]
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_one_file_is_a_source_of_one(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(b"a,b\n")
    source = open_source(tmp_path / "data.csv", "here/data.csv", tmp_path)
    assert source.names() == ["data.csv"]
    assert source.size("data.csv") == 4
    with source.open("data.csv") as file:
        assert file.read() == b"a,b\n"
    with pytest.raises(DataError, match="'other' is not in it"):
        source.size("other")


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"../a.png": b""}, r"'\.\./a\.png' leads out of it"),
        ({"a/../../b.png": b""}, "leads out of it"),
        ({"/etc/passwd": b""}, "leads out of it"),
        ({"a\nb.png": b""}, r"'a\\nb\.png': a control character"),
        ({"A.png": b"", "a.png": b""}, "'A.png' and 'a.png' are one name on some machines"),
        ({"\u00e9.png": b"", "e\u0301.png": b""}, "are one name on some machines"),
    ],
)
@pytest.mark.parametrize("form", ["own.zip", "own.tar"])
def test_a_hostile_name_is_refused(form: str, contents: dict[str, bytes], message: str, tmp_path: Path) -> None:
    source = open_source(FORMS[form](tmp_path / form, contents), form, tmp_path / "kept")
    with pytest.raises(DataError, match=f"^{form}: .*{message}"):
        source.names()
    assert not (tmp_path.parent / "a.png").exists()


@pytest.mark.parametrize("name", ["a\nb.png", "b\x07.png", "\udcff.png"])
def test_a_hostile_name_in_a_folder_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    Path(os.fsdecode(os.fsencode(f"{tmp_path}/own/{name}"))).write_bytes(b"")
    with pytest.raises(DataError, match=r"^own: .*a control character or no UTF-8 in a name"):
        open_source(tmp_path / "own", "own", tmp_path).names()


@pytest.mark.parametrize("kind", ["file link", "folder link", "pipe"])
def test_what_is_no_file_is_refused(kind: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "own", CONTENTS)
    if kind == "pipe":
        os.mkfifo(folder / "x")
    else:
        (folder / "x").symlink_to("/etc/passwd" if kind == "file link" else "/etc")
    with pytest.raises(DataError, match=r"^own: 'x': a link, a pipe or a device"):
        open_source(folder, "own", tmp_path).names()
    with pytest.raises(DataError, match=r"no regular file|is not in it"):
        Folder(folder, "own").open("x" if kind != "folder link" else "x/passwd")


def test_links_in_archives_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "l.zip", "w") as archive:
        member = zipfile.ZipInfo("link")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        with tarfile.open(tmp_path / "l.tar", "w") as archive:
            linked = tarfile.TarInfo("link")
            linked.type, linked.linkname = kind, "/etc/passwd"
            archive.addfile(linked)
        with pytest.raises(DataError, match=r"^l\.tar: 'link': a link, a pipe or a device"):
            open_source(tmp_path / "l.tar", "l.tar", tmp_path).names()
    with pytest.raises(DataError, match=r"^l\.zip: 'link': a link, a pipe or a device"):
        open_source(tmp_path / "l.zip", "l.zip", tmp_path).names()


def drain(file: BinaryIO) -> None:
    with file:
        while file.read(1 << 16):
            pass


def test_damaged_archives_are_refused_with_their_name(tmp_path: Path) -> None:
    whole = make_zip(tmp_path / "own.zip", CONTENTS).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"^cut\.zip: damaged, or no zip archive"):
        open_source(tmp_path / "cut.zip", "cut.zip", tmp_path).names()
    at = whole.index(b"a.csv") + 6
    (tmp_path / "flip.zip").write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    with pytest.raises(DataError, match=r"^flip\.zip/a\.csv: "):
        drain(open_source(tmp_path / "flip.zip", "flip.zip", tmp_path).open("a.csv"))
    tar = make_tar(tmp_path / "own.tar", CONTENTS).read_bytes()
    (tmp_path / "cut.tar").write_bytes(tar[:2000])
    with pytest.raises(DataError, match=r"^cut\.tar: damaged, or no tar archive"):
        open_source(tmp_path / "cut.tar", "cut.tar", tmp_path).names()
    packed = make_tar(tmp_path / "own.tar.gz", CONTENTS).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(packed[:-9])
    with pytest.raises(DataError, match=r"^cut\.tar.gz: ends early"):
        open_source(tmp_path / "cut.tar.gz", "cut.tar.gz", tmp_path / "kept")
    assert not list((tmp_path / "kept").iterdir())


@pytest.mark.parametrize("start", [b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"])
def test_other_archives_are_named(start: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(start + bytes(100))
    with pytest.raises(DataError, match=r"an archive that is not read\. Expected: \.zip, \.tar or \.tar\.gz"):
        open_source(tmp_path / "x", "x", tmp_path)


@pytest.mark.parametrize("kind", ["nothing", "dangling link", "pipe"])
def test_what_is_not_there_is_said(kind: str, tmp_path: Path) -> None:
    if kind == "pipe":
        os.mkfifo(tmp_path / "own")
    elif kind == "dangling link":
        (tmp_path / "own").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"^own: (not there|a link to what is not there|a pipe or a device)"):
        open_source(tmp_path / "own", "own", tmp_path)


def test_gzip_is_read_in_blocks_and_a_bomb_is_stopped(tmp_path: Path) -> None:
    content = os.urandom(3000) * 1000
    folder = make_folder(tmp_path / "own", {"a.gz": gzip.compress(content[:100]) + gzip.compress(content[100:])})
    with open_unpacked(Folder(folder, "own"), "a.gz") as file:
        assert file.read(10) == content[:10]
        file.seek(1_000_000)
        assert file.read(10) == content[1_000_000:1_000_010]
        file.seek(5)
        assert file.read() == content[5:]
    (folder / "bomb.gz").write_bytes(gzip.compress(bytes(100_000_000)))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"^own/bomb\.gz: unpacks to more than 200 times its size"):
        drain(open_unpacked(Folder(folder, "own"), "bomb.gz"))
    assert tracemalloc.get_traced_memory()[1] < 10 * archives.BLOCK
    tracemalloc.stop()


def test_a_zip_member_gives_no_more_than_the_archive_says(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "own.zip", {"a.csv": bytes(50_000_000)})
    source = open_source(path, "own.zip", tmp_path)
    assert source.size("a.csv") == 50_000_000
    tracemalloc.start()
    with source.open("a.csv") as file:
        assert len(file.read(100)) == 100
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    content = bytearray(make_zip(tmp_path / "own.zip", {"a.csv": b"x"}).read_bytes())
    at = (
        content.index(b"PK\1\2", content.index(b"a.csv"))
        if content.count(b"PK\1\2") == 1
        else content.rindex(b"PK\1\2")
    )
    content[at + 8] |= 1
    (tmp_path / "own.zip").write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"'a\.csv' is encrypted"):
        open_source(tmp_path / "own.zip", "own.zip", tmp_path).names()

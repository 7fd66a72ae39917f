"""A JSON file is what its type says, or is refused with the place, what was found and what was expected."""

import json
import os
import time
from pathlib import Path
from typing import Any, NotRequired

import pytest
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from keras_pipeline.core import json_files
from keras_pipeline.core.errors import DataError
from keras_pipeline.core.json_files import Count, Digest, Key, Moment, Name, Scalar, read_json


class Inner(TypedDict):
    devices: list[Name]


class Whole(TypedDict):
    key: Key
    sha256: dict[str, Digest]
    started: Moment
    strategy: Inner
    params: dict[str, Scalar]
    count: NotRequired[Count | None]


WHOLE = TypeAdapter(Whole)
GOOD: dict[str, Any] = {
    "key": "a" * 32,
    "sha256": {"model": "0" * 64},
    "started": 1.5,
    "strategy": {"devices": ["cpu", "gpu"]},
    "params": {"seed": 1, "train.loss": "x", "train.rate": 0.5, "train.fused": True},
    "count": 0,
    "of another version": [{"deep": None}],
}
END = " The stage 'train' writes it: delete it and run `dvc repro train`."


def refused(path: Path) -> str:
    with pytest.raises(DataError) as error:
        read_json(path, WHOLE, "train")
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert len(text) < 600 + len(str(path))
    return text.removeprefix(f"{path}: ")


def test_what_is_good_comes_back_as_it_is_with_what_no_type_names(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    for text in (json.dumps(GOOD), json.dumps(GOOD, indent=4), "\ufeff" + json.dumps(GOOD, ensure_ascii=False)):
        path.write_bytes(text.encode())
        assert read_json(path, WHOLE, "train") == GOOD


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"key": "../../x"}, 'key: got "../../x". Expected: text like ^[0-9a-f]{32}$.'),
        (
            {"key": "a" * 32 + "\n"},
            'key: got "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\\n". Expected: text like ^[0-9a-f]{32}$.',
        ),
        ({"key": None}, "key: got null. Expected: a valid string."),
        ({"sha256": []}, "sha256: got []. Expected: a valid dictionary."),
        ({"sha256": {"model": 3}}, "sha256.model: got 3. Expected: a valid string."),
        ({"started": "now"}, 'started: got "now". Expected: a valid number.'),
        ({"started": True}, "started: got true. Expected: a valid number."),
        ({"started": 1e300}, "started: got 1e+300. Expected: less than 253402300800."),
        ({"started": -1}, "started: got -1. Expected: greater than or equal to 0."),
        ({"strategy": {"devices": ["cpu", "../x"]}}, 'strategy.devices[1]: got "../x". Expected: text like '),
        ({"strategy": {}}, "strategy.devices is missing."),
        ({"params": {"seed": [1]}}, "params.seed: got [1]. Expected: a valid boolean or a valid integer or a valid "),
        (
            {"params": {"seed": None, "b": {}}},
            "params.seed: got null. Expected: a valid boolean or a valid integer or a valid number or a valid string "
            "(1 more like this).",
        ),
        ({"count": 1.0}, "count: got 1.0. Expected: a valid integer."),
        ({"count": -1}, "count: got -1. Expected: greater than or equal to 0."),
    ],
)
def test_the_first_place_is_told(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text(json.dumps({**GOOD, **change}))
    text = refused(tmp_path / "file.json")
    assert text.startswith(told)
    assert text.endswith(END)


@pytest.mark.parametrize("key", [key for key in GOOD if key not in ("count", "of another version")])
def test_a_key_that_is_lacking_is_named(key: str, tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text(json.dumps({name: value for name, value in GOOD.items() if name != key}))
    assert refused(tmp_path / "file.json") == f"{key} is missing.{END}"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it is empty. Expected: JSON."),
        (b'{"a": ', "line 1 column 7: Expecting value. Expected: JSON."),
        (b"{}{}", "line 1 column 3: Extra data. Expected: JSON."),
        (b"\xff\xfe{\0}\0", "byte 0 is not UTF-8. Expected: JSON."),
        (b'{"a":\n "\xe9"}', "byte 8 is not UTF-8. Expected: JSON."),
        (b'{"key": 1, "key": 2}', "'key' stands there twice. Expected: each key once."),
        (b'{"started": NaN}', "it holds NaN. Expected: numbers."),
        (b'{"started": -Infinity}', "it holds -Infinity. Expected: numbers."),
        (b'{"started": 1e400}', "it holds 1e400. Expected: numbers."),
        (b'{"started": 1' + b"0" * 5000 + b"}", "it holds the number 1000000"),
        (b"[" * 100_000, "it is nested 100000 deep. Expected: 16 at most."),
        (b'{"a":' * 20_000, "it is nested 20000 deep. Expected: 16 at most."),
        (b'{\n<<<<<<< HEAD\n"a": 1\n=======\n"a": 2\n>>>>>>> b\n}', "line 2 is git's mark of a conflict."),
        (b'{"name": "\\ud800"}', "it holds half a character"),
        (b"[]", "the whole: got []. Expected: a valid dictionary."),
        (b"3", "the whole: got 3. Expected: a valid dictionary."),
        (b'{"' + b"\\u0007[" * 99 + b'": 1}', "key is missing."),
        (b'{"name": "\\uDfFF"}', "it holds half a character (\\ud800 to \\udfff). Expected: text."),
        (b'{"params": {"a": [], "b": -9223372036854775808, "c": {}}}', "key is missing."),
        (b'{"count": 9223372036854775808}', "it holds the number 9223372036854775808. Expected: numbers of 64 bits"),
        (b'{"count": -9223372036854775809}', "it holds the number -9223372036854775809. Expected: numbers of 64 bits"),
    ],
)
def test_what_is_no_strict_json_is_refused_with_its_place(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "file.json").write_bytes(content)
    began = time.monotonic()
    text = refused(tmp_path / "file.json")
    assert time.monotonic() - began < 1
    assert text.startswith(told)
    assert text.endswith(END)


def test_text_of_two_halves_is_a_character(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text(json.dumps({**GOOD, "more": "\N{GRINNING FACE}"}))
    assert read_json(tmp_path / "file.json", WHOLE, "train")["more"] == "\N{GRINNING FACE}"  # type: ignore[typeddict-item]


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    assert refused(path) == "not there. The stage 'train' writes it: run `dvc repro train`."
    path.symlink_to("nowhere")
    assert refused(path).startswith("a link to a file that is not there. ")
    path.unlink()
    path.mkdir()
    assert refused(path) == (
        "a folder. Expected: a file. The stage 'train' writes it: remove it and run `dvc repro train`."
    )
    path.rmdir()
    os.mkfifo(path)
    assert refused(path).startswith("a pipe or a device. Expected: a file. ")
    path.unlink()
    path.symlink_to("/dev/zero")
    assert refused(path).startswith("a pipe or a device. ")


def test_a_file_of_any_size_is_not_read_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    with path.open("wb") as file:
        file.truncate(2**40)
    assert refused(path).startswith(f"{2**40} bytes. Expected: {2**28} at most. ")


def test_a_check_of_what_no_type_can_say_is_told_alike(tmp_path: Path) -> None:
    def check(value: Whole) -> None:
        json_files.refuse("history[0].epoch", value["count"], "1")

    (tmp_path / "file.json").write_text(json.dumps(GOOD))
    with pytest.raises(DataError) as error:
        read_json(tmp_path / "file.json", WHOLE, "study run", check=check)
    assert str(error.value) == (
        f"{tmp_path}/file.json: history[0].epoch: got 0. Expected: 1. `keras-pipeline study run` writes it: delete it "
        "and run it again."
    )

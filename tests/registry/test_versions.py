"""Names, numbers and aliases: what a user may call a version, and what the list says of them."""

import re
from typing import Any

import pytest

from keras_pipeline.core.errors import ParamsError
from keras_pipeline.registry import versions
from registered_runs import moved, registered


def test_one_class_against_the_rest_is_another_model_than_all_classes() -> None:
    assert versions.usual_name("mnist", "none") == "mnist"
    assert versions.usual_name("mnist", 0) == versions.check_name("mnist-0")


@pytest.mark.parametrize("name", ["mnist", "Mnist-2", "a", "0.1", "vv3", "version3", "latest-one", "a" * 100])
def test_a_name_is_taken(name: str) -> None:
    assert versions.check_name(name) == name


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "..", "-a", "a b", "ü", "a" * 101, "a'b", "a\nb", "models:/a"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ParamsError, match=r"^--name .*: expected 1 to 100 letters"):
        versions.check_name(name)


@pytest.mark.parametrize("name", ["latest", "LATEST", "v3", "V12"])
def test_what_mlflow_reads_as_a_version_is_no_name(name: str) -> None:
    with pytest.raises(ParamsError, match=rf"^--name {name}: MLflow reads 'latest', 'v1', 'v2' and so on as versions"):
        versions.check_name(name)


@pytest.mark.parametrize(("wanted", "number"), [("2", 2), ("v2", 2), ("champion", 1), ("candidate", 3)])
def test_a_version_is_found(wanted: str, number: int) -> None:
    assert versions.find_version(registered(1, 2, 3, champion=1, candidate=3), wanted).number == number


@pytest.mark.parametrize(
    ("model", "wanted", "said"),
    [
        (registered(1, 2), "latest", "'latest' is no version. MLflow reserves that word for the newest one. "
         "Expected: a number (1, 2), champion or candidate."),
        (registered(1, 2), "Champion", "'Champion' is no version. Expected: a number (1, 2), champion or candidate."),
        (registered(1), "0", "'0' is no version."),
        (registered(1), "9" * 10, "is no version."),
        (registered(1, 2), "7", "'digits' has no version 7: it was deleted, or never was. Expected: one of "
         "these: 1, 2."),
        (registered(), "candidate", "'digits' has no candidate. Expected: a version's number (there is none yet), or "
         "first `keras-pipeline model register`."),
        (registered(1, champion=1), "candidate", "'digits' has no candidate. Version 1 is the champion. Expected: "),
        (registered(1), "champion", "or first `keras-pipeline model promote`."),
        (registered(1, 2, journal_of=moved(("promote", 1, 3))), "champion", "'digits' has no champion. The journal "
         "left it at version 3; it was lost when that was deleted. Expected: a version's number (1, 2), or first "
         "`keras-pipeline model rollback`."),
        (registered(1, 2, journal_of=moved(("promote", 1, 2))), "champion", "it was taken off it."),
        (registered(1, champion=4), "champion", "'digits' has no version 4, which the alias champion names: it was"),
    ],
)  # fmt: skip
def test_a_version_that_is_not_there_is_said(model: Any, wanted: str, said: str) -> None:
    with pytest.raises(ParamsError, match=re.escape(said)):
        versions.find_version(model, wanted)


@pytest.mark.parametrize(
    "address", ["models:/", "models:/a", "models:/a/b/3", "models:/a@", "models:/a/latest", "models:/a/0"]
)
def test_what_is_no_address_of_a_version_is_refused(address: str) -> None:
    with pytest.raises(ParamsError, match=r"is no address of a version\. Expected: models:/NAME@champion"):
        versions.find_by_address(None, address)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("exports", "said"),
    [
        ({}, "(exports: none)"),
        ({"exports": "none"}, "(exports: none)"),
        ({"exports": "javascript, onnx_other"}, "(exports: javascript, onnx_other)"),
        ({"exports": "javascript, onnx"}, ""),
    ],
)
def test_without_an_onnx_export_a_version_cannot_be_served(exports: dict[str, str], said: str) -> None:
    found = versions.cannot_be_served(versions.Version(3, None, "", exports))
    assert (said in found) if said else found == ""
    assert not said or found.startswith("version 3 cannot be served: its run keeps no onnx export")


def test_the_list_shows_the_newest_first_and_what_is_wrong_with_aliases() -> None:
    good = registered(1, 2, champion=1, candidate=2, journal_of=moved(("promote", None, 1)))
    assert list(versions.list_lines(good)) == [
        "digits: 2 versions",
        "    2  2026-11-28 18:00:00Z  run 000000000000  accuracy 0.92; exports: unknown  @candidate",
        "    1  2026-11-28 18:00:00Z  run 000000000000  accuracy 0.91; exports: unknown  @champion",
    ]
    deleted = registered(1, champion=2, journal_of=moved(("promote", None, 2)))
    assert list(versions.list_lines(deleted))[-1] == "  the alias champion names version 2, which was deleted"
    lost = registered(1, journal_of=moved(("promote", None, 2)))
    assert list(versions.list_lines(lost))[-1] == (
        "  the champion is no version, the journal left it at version 2: its version was deleted, or a promotion was "
        "interrupted"
    )
    by_hand = registered(1, 2, champion=1, journal_of=moved(("promote", 1, 2)))
    assert "the champion is version 1, the journal left it at version 2: it was moved in MLflow's page" in "\n".join(
        versions.list_lines(by_hand)
    )
    [_, half] = versions.list_lines(registered())
    assert half == "  a registration was interrupted, or all versions were deleted: `keras-pipeline model register`"

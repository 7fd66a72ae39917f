"""Versions in the registry of a real store: registered, promoted, refused, taken back; deleted, half-made, at once."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import registered_runs
from keras_pipeline.cli import main
from keras_pipeline.registry import journal, versions
from keras_pipeline.tracking import store
from real_workspace import wait_until
from registered_runs import NAME
from tracking_fixtures import EXPERIMENT, MLFLOW_WARNINGS, Checkout

pytestmark = [pytest.mark.slow, MLFLOW_WARNINGS]
Output = pytest.CaptureFixture[str]


def model(output: Output, *words: str) -> tuple[int, str]:
    """What `keras-pipeline model` says to these words: its exit code, and all that it prints."""
    output.readouterr()
    try:
        code: Any = main.main(["model", *words])
    except SystemExit as end:
        code = end.code
    said = output.readouterr()
    assert "Traceback" not in said.err
    return code, said.out + said.err


def good(output: Output, *words: str) -> str:
    code, said = model(output, *words)
    assert code == 0, said
    return said


def client_of(project: Checkout) -> Any:
    return store.connect_store(project.where, EXPERIMENT).client


def aliases(project: Checkout) -> dict[str, int]:
    found = versions.require_model(client_of(project), NAME)
    return found.aliases


def run(project: Checkout, number: int, share: float = 0.9, **how: Any) -> str:
    """A run that MLflow keeps, in a folder of its own, which is given back; as `register` is told it."""
    folder = project.root / f"run{number}"
    registered_runs.write_run(folder, number, share)
    registered_runs.send_run(project.where, folder, **how)
    return folder.name


def test_from_a_run_to_the_champion_and_back(project: Checkout, capsys: Output) -> None:
    first, worse, same = run(project, 1, 0.9), run(project, 2, 0.6), run(project, 3, 0.9, exports=("onnx",))
    said = good(capsys, "register", first)
    assert "model:    digits version 1 is registered, the candidate: models:/digits/1\n" in said
    assert "note:     version 1 cannot be served: its run keeps no onnx export" in said
    client = client_of(project)
    kept = client.get_model_version(NAME, "1")
    [recorded] = client.search_runs(["1"], f"tags.`pipeline.key` = '{1:032x}'")
    assert kept.run_id == recorded.info.run_id
    assert kept.source.startswith("models:/m-")
    assert kept.tags["sha256.model"] == json.loads(Path(first, "models/run.json").read_text())["sha256"]["model"]
    assert "model_card.md" in [one.path for one in client.list_artifacts(kept.run_id)]
    assert "there was no champion to compare with" in good(capsys, "promote")
    assert aliases(project) == {"champion": 1}
    assert "version 1 is the champion already" in good(capsys, "promote", "1")

    good(capsys, "register", worse)
    code, said = model(capsys, "promote")
    assert code == 1
    assert "refused:  digits version 2; the champion stays version 1\n" in said
    numbers = r"-\d+\.\d\d points \[-\d+\.\d\d, -\d+\.\d\d\], McNemar's p < 1e-6: larger than chance"
    assert re.search(f"because:  the new version is worse: {numbers}", said)
    assert "way out:  keras-pipeline model promote 2 --force --reason TEXT; the journal keeps it\n" in said
    assert "exit 1 (certify or conformance: not as recorded; model promote: worse, refused)" in said
    assert aliases(project) == {"champion": 1, "candidate": 2}
    code, said = model(capsys, "promote", "--force")
    assert (code, aliases(project)["champion"]) == (2, 1)
    assert "--force: expected also --reason TEXT" in said
    good(capsys, "promote", "--force", "--reason", "it is ten times faster")
    assert aliases(project) == {"champion": 2}

    said = good(capsys, "register", same)
    assert "exports:  onnx\n" in said
    assert "cannot be served" not in said
    assert "the new version is better" in good(capsys, "promote", "candidate")
    good(capsys, "rollback", "--reason", "a complaint")
    good(capsys, "rollback")
    assert aliases(project) == {"champion": 1}
    code, said = model(capsys, "rollback")
    assert code == 2
    assert "'digits' has no champion before version 1 to go back to." in said

    registered_runs.send_exports(client, kept.run_id, Path(first), ("javascript", "onnx"))
    said = good(capsys, "register", first)
    assert "digits version 1 is registered already, the champion" in said
    assert "exports:  javascript, onnx\n" in said
    assert aliases(project) == {"champion": 1}

    said = good(capsys, "list", "--journal")
    assert re.search(
        r"(?m)^ +1  20.*test/accuracy 0\.\d{4} \[0\.\d{4}, 0\.\d{4}\].*exports: javascript, onnx  @champion$", said
    )
    moves = re.findall(r"(promote|rollback) +champion goes to version (\d), before (?:no version|version (\d))", said)
    assert moves == [
        ("promote", "1", ""), ("promote", "2", "1"), ("promote", "3", "2"), ("rollback", "2", "3"),
        ("rollback", "1", "2"),
    ]  # fmt: skip
    for reason in ("it is ten times faster", "a complaint"):
        assert f"  reason: {reason}\n" in said
    card = good(capsys, "card", "models:/digits/3")
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "| `onnx` | 2,048 | largest difference 1.0e-06 |" in card
    kept_card = client.download_artifacts(
        client.get_model_version(NAME, "3").run_id, "model_card.md", str(project.root)
    )
    assert Path(kept_card).read_text() == card
    assert good(capsys, "card", "run3") == card


def test_what_cannot_be_registered_is_said_and_leaves_nothing(project: Checkout, capsys: Output) -> None:
    registered_runs.write_run(project.root / "unsent", 1)
    code, said = model(capsys, "register", "unsent")
    assert code == 2
    assert "folder unsent: its run, key 00000000000000000000000000000001, is not in MLflow at sqlite:///" in said
    assert "`keras-pipeline track --again` sends it" in said
    other = run(project, 2, kept=7)
    code, said = model(capsys, "register", other)
    assert code == 3
    assert re.search(r"keeps another network than run2/models/model\.keras: layers/dense/vars/0 differs\. ", said)
    changed = run(project, 3)
    client = client_of(project)
    [found] = client.search_runs(["1"], f"tags.`pipeline.key` = '{3:032x}'")
    client.set_tag(found.info.run_id, "sha256.model", "0" * 64)
    code, said = model(capsys, "register", changed)
    assert code == 3
    assert "is of the network 000000000000…. Expected: " in said
    Path(changed, "models/model.keras").write_bytes(registered_runs.network(4))
    client.set_tag(found.info.run_id, "sha256.model", found.data.tags["sha256.model"])
    code, said = model(capsys, "register", changed)
    assert (code, "one of them was exchanged" in said) == (7, True)
    [output] = client.get_run(found.info.run_id).outputs.model_outputs
    registered_runs.write_run(Path(changed), 3)
    client.delete_logged_model(output.model_id)
    code, said = model(capsys, "register", changed)
    assert (code, "keeps no network, or only a part of one: there is nothing to register" in said) == (3, True)
    assert "no model is registered yet" in good(capsys, "list")
    code, said = model(capsys, "promote")
    assert code == 2
    assert "MLflow's registry has no model 'digits'. Expected: a name that `keras-pipeline model list` shows" in said
    code, said = model(capsys, "register", "nowhere")
    assert (code, "'nowhere': no folder with models/ and reports/ in it" in said) == (2, True)


def test_a_version_that_mlflow_keeps_without_its_run_is_removed(
    project: Checkout, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As MLflow does to one that is registered from a path."""
    first, client = run(project, 1), client_of(project)
    create = type(client).create_model_version

    def from_a_path(client: Any, name: str, source: str, run_id: str, **more: Any) -> Any:
        return create(client, name, str(project.root / first), None, **more | {"model_id": None})

    with monkeypatch.context() as patch:
        patch.setattr(type(client), "create_model_version", from_a_path)
        code, said = model(capsys, "register", first)
    assert code == 6
    assert re.search(
        r"registered version 1 of 'digits' as READY from the run none\. Expected: READY, from \w{32}", said
    )
    assert versions.require_model(client, NAME).versions == {}
    assert "digits version 2 is registered, the candidate" in good(capsys, "register", first)


def test_names_are_checked_before_anything_is_made(project: Checkout, capsys: Output) -> None:
    first = run(project, 1)
    for name in ("latest", "v3", "a/b", ""):
        code, said = model(capsys, "register", first, "--name", name)
        assert (code, said.startswith("--name")) == (2, True)
    client_of(project).create_registered_model("somebody's model")
    good(capsys, "register", first)
    assert good(capsys, "list").startswith("digits: 1 version\n")
    code, said = model(capsys, "register", first, "--name", "Digits")
    assert code == 2
    assert "MLflow's registry has 'digits', and names are case-sensitive" in said
    code, said = model(capsys, "promote", "--name", "Digits")
    assert code == 2
    assert "has no model 'Digits'. Did you mean 'digits'? Names are case-sensitive." in said
    assert versions.registered_names(client_of(project)) == [NAME]


def test_a_registration_that_was_interrupted_is_completed(project: Checkout, capsys: Output) -> None:
    first = run(project, 1)
    client = client_of(project)
    client.create_registered_model(NAME)
    assert "a registration was interrupted" in good(capsys, "list")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "move_alias", lambda *_: sys.exit("killed"))
        assert model(capsys, "register", first)[0] == "killed"
    assert aliases(project) == {}
    said = good(capsys, "register", first)
    assert "digits version 1 is registered already, the candidate" in said
    assert aliases(project) == {"candidate": 1}
    assert good(capsys, "register", first) == said
    assert len(versions.require_model(client, NAME).versions) == 1


def test_a_champion_that_was_deleted_is_told_and_the_one_before_restored(project: Checkout, capsys: Output) -> None:
    for number in (1, 2, 3):
        good(capsys, "register", run(project, number))
        good(capsys, "promote")
    client = client_of(project)
    client.delete_model_version(NAME, "2")
    client.delete_model_version(NAME, "3")  # with which MLflow drops the alias, without a word
    assert aliases(project) == {}
    said = good(capsys, "list")
    assert "the champion is no version, the journal left it at version 3: its version was deleted" in said
    code, said = model(capsys, "card", "models:/digits@champion")
    assert code == 2
    assert "The journal left it at version 3; it was lost when that was deleted." in said
    said = good(capsys, "rollback")
    assert "champion: digits version 1 (before: no version): models:/digits@champion" in said
    assert "because:  version 3 was deleted; version 2 was deleted\n" in said
    assert aliases(project) == {"champion": 1}
    entries = versions.require_model(client, NAME).journal
    assert [(one["action"], one["from"], one["to"]) for one in entries if one["alias"] == "champion"][3:] == [
        ("found", 3, None), ("rollback", None, 1)
    ]  # fmt: skip
    # An alias that names a deleted version all the same, as a store that was edited has it.
    with closing(sqlite3.connect(project.database)) as database, database:
        database.execute("UPDATE registered_model_aliases SET version = 3 WHERE alias = 'champion'")
    assert "the alias champion names version 3, which was deleted" in good(capsys, "list")
    good(capsys, "register", run(project, 4))
    assert "version 1, the last one, was deleted" not in good(capsys, "promote")
    assert aliases(project) == {"champion": 4}


def test_versions_that_cannot_be_compared_are_promoted_for_a_reason_only(project: Checkout, capsys: Output) -> None:
    good(capsys, "register", run(project, 1))
    good(capsys, "promote")
    client = client_of(project)
    made = client.create_model_version(NAME, str(project.root), None, await_creation_for=0)
    code, said = model(capsys, "promote", str(made.version))
    assert code == 3
    assert "versions 1 and 2 of 'digits' cannot be compared: version 2 was registered without its run" in said
    assert "Nothing was promoted." in said
    client.delete_run(client.get_model_version(NAME, "1").run_id)
    good(capsys, "register", run(project, 3))
    code, said = model(capsys, "promote")
    assert code == 3
    assert "cannot be compared: MLflow at sqlite:///" in said
    assert aliases(project) == {"champion": 1, "candidate": 3}
    good(capsys, "promote", "--force", "--reason", "the run was deleted by mistake")
    [*_, last] = versions.require_model(client, NAME).journal
    assert (last["to"], last["comparison"]) == (3, None)
    assert last["reason"].startswith("the run was deleted by mistake; MLflow at sqlite:///")


def test_two_processes_that_promote_at_once_do_it_one_after_the_other(project: Checkout, capsys: Output) -> None:
    """This one and another, which begin at the same moment."""
    for number in (1, 2, 3):
        good(capsys, "register", run(project, number))
    good(capsys, "promote", "1")
    program = (
        "import sys, time, pathlib; from keras_pipeline.cli import main; import mlflow\n"
        "pathlib.Path('ready').touch()\n"
        "while not pathlib.Path('go').exists(): time.sleep(0.001)\n"
        "sys.exit(main.main(['model', 'promote', '2']))\n"
    )
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    other = subprocess.Popen(
        [sys.executable, "-c", program], env=inherited, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_until(Path("ready").exists, 120, "the other process is there")
    Path("go").touch()
    good(capsys, "promote", "3")
    said = other.communicate(timeout=120)[0]
    assert other.returncode == 0, said
    entries = versions.require_model(client_of(project), NAME).journal
    moves = [(one["from"], one["to"]) for one in entries if one["alias"] == "champion"]
    assert moves in ([(None, 1), (1, 2), (2, 3)], [(None, 1), (1, 3), (3, 2)])
    assert aliases(project)["champion"] == moves[-1][1]


def test_a_store_that_is_down_is_said_within_seconds(
    project: Checkout, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered_runs.write_run(project.root / "run", 1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    for words in (("list",), ("promote",), ("rollback",), ("register", "run"), ("card", "models:/digits@champion")):
        began = time.monotonic()
        code, said = model(capsys, *words)
        assert (code, time.monotonic() - began < 10) == (6, True)
        assert said.startswith("MLflow at http://127.0.0.1:9 is not available (")
        assert "Start it or correct MLFLOW_TRACKING_URI" in said
    assert good(capsys, "card", "run").startswith("---\n")  # needs no store

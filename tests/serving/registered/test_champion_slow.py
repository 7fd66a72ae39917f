"""What the process that looks into MLflow's registry tells, and fetches."""

from pathlib import Path

import pytest

import tracking_fixtures
from keras_pipeline.core import files
from keras_pipeline.serving.registered.champion import Watched
from keras_pipeline.tracking import store
from registered_exports import Registry

pytestmark = [pytest.mark.slow, tracking_fixtures.MLFLOW_WARNINGS]


def test_a_version_is_fetched_once_and_anew_where_its_copy_was_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tracking_fixtures.checkout(tmp_path / "project")
    monkeypatch.chdir(made.root)
    opened = store.connect_store(made.where, tracking_fixtures.EXPERIMENT)
    opened.client.create_registered_model("digits")
    registry = Registry(made.root, opened.client, opened.experiment)
    number, cache = registry.register(), tmp_path / "cache"
    watched = Watched("models:/digits@champion", cache)
    [line] = watched.look()
    network = Path(line["folder"], "model.onnx")
    assert {**line, "folder": ""} == {"role": "champion", "name": "digits", "version": number, "folder": ""}
    assert network.is_relative_to(cache)
    assert list(watched.look()) == []
    digest = files.file_sha256(network)
    fetched = network.stat().st_ino
    assert list(Watched("models:/digits@champion", cache).look()) == [line]
    assert network.stat().st_ino == fetched
    network.write_bytes(b"harmed")
    assert list(Watched(f"models:/digits/{number}", cache).look()) == [line]
    assert files.file_sha256(network) == digest
    for address, said in (
        ("models:/digit@champion", "Did you mean 'digits'?"), ("models:/digits/999", "has no version 999"),
    ):  # fmt: skip
        [problem] = Watched(address, cache).look()
        assert (problem["code"], said in problem["problem"]) == (2, True), problem
    opened.client.set_model_version_tag("digits", number, "sha256.model", "0" * 64)
    [problem] = Watched("models:/digits@champion", cache).look()
    assert (problem["code"], "Expected: 000000000000…, which was registered" in problem["problem"]) == (7, True)

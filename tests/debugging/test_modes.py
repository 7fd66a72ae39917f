"""`keras-pipeline debug`: what it cannot do is refused."""

from pathlib import Path
from typing import Any

import pytest

import small
from keras_pipeline.cli import main as command_line
from keras_pipeline.core import files
from keras_pipeline.debugging import modes


def test_overfit_leaves_out_what_holds_a_network_back() -> None:
    layers = [
        {"layer": "Flatten"},
        {"layer": "Dense", "units": 8, "l2": 0.5},
        {"layer": "Dropout", "rate": 0.5},
        {"layer": "BatchNormalization"},
    ]
    chosen = small.params({"model.layers": layers, "train.batch_size": 50, "train.epochs": 7})
    bare = modes._without_regularization(chosen, {"train": 200})
    assert [one.model_dump()["layer"] for one in bare.model.layers] == ["Flatten", "Dense", "BatchNormalization"]
    assert "l2" not in bare.model.layers[1].model_dump(exclude_defaults=True)
    assert (bare.model.dropout, bare.model.l2) == (0.0, 0.0)
    assert (bare.train.schedule.name, bare.train.early_stopping.patience) == ("constant", 0)
    assert bare.train.epochs == 250
    assert bare.train.optimizer == chosen.train.optimizer


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        (
            ["one-batch"],
            {"train.strategy": "multi_worker", "train.workers": 2, "normalize.training_images": 1000},
            "params.yaml: train.workers: 2, but debug trains in one process. Set train.workers: 1 while you debug; "
            "batch_size is that of all workers, so the training stays the same.",
        ),
        (
            ["limited", "--share", "0.05"],
            {},
            "--share 0.05: 65 of 1293 training images do not make a batch of 100. Expected: a share of at least 0.078, "
            "or a smaller train.batch_size.",
        ),
        (
            ["limited"],
            {"normalize.scaling": "standard"},
            "normalized: made with normalize.scaling: unit, the params say standard. Run `dvc repro normalize`.",
        ),
        (
            ["limited"],
            {"fetch.dataset": "mnist"},
            "normalized: made with fetch.dataset: digits, the params say mnist. Run `dvc repro normalize`.",
        ),
    ],
)
def test_what_debug_cannot_do_is_refused_at_once(
    arguments: list[str],
    changes: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    images = {"train": 1293, "validation": 144, "test": 360}
    statistics = small.statistics(images, normalize=small.params().normalize.model_dump())
    files.write_json(tmp_path / "normalized" / "statistics.json", statistics)
    (tmp_path / "params.yaml").write_bytes(small.params_text({**small.QUICK, **changes}))
    assert command_line.main(["debug", "--normalized", "normalized", *arguments]) == (
        3 if "made with" in message else 2
    )
    assert capsys.readouterr().err.splitlines()[0] == message
    assert {path.name for path in tmp_path.iterdir()} == {"params.yaml", "normalized"}


@pytest.mark.parametrize("share", ["0", "1.5", "nan", "half"])
def test_a_share_that_is_none_is_refused(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.main(["debug", "limited", "--share", share])
    assert f"'{share}' is no share. Expected: a number above 0, 1 at most" in capsys.readouterr().err

"""The same images through every kind of dataset file: the same arrays, byte for byte. All of MNIST: tests/proofs."""

from pathlib import Path

import numpy as np
import pytest

from every_kind import EVERY, normalized, write

RANDOM = np.random.default_rng(0)
GIVEN = {
    split: (RANDOM.integers(0, 256, (count, 28, 28), np.uint8), RANDOM.integers(0, 10, count, np.uint8))
    for split, count in (("train", 300), ("test", 80))
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("idx")
    write("idx", folder, GIVEN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return normalized("own_idx", folder)


@pytest.mark.parametrize("name", [name for name in EVERY if name != "idx"])
def test_the_arrays_are_the_same(
    name: str, expected: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(name, tmp_path, GIVEN)
    monkeypatch.chdir(tmp_path)
    assert normalized(f"own_{name}", tmp_path) == expected
    assert np.array_equal(np.load("data/normalized/test_images.npy")[..., 0], GIVEN["test"][0])
    assert np.array_equal(np.load("data/normalized/test_labels.npy"), GIVEN["test"][1])
    splits = ("train", "validation", "test")
    assert set(expected) == {f"{split}_{what}.npy" for split in splits for what in ("images", "labels")}

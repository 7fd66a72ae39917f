import hashlib
import os
import re
from pathlib import Path

import numpy as np
import pytest

from keras_pipeline.config.datasets import DATASETS
from keras_pipeline.core.errors import DownloadError
from keras_pipeline.sources import formats
from keras_pipeline.sources.download import download_dataset
from keras_pipeline.sources.made import MADE, digits


@pytest.mark.parametrize("name", DATASETS)
def test_every_row_is_complete(name: str) -> None:
    row = DATASETS[name]
    assert row.name == name
    assert row.title
    assert row.licence
    assert len(set(row.class_names)) == (0 if row.columns else 10)
    assert row.shape == ((len(set(row.columns)) - 1,) if row.columns else (28, 28, 1))
    assert bool(row.files) == bool(row.mirrors) == (name not in MADE)
    for role, file in row.files.items():
        count = row.train_count if role.startswith("train") else row.test_count
        assert file.payload_size == (16 + 784 * count if "images" in role else 8 + count)
        assert re.fullmatch("[0-9a-f]{64}" if file.algorithm == "payload sha256" else "[0-9a-f]{32}", file.digest)


def test_no_two_files_share_a_digest() -> None:
    digests = [file.digest for row in DATASETS.values() for file in row.files.values()]
    assert len(set(digests)) == len(digests) == 12


@pytest.mark.slow
def test_digits_are_the_same_bytes_everywhere_and_keep_their_meaning() -> None:
    arrays = digits()
    small = arrays["train-images"].reshape(-1, 784).astype(float)
    assert {role: array.shape for role, array in arrays.items()} == {
        "train-images": (1437, 28, 28),
        "train-labels": (1437,),
        "test-images": (360, 28, 28),
        "test-labels": (360,),
    }
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.uint8)}
    assert (arrays["train-images"].min(), arrays["train-images"].max()) == (0, 255)
    shares = [np.bincount(arrays[f"{split}-labels"], minlength=10) for split in ("train", "test")]
    assert abs(shares[0] / 1437 - shares[1] / 360).max() < 0.003
    # Nearest class mean: mixed-up labels or broken pixels would fall to chance, 0.1.
    means = np.stack([small[arrays["train-labels"] == label].mean(0) for label in range(10)])
    test = arrays["test-images"].reshape(-1, 784).astype(float)
    guesses = ((test[:, None] - means) ** 2).sum(2).argmin(1)
    assert (guesses == arrays["test-labels"]).mean() > 0.85
    digest = hashlib.sha256(b"".join(formats.write_idx(array) for array in arrays.values())).hexdigest()
    assert digest == "37c303bbb99c15feaafe23cfc6123c099670bddd90b96274907afc14e507c89f"


@pytest.mark.slow
def test_enlarging_is_bilinear_with_half_pixel_centres() -> None:
    from scipy.ndimage import map_coordinates
    from sklearn.datasets import load_digits

    position = np.clip((np.arange(28) + 0.5) * 8 / 28 - 0.5, 0, 7)
    grid = np.meshgrid(position, position, indexing="ij")
    images = load_digits().images[:50]
    expected = np.stack([map_coordinates(image, grid, order=1) for image in images]) * 255 / 16
    arrays = digits()
    both = np.concatenate([arrays["train-images"], arrays["test-images"]]).reshape(1797, -1).astype(float)
    for image in expected.reshape(50, -1):
        assert abs(both - image).max(1).min() <= 0.5 + 1e-9


@pytest.mark.slow
@pytest.mark.skipif(
    not Path(os.environ.get("KERAS_PIPELINE_MIRRORS") or "/nowhere").is_dir(),
    reason="KERAS_PIPELINE_MIRRORS names no local folder with the real MNIST",
)
def test_the_real_mnist_and_no_other_row_takes_its_files(tmp_path: Path) -> None:
    mirror = os.environ["KERAS_PIPELINE_MIRRORS"]
    got = download_dataset(DATASETS["mnist"], tmp_path / "mnist", [mirror])
    labels = formats.read_idx(got["test-labels"], "labels")
    assert labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    images = formats.read_idx(got["train-images"], "images")
    assert images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    for other in ("fashion_mnist", "kmnist"):
        alone = DATASETS[other].__class__(**{**vars(DATASETS[other]), "mirrors": ()})
        with pytest.raises(DownloadError, match="another dataset's file"):
            download_dataset(alone, tmp_path / other, [mirror])
        assert list((tmp_path / other).iterdir()) == []

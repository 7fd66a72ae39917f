"""The datasets that are made of scikit-learn's."""

import hashlib

import numpy as np
import pytest

from keras_pipeline.sources.files import formats
from keras_pipeline.sources.kinds import made

pytestmark = pytest.mark.slow


def digits() -> dict[str, np.ndarray]:
    """As four arrays of bytes, by role."""
    return {
        f"{split}-{kind}": (array[..., 0] if kind == "images" else array).astype(np.uint8)
        for split, pair in made.digits().items()
        for kind, array in zip(("images", "labels"), pair, strict=True)
    }


def test_digits_are_the_same_bytes_everywhere_and_keep_their_meaning() -> None:
    arrays = digits()
    small = arrays["train-images"].reshape(-1, 784).astype(float)
    assert {role: array.shape for role, array in arrays.items()} == {
        "train-images": (1437, 28, 28),
        "train-labels": (1437,),
        "test-images": (360, 28, 28),
        "test-labels": (360,),
    }
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


def test_diabetes_are_scikit_learn_s_rows_unscaled() -> None:
    from sklearn.datasets import load_diabetes

    parts = made.diabetes()
    rows = {split: np.column_stack(pair) for split, pair in parts.items()}
    assert [one.shape for one in rows.values()] == [(353, 11), (89, 11)]
    bunch = load_diabetes(scaled=False)
    assert tuple(bunch.feature_names) == made.MAKERS["diabetes"].columns
    whole = np.column_stack([bunch.data, bunch.target])
    assert sorted(np.concatenate(list(rows.values())).tolist()) == sorted(whole.tolist())


@pytest.mark.parametrize("name", made.MAKERS)
def test_what_is_made_is_what_its_row_says(name: str) -> None:
    maker = made.MAKERS[name]
    for inputs, labels in maker.make().values():
        assert inputs.shape[1:] == maker.shape
        assert len(inputs) == len(labels)
    assert len(maker.columns) == (len(set(maker.columns)) if len(maker.shape) == 1 else 0)

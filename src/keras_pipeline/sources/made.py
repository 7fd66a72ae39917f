"""The datasets that have no remote files: computed here, or inside scikit-learn."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def digits() -> "dict[str, NDArray[np.uint8]]":
    """The arrays of the dataset `digits`, by role: images (n, 28, 28) in 0 … 255, labels (n,) in 0 … 9.

    scikit-learn's 1,797 images of 8 x 8 in 0 … 16, enlarged bilinearly (pixel centres aligned at half, edges
    repeated); four fifths train, stratified by class. Whole numbers throughout: the same bytes everywhere.
    """
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    small, labels = load_digits(return_X_y=True)
    small = small.astype(np.int64).reshape(-1, 8, 8)
    # New pixel i lies at (i + 1/2) * 8/28 - 1/2 = (4i - 5)/14 old pixels: weights are whole fourteenths.
    position = np.clip(4 * np.arange(28) - 5, 0, 7 * 14)
    weights = np.maximum(0, 14 - abs(position[:, None] - 14 * np.arange(8)))
    scale = 14 * 14 * 16
    images = ((weights @ small @ weights.T * 255 + scale // 2) // scale).astype(np.uint8)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels.astype(np.uint8), test_size=0.2, stratify=labels, random_state=0
    )
    return {
        "train-images": train_images,
        "train-labels": train_labels,
        "test-images": test_images,
        "test-labels": test_labels,
    }


def line() -> "dict[str, NDArray[np.floating[Any]]]":
    """The rows (n, 2) of the dataset `line`: x uniform in -1 … 1, y = 2x plus normal noise of deviation 0.05.

    Rounded to six decimals: the same bytes everywhere.
    """
    import numpy as np

    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, 1000)
    rows = np.round(np.stack([x, 2 * x + random.normal(0, 0.05, 1000)], axis=1), 6)
    return {"train.csv": rows[:800], "test.csv": rows[800:]}


def diabetes() -> "dict[str, NDArray[np.floating[Any]]]":
    """The rows (n, 11) of the dataset `diabetes` as they were measured: ten features and the target, four fifths train.

    Not scikit-learn's scaled features: their constants are of all rows, those of the test included.
    """
    import numpy as np
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import train_test_split

    features, target = load_diabetes(return_X_y=True, scaled=False)
    train, test = train_test_split(np.column_stack([features, target]), test_size=0.2, random_state=0)
    return {"train.csv": train, "test.csv": test}


MADE: "dict[str, Callable[[], Mapping[str, NDArray[Any]]]]" = {"digits": digits, "line": line, "diabetes": diabetes}
"""How the arrays, by role, of those datasets are made that have no remote files."""

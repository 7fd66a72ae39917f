"""Datasets that have no files: computed here, or inside scikit-learn. A row of MAKERS each."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import model_validator

from keras_pipeline.sources.kinds.kind import Columns, Examples, Kind, Line, Recognized, Split
from keras_pipeline.sources.source_files import SourceFiles
from keras_pipeline.strict_yaml.faults import KeyedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Parts = Mapping[Split, tuple[NDArray[Any], NDArray[Any]]]
    """Of train and test the inputs, images (n, height, width, channels) or rows (n, columns), and the labels."""


@dataclass(frozen=True)
class Maker:
    """How one is made; `shape`: of one input; `columns`: of a table, without the target."""

    make: "Callable[[], Parts]"
    shape: tuple[int, ...]
    columns: tuple[str, ...] = ()


def digits() -> "Parts":
    """scikit-learn's 1,797 images of 8 x 8 in 0 … 16, enlarged to 28 x 28 bilinearly (pixel centres aligned at half,
    edges repeated); four fifths train, stratified by class. Whole numbers throughout: the same bytes everywhere."""
    import numpy as np
    from sklearn.datasets import load_digits

    small, labels = load_digits(return_X_y=True)
    small = small.astype(np.int64).reshape(-1, 8, 8)
    # New pixel i lies at (i + 1/2) * 8/28 - 1/2 = (4i - 5)/14 old pixels: weights are whole fourteenths.
    position = np.clip(4 * np.arange(28) - 5, 0, 7 * 14)
    weights = np.maximum(0, 14 - abs(position[:, None] - 14 * np.arange(8)))
    scale = 14 * 14 * 16
    images = ((weights @ small @ weights.T * 255 + scale // 2) // scale).astype(np.uint8)[..., None]
    return _stratified(images, labels)


def line() -> "Parts":
    """x uniform in -1 … 1, y = 2x plus normal noise of deviation 0.05, in rows of both; rounded to six decimals: the
    same bytes everywhere."""
    import numpy as np

    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, 1000)
    rows = np.round(np.stack([x, 2 * x + random.normal(0, 0.05, 1000)], axis=1), 6)
    return {"train": (rows[:800, :1], rows[:800, 1]), "test": (rows[800:, :1], rows[800:, 1])}


def diabetes() -> "Parts":
    """As they were measured: ten features and the target, four fifths train.

    Not scikit-learn's scaled features: their constants are of all rows, those of the test included.
    """
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import train_test_split

    features, target = load_diabetes(return_X_y=True, scaled=False)
    train, test, train_target, test_target = train_test_split(features, target, test_size=0.2, random_state=0)
    return {"train": (train, train_target), "test": (test, test_target)}


def iris() -> "Parts":
    """Four measures and the species of 150 flowers, in the order of scikit-learn's; four fifths train, stratified."""
    from sklearn.datasets import load_iris

    return _stratified(*load_iris(return_X_y=True))


def wine() -> "Parts":
    """Thirteen measures and the cultivar of 178 wines; four fifths train, stratified."""
    from sklearn.datasets import load_wine

    return _stratified(*load_wine(return_X_y=True))


def _stratified(inputs: "NDArray[Any]", labels: "NDArray[Any]") -> "Parts":
    import numpy as np
    from sklearn.model_selection import train_test_split

    train, test, train_labels, test_labels = train_test_split(
        inputs, labels.astype(np.int64), test_size=0.2, stratify=labels, random_state=0
    )
    return {"train": (train, train_labels), "test": (test, test_labels)}


_IRIS = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")
_WINE = (
    "alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids",
    "nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue", "od280/od315_of_diluted_wines", "proline",
)  # fmt: skip
MAKERS = {
    "digits": Maker(digits, (28, 28, 1)),
    "line": Maker(line, (1,), ("x",)),
    "diabetes": Maker(diabetes, (10,), ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")),
    "iris": Maker(iris, (4,), _IRIS),
    "wine": Maker(wine, (13,), _WINE),
}
"""By name."""

if TYPE_CHECKING:
    MakerName = str
else:
    MakerName = Literal[tuple(MAKERS)]


class Made(Kind):
    """A dataset that is computed."""

    has_files = False

    kind: Literal["made"]
    maker: MakerName
    """how it is computed"""
    target: Line = "target"
    """of a table: what its last column is called, which is predicted"""

    @model_validator(mode="after")
    def _has_no_such_column(self) -> "Made":
        if self.target in MAKERS[self.maker].columns:
            raise KeyedError(("target",), f"'{self.target}' is the name of another column. Use another name.")
        return self

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of an image or a row."""
        return MAKERS[self.maker].shape

    def read(self, source: SourceFiles | None = None) -> Examples:
        """Train, then test."""
        import numpy as np

        maker = MAKERS[self.maker]
        parts = maker.make()
        labels = np.concatenate([own for _, own in parts.values()])
        inputs = np.concatenate([own for own, _ in parts.values()])
        splits: list[Split] = [split for split, (_, own) in parts.items() for _ in range(len(own))]
        thing = "row" if maker.columns else "image"
        places = [f"{thing} {index}" for index in range(len(labels))]
        if maker.columns:
            values = {name: inputs[:, index] for index, name in enumerate(maker.columns)}
            columns = Columns(dict(values), target=self.target)
            return Examples(columns, labels, places, splits)
        return Examples(_Made(inputs), labels, places, splits)

    @classmethod
    def recognize(cls, source: SourceFiles) -> Recognized | None:
        """None: it has no files."""
        return None


@dataclass
class _Made:
    images: "NDArray[np.uint8]"
    dtype: str = "|u1"
    low: float = 0
    high: float = 255

    def blocks(self, done: int = 0) -> "Iterator[tuple[NDArray[np.uint8], list[str | None]]]":
        if done < len(self.images):
            yield self.images[done:], [None] * (len(self.images) - done)

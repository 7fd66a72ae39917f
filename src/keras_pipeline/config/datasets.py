"""The datasets: one row each, with what the files must be and where they are had.

Adding a dataset of IDX files, of images of 28 x 28, is adding a row: its classes, counts, files and mirrors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from keras_pipeline.core.errors import DataError

IMAGE_SHAPE = (28, 28, 1)
"""Of every dataset of images: height, width, channels."""
MOST_CLASSES = 256
"""Of any dataset: a label is a byte."""


@dataclass(frozen=True)
class RemoteFile:
    """A gzip-compressed IDX file of a mirror.

    `algorithm` says what `digest` (hexadecimal) is over: "payload sha256" is the SHA-256 of the decompressed
    content, whatever the envelope; "gzip md5" the MD5 of the .gz, where its authors publish no other.
    `payload_size`: bytes after decompression.
    """

    name: str
    algorithm: Literal["payload sha256", "gzip md5"]
    digest: str
    payload_size: int


@dataclass(frozen=True)
class Dataset:
    """Grey images with labels 0 … len(class_names) - 1, of two classes at least, or a table whose last column is a
    number to be predicted from the others; split into train and test.

    `files` maps train-images, train-labels, test-images and test-labels to their remote files; `mirrors` are
    the public base addresses that hold them, in the order of asking. Both are empty for those in `MADE`. `columns` are
    a table's; it has no classes, and images have no columns.
    """

    name: str
    title: str
    licence: str
    class_names: tuple[str, ...]
    train_count: int
    test_count: int
    files: Mapping[str, RemoteFile]
    mirrors: tuple[str, ...]
    columns: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input: height, width and channels of an image, or the number of a table's features."""
        return (len(self.columns) - 1,) if self.columns else IMAGE_SHAPE


def _mnist_like(algorithm: Literal["payload sha256", "gzip md5"], *digests: str) -> dict[str, RemoteFile]:
    # MNIST and the two made to replace it have the same file names and sizes: only digests tell them apart.
    return {
        role: RemoteFile(name, algorithm, digest, size)
        for (role, name, size), digest in zip(
            (
                ("train-images", "train-images-idx3-ubyte.gz", 47_040_016),
                ("train-labels", "train-labels-idx1-ubyte.gz", 60_008),
                ("test-images", "t10k-images-idx3-ubyte.gz", 7_840_016),
                ("test-labels", "t10k-labels-idx1-ubyte.gz", 10_008),
            ),
            digests,
            strict=True,
        )
    }


_DIGITS = tuple("0123456789")
_ROWS = (
    Dataset(
        name="mnist",
        title="MNIST: handwritten digits (LeCun, Cortes, Burges)",
        licence="CC BY-SA 3.0",
        class_names=_DIGITS,
        train_count=60_000,
        test_count=10_000,
        files=_mnist_like(
            "payload sha256",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        mirrors=(
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
    ),
    Dataset(
        name="fashion_mnist",
        title="Fashion-MNIST: articles of clothing (Xiao, Rasul, Vollgraf; Zalando)",
        licence="MIT",
        class_names=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        train_count=60_000,
        test_count=10_000,
        files=_mnist_like(
            "gzip md5",
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        ),
    ),
    Dataset(
        name="kmnist",
        title="Kuzushiji-MNIST: cursive hiragana (ROIS-DS Center for Open Data in the Humanities)",
        licence="CC BY-SA 4.0",
        class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        train_count=60_000,
        test_count=10_000,
        files=_mnist_like(
            "gzip md5",
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
        mirrors=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    ),
    Dataset(
        name="digits",
        title="Handwritten digits (Alpaydin, Kaynak): the 8 x 8 ones inside scikit-learn, enlarged",
        licence="CC BY 4.0",
        class_names=_DIGITS,
        train_count=1437,
        test_count=360,
        files={},
        mirrors=(),
    ),
    Dataset(
        name="line",
        title="The line y = 2x with a little noise",
        licence="CC0 1.0",
        class_names=(),
        train_count=800,
        test_count=200,
        files={},
        mirrors=(),
        columns=("x", "y"),
    ),
    Dataset(
        name="diabetes",
        title="Diabetes: its progression after a year in 442 patients (Efron, Hastie, Johnstone, Tibshirani 2004)",
        licence="none stated; part of scikit-learn (BSD 3-Clause)",
        class_names=(),
        train_count=353,
        test_count=89,
        files={},
        mirrors=(),
        columns=("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6", "progression"),
    ),
)
DATASETS: dict[str, Dataset] = {row.name: row for row in _ROWS}
"""The rows by name, which is the value of `fetch.dataset` in params.yaml."""


def check_dataset(name: str, shape: Sequence[int], place: str) -> None:
    """Raise DataError, beginning with `place`, where no dataset has this name and inputs of this shape."""
    if name not in DATASETS or tuple(shape) != DATASETS[name].shape:
        raise DataError(
            f"{place}: of the dataset {name}, {' × '.join(map(str, shape))}. Expected: one of {', '.join(DATASETS)}, "
            "and its shape. The stage 'normalize' writes it: run `dvc repro normalize`."
        )

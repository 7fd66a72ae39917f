"""What the service of a checkout can do more: the nearest training images, and drawings that are kept on consent."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.data.splits import write_split
from keras_pipeline.data.statistics import write_statistics
from keras_pipeline.serving import checkout as checkouts
from keras_pipeline.serving.checkout import IMAGES, LABELS, Checkout
from keras_pipeline.serving.http.answers import Refused
from keras_pipeline.serving.network import Network, load_network
from keras_pipeline.sources.files.formats import read_idx
from served_network import CLASSES, TABLE, write_network

SCALING = Scaling("standard", 33.5, 78.25)
IMAGES_HERE = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
LABELS_HERE = np.arange(40) % 10


@pytest.fixture(scope="module")
def normalized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("normalized")
    digests: dict[str, str] = {}
    for split in ("train", "validation", "test"):
        digests |= write_split(folder, split, [IMAGES_HERE[..., np.newaxis]], LABELS_HERE)
    statistics: Any = {
        **small.described("mnist"), "task": "classes", "class_names": CLASSES["class_names"],
        "scaling": SCALING.constants(), "target": None, "images": dict.fromkeys(("train", "validation", "test"), 40),
        "sha256": digests, "normalize": {}, "class_counts": dict.fromkeys(("train", "validation", "test"), [4] * 10),
        "test_images_also_in_train": 40,
    }  # fmt: skip
    write_statistics(folder, statistics)
    return folder


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return load_network(write_network(tmp_path / "network", scaling=SCALING.constants()))


def asked(checkout: Checkout, network: Network, **changes: Any) -> int:
    wish = {"pixels": IMAGES_HERE[0].tolist(), "label": "7", "consent": True, **changes}
    wish = {key: value for key, value in wish.items() if value is not ...}
    return asyncio.run(checkout.keep(network, wish, False))["drawn"]


def test_the_nearest_training_images_come_first(normalized: Path, network: Network, tmp_path: Path) -> None:
    checkout = Checkout(normalized, tmp_path / "drawn")
    assert checkout.has_neighbours(network)
    raw = IMAGES_HERE[17].astype(int)
    raw[0, 0] = 255 - raw[0, 0]
    found = asyncio.run(checkout.neighbours(network, raw.astype(np.uint8).tobytes()))
    distances = np.sqrt(((IMAGES_HERE.astype(float) - raw) ** 2).sum(axis=(1, 2)))
    nearest = np.argsort(distances)[:8]
    assert [one["label"] for one in found] == [str(LABELS_HERE[index]) for index in nearest]
    assert np.allclose([one["distance"] for one in found], distances[nearest], rtol=1e-6)
    assert np.array_equal(found[0]["pixels"], IMAGES_HERE[17])


def test_other_data_are_no_neighbours(normalized: Path, network: Network, tmp_path: Path) -> None:
    checkout = Checkout(normalized, tmp_path / "drawn")
    for changes in ({"dataset": "other"}, {"scaling": {"name": "unit", "offset": 0.0, "divisor": 255.0}}):
        own = {"scaling": SCALING.constants(), **changes}
        assert not checkout.has_neighbours(load_network(write_network(tmp_path / "other", **own)))
    assert not checkout.has_neighbours(load_network(write_network(tmp_path / "table", TABLE)))
    assert not Checkout(tmp_path / "nowhere", tmp_path / "drawn").has_neighbours(network)


def test_drawings_are_kept_as_a_dataset_of_their_own(network: Network, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, tmp_path / "drawn")
    assert asked(checkout, network) == 1
    assert asked(checkout, network, label="0", pixels=IMAGES_HERE[1].tolist()) == 2
    assert asked(Checkout(tmp_path, tmp_path / "drawn"), network) == 3
    images, labels = (read_idx((tmp_path / "drawn" / name).read_bytes(), name) for name in (IMAGES, LABELS))
    assert np.array_equal(images, IMAGES_HERE[[0, 1, 0]])
    assert labels.tolist() == [7, 0, 7]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"consent": False}, "consent"), ({"consent": ...}, "consent"), ({"consent": 1}, "consent"),
        ({"consent": "true"}, "consent"), ({"label": "11"}, "label"), ({"label": 7}, "label"),
        ({"label": "../x"}, "label"),
        ({"pixels": [[1]]}, "pixels"), ({"pixels": None}, "pixels"), ({"other": 1}, "Expected"),
    ],
)  # fmt: skip
def test_nothing_is_kept_without_consent_or_of_another_form(
    network: Network, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(Refused, match=said) as refused:
        asked(Checkout(tmp_path, tmp_path / "drawn"), network, **changes)
    assert refused.value.status == 422
    assert not (tmp_path / "drawn").exists()


def test_so_many_are_kept_and_no_more(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = Checkout(tmp_path, tmp_path / "drawn")
    monkeypatch.setattr(checkouts, "MOST_DRAWN", 2)
    assert [asked(checkout, network) for _ in range(2)] == [1, 2]
    with pytest.raises(Refused, match="2 drawings are kept"):
        asked(checkout, network)
    monkeypatch.setattr(checkouts, "MOST_DRAWN", 10)
    monkeypatch.setattr(checkouts, "MOST_DRAWN_BYTES", 784 * 2)
    with pytest.raises(Refused):
        asked(checkout, network)


def test_an_image_whose_label_was_not_written_any_more_is_none(network: Network, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, tmp_path / "drawn")
    asked(checkout, network)
    before = (tmp_path / "drawn" / LABELS).read_bytes()
    asked(checkout, network, label="3")
    (tmp_path / "drawn" / LABELS).write_bytes(before)
    assert asked(checkout, network, label="5") == 2
    assert read_idx((tmp_path / "drawn" / LABELS).read_bytes(), "x").tolist() == [7, 5]

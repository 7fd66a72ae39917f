"""No cut and no flipped bit of an IDX file gives other content."""

import pytest

from idx_files import ENVELOPE, LABELS, flips
from keras_pipeline.core.errors import DataError
from keras_pipeline.sources.files import formats

pytestmark = pytest.mark.slow


def test_every_cut_of_a_label_file_ends_early() -> None:
    for length in range(2, len(ENVELOPE)):
        with pytest.raises(DataError, match=rf"ends early at byte {length}, after \d+ bytes of content"):
            formats.decompress(ENVELOPE[:length], "file", len(LABELS))


def test_no_single_bit_flip_gives_other_content() -> None:
    flips(list(range(8 * len(ENVELOPE))))

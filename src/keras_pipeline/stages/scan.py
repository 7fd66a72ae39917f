"""The stage scan: what the dataset's file says and what its data are, as a digest that fetch depends on.

It looks every time. Where nothing has changed it writes the same bytes, and DVC runs nothing.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from keras_pipeline.core import files
from keras_pipeline.sources import dataset_file
from keras_pipeline.sources.files import scan

if TYPE_CHECKING:
    from keras_pipeline.config.params import Params


def scan_dataset(params: "Params", found: Path, downloads: Path) -> None:
    """Write what `params.fetch.dataset` is now to the file `found`; what is kept from one time to the next goes to
    `downloads`. Raises DataError where its data are not here and nobody has recorded them."""
    name = params.fetch.dataset
    dataset = dataset_file.load_dataset(name)
    seen = scan.look(name, dataset, downloads)
    files.write_json(found, scan.described(name, dataset_file.definition_digest(dataset), seen.source))
    if seen.said:
        print(f"scan: {seen.said}")

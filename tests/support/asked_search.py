"""A search's file that is good, and how it is loaded."""

from pathlib import Path
from typing import Any

import small
from keras_pipeline.searches import search
from keras_pipeline.searches.search import Search

GOOD = """\
goal: Which learning rate?
maximize: val/accuracy
trials: 4
seed: 1
seeds: [2, 3]
space:
  train.optimizer.learning_rate: {low: 0.0001, high: 0.1, log: true}
  model.hidden_units: {choices: [[16], [32]]}
  train.batch_size: {low: 50, high: 150, step: 50}
"""


def load(folder: Path, text: str, changes: dict[str, Any] | None = None) -> Search:
    (folder / "s.yaml").write_text(text)
    (folder / "params.yaml").write_bytes(small.params_text({**small.QUICK, **(changes or {})}))
    return search.load_search(folder / "s.yaml", folder / "params.yaml")

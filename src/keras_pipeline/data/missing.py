"""The rules for missing values of a table: apart from the encoding, since params.yaml is checked without NumPy."""

from typing import Literal

Missing = Literal["median", "mean", "zero", "refuse"]
"""What stands for a missing number: of the training rows the median or the mean, or 0. A missing category is a value of
its own. `refuse`: neither is accepted."""

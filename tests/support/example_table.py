"""A table as people have them, made: 360 flowers of three species, numbers and categories with gaps, a column that
numbers the rows, and one that is the same throughout.

python tests/support/example_table.py flowers.csv
"""

import csv
import sys
from pathlib import Path

import numpy as np

ROWS = 360
SPECIES = ("aster", "iris", "rose")
COLOURS = {"aster": ("white", "violet"), "iris": ("violet", "blue"), "rose": ("red", "white")}
DATASET = """kind: table
path: flowers.csv
columns: {petal_length: number, petal_width: number, height: number, colour: category, site: category}
target: species
classes: [aster, iris, rose]
missing_values: [NA]
"""
"""datasets/flowers.yaml."""
HEADER = ("id", "petal_length", "petal_width", "height", "colour", "site", "unit", "species")


def write_flowers(path: Path, rows: int = ROWS) -> None:
    """The same bytes for the same number of rows."""
    random = np.random.default_rng(3)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for number in range(1, rows + 1):
            kind = int(random.integers(3))
            name = SPECIES[kind]
            length, width, height = random.normal([3 + kind, 1 + kind / 2, 40 - 5 * kind], [0.4, 0.2, 4]).round(2)
            colour = COLOURS[name][int(random.random() < 0.3)]
            site = ("north", "south", "wood's edge, left")[int(random.integers(3))]
            gaps = random.random(3) < 0.06
            cells = ("NA" if gaps[0] else length, width, "NA" if gaps[1] else height, "" if gaps[2] else colour, site)
            writer.writerow([number, *cells, "cm", name])


def write_project(folder: Path) -> None:
    """flowers.csv, and the file of the dataset."""
    write_flowers(folder / "flowers.csv")
    (folder / "datasets").mkdir()
    (folder / "datasets" / "flowers.yaml").write_text(DATASET, encoding="utf-8")


if __name__ == "__main__":
    write_flowers(Path(sys.argv[1]))

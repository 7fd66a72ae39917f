"""`dvc exp run` of a small training, the digits for three epochs with all logged: the seconds of each stage where
each imports for itself, where a process stands by from `train` on, and where it stood by before. A table.

python benchmarks/experiment.py [--rounds 5]

In a clone of this checkout, with another seed each time, so that nothing is taken from a cache; medians of wall time.
"""

import argparse
import os
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
STAGES = ("train", "evaluate", "export", "track")
OFF = {"KERAS_PIPELINE_STANDBY": "off"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {"each for itself": [], "the first": [], "the next": []}
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "checkout"
        _run(["git", "clone", "--quiet", str(HERE.parent), str(clone)], Path(folder), {})
        text = (clone / "params.yaml").read_text()
        text = re.sub(r"(?m)^( *dataset): \w+", r"\1: digits", text)
        (clone / "params.yaml").write_text(re.sub(r"(?m)^( *epochs): \d+", r"\1: 3", text))
        _run(["dvc", "repro", "--quiet", "normalize"], clone, OFF)
        for number in range(chosen.rounds):
            # A variable of its own for each round: the process of the one before stands by for another environment.
            own = {"ROUND_OF_THE_BENCHMARK": str(number)}
            for place, (name, environment) in enumerate(zip(found, (OFF, own, own), strict=True)):
                seed = f"seed={1000 + len(found) * number + place}"
                found[name].append(_seconds(["dvc", "exp", "run", "-S", seed], clone, environment))
    print("| seconds | " + " | ".join([*STAGES, "DVC", "all"]) + " | beside each for itself |")
    print("|---" * (len(STAGES) + 4) + "|")
    alone = [one["all"] for one in found["each for itself"]]
    for name, rows in found.items():
        medians = [statistics.median(row[stage] for row in rows) for stage in (*STAGES, "DVC", "all")]
        ratio = statistics.median(row["all"] / other for row, other in zip(rows, alone, strict=True))
        print(f"| {name} | " + " | ".join(f"{seconds:.1f}" for seconds in medians) + f" | {ratio:.2f} |")


def _seconds(command: list[str], folder: Path, environment: dict[str, str]) -> dict[str, float]:
    began = time.perf_counter()
    output = _run(command, folder, environment)
    found = {"all": time.perf_counter() - began}
    for stage in STAGES:
        found[stage] = float(re.findall(rf"(?m)^{stage}: (\d+\.\d) s:", output)[0])
    return {**found, "DVC": found["all"] - sum(found[stage] for stage in STAGES)}


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


if __name__ == "__main__":
    main()

"""Kills a training at random moments, again and again, until it is done, and compares the bytes: a program.

python tests/kill_loop.py --kills 50 --strategy none --strategy mirrored

Each training is a real process with the command line's own code, forked from one that has imported the frameworks
without starting them: so a kill costs seconds. Ends with 1 where a result differs from that of the training that
nobody disturbed.
"""

import argparse
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras  # noqa: F401
import mlflow  # noqa: F401
import tensorflow  # noqa: F401

import small
from keras_pipeline import commands


def forked(training: Path) -> int:
    process = os.fork()
    if process:
        return process
    os.chdir(training)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{training}/mlflow.db"
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os._exit(commands.main(["train", "--normalized", "../normalized"]))


def folder(path: Path, changes: dict[str, object]) -> Path:
    path.mkdir()
    (path / "params.yaml").write_bytes(small.params_text(changes))
    return path


def digest(folder: Path) -> str:
    files = [folder / "models" / name for name in ("model.keras", "history.csv")]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def begun(folder: Path, times: int) -> None:
    """Wait until the training of this process has said, as the so many'th of its folder, what it trains."""
    log = folder / "log"
    while not log.exists() or log.read_text().count("batches of") < times:
        time.sleep(0.02)


def whole(folder: Path) -> tuple[str, float]:
    process = forked(folder)
    begun(folder, 1)
    began = time.monotonic()
    _, status = os.waitpid(process, 0)
    assert status == 0, (folder / "log").read_text()
    return digest(folder), time.monotonic() - began


def killed(folder: Path, kills: int, seconds: float) -> tuple[str, int]:
    """The digest of a training that was killed at `kills` random moments (or as often as it could be)."""
    count = tries = 0
    while True:
        process, tries = forked(folder), tries + 1
        if count < kills:
            begun(folder, tries)
            time.sleep(random.uniform(0, 0.9 * seconds / (kills + 1)))
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        if os.WIFSIGNALED(status):
            count += 1
        else:
            assert status == 0, (folder / "log").read_text()
            return digest(folder), count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--strategy", action="append", choices=["none", "one_device", "mirrored"])
    parser.add_argument("--together", type=int, default=3, help="kills in one training, at most")
    chosen = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        small.normalized_digits(root, validation_share=0.2)
        strategies = chosen.strategy or ["none", "mirrored"]
        for strategy in strategies:
            changes = {
                "fetch.dataset": "digits",
                "normalize.validation_share": 0.2,
                "train.strategy": strategy,
                "train.devices": 2 if strategy == "mirrored" else 1,
                "train.epochs": 8,
                "train.batch_size": 16,
                "train.checkpoint_steps": 7,
            }
            number, left = 0, chosen.kills // len(strategies)

            expected, seconds = whole(folder(root / strategy, changes))
            print(f"{strategy}: {expected}, {seconds:.1f} s undisturbed", flush=True)
            while left > 0:
                number += 1
                found, count = killed(
                    folder(root / f"{strategy}-{number}", changes),
                    min(left, random.randint(1, chosen.together)),
                    seconds,
                )
                left -= count
                bad += found != expected
                print(f"{strategy}: {found} after {count} kills {'' if found == expected else 'DIFFERS'}", flush=True)
    print(f"{bad} results differ")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())

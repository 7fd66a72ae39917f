"""Kills one of two workers at random moments and sees that the whole job ends, by name and in time: a program.

python tests/support/kill_workers.py --kills 20

Each launch is the command line's own `keras-pipeline train` with real frameworks. Half the kills come while the
workers still start, half while they train; the chief and the other worker die in turn. Ends with 1 where a job lasted
60 seconds longer, left a process behind, ended with another code than 75, or did not name the worker.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

import small

STRATEGIES: list[dict[str, object]] = [
    {"train.strategy": "multi_worker"},
    {"train.strategy": "data_parallel", "train.backend": "jax"},
    {"train.strategy": "ddp", "train.backend": "torch", "train.batch_statistics": "per_replica"},
]
LIMIT = 60
START = 120
LONG = {
    "fetch.dataset": "digits",
    "normalize.validation_share": 0.2,
    "train.epochs": 10_000,
    "train.batch_size": 16,
    "train.early_stopping.patience": 0,
}


def worker(launcher: psutil.Process, rank: int) -> psutil.Process | None:
    for one in launcher.children():
        if one.environ().get("LOCAL_RANK") == str(rank):
            return one
    return None


def killed(folder: Path, strategy: dict[str, object], rank: int, *, trains: bool) -> tuple[bool, str]:
    """Whether all was as it has to be after a kill of this worker; what happened."""
    folder.mkdir()
    (folder / "params.yaml").write_bytes(small.params_text({**LONG, **strategy, "train.workers": 2}))
    path = folder / "log"
    with path.open("w") as log:
        job = psutil.Popen(
            [sys.executable, "-m", "keras_pipeline.cli.main", "train", "--normalized", "../normalized"],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    deadline = time.monotonic() + START
    while worker(job, rank) is None or (trains and "Epoch 2/" not in path.read_text()):
        assert time.monotonic() < deadline, path.read_text()
        assert job.poll() is None, path.read_text()
        time.sleep(0.05)
    time.sleep(random.uniform(0, 3))
    everybody = job.children(recursive=True)
    victim = worker(job, rank)
    assert victim is not None, path.read_text()
    victim.kill()
    began = time.monotonic()
    _, left = psutil.wait_procs([job, *everybody], timeout=LIMIT)
    seconds = time.monotonic() - began
    for one in left:
        one.kill()
    named = f"worker {rank} of 2" in path.read_text()
    good = not left and job.returncode == 75 and named
    return good, f"{seconds:.1f} s, {len(left)} left, code {job.returncode}, {'' if named else 'not '}named"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    chosen = parser.parse_args()
    ended = 0
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        small.normalized_digits(root, validation_share=0.2)  # a number of images that two can share
        for number in range(chosen.kills):
            strategy, rank, trains = STRATEGIES[number % 3], number // 3 % 2, number // 6 % 2 == 0
            good, text = killed(root / f"job{number}", strategy, rank, trains=trains)
            ended += good
            moment = "while it trained" if trains else "while it started"
            print(f"{strategy['train.strategy']}, worker {rank} killed {moment}: {text}", flush=True)
    print(f"{ended} of {chosen.kills} as they have to be")
    return int(ended < chosen.kills)


if __name__ == "__main__":
    sys.exit(main())

"""Checkpoints of processes that are killed while they save."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kept_checkpoints import IDENTITY, epoch, like, names, save
from keras_pipeline.training.checkpoints import GENERATIONS, Checkpoints

pytestmark = pytest.mark.slow

KILLS = 150
LEAST_INSIDE = 40
"""So many of the kills must leave a half-written file; about 90 do."""
SAVERS = f"""
import os, sys
from pathlib import Path
import numpy as np
from keras_pipeline.training.checkpoints import Checkpoints
training = Checkpoints(Path(sys.argv[1]), {IDENTITY!r})
for line in sys.stdin:  # a line: one process that saves until it is killed, going on from the epoch in the line
    if saver := os.fork():
        os.waitpid(saver, 0)
        os.write(1, b"ended 0\\n")
        continue
    epoch = int(line)
    os.write(1, f"started {{os.getpid()}}\\n".encode())
    while True:
        epoch += 1
        arrays = {{name: np.full(170_000, epoch, "float32") for name in {list(like(0))!r}}}
        os.write(1, f"begin {{epoch}}\\n".encode())
        training.save(arrays, {{"epoch": epoch}})
        os.write(1, f"done {{epoch}}\\n".encode())
"""


def test_every_kill_inside_a_save_leaves_a_usable_checkpoint(tmp_path: Path) -> None:
    training, draw = Checkpoints(tmp_path, IDENTITY), random.Random(1)
    reached, inside, between, stalest = 0, 0, 0, 0
    seen: set[int] = set()  # half-written files, by their time: the next saver may be killed before it begins one
    command = [sys.executable, "-c", SAVERS, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as savers:
        assert savers.stdin
        assert savers.stdout
        for _ in range(KILLS):
            print(reached, file=savers.stdin)
            last = {"begin": reached, "done": reached}
            for word, number in map(str.split, savers.stdout):
                if word == "ended":
                    break
                last[word] = int(number)
                if word == "begin" and last["begin"] == reached + 1:
                    time.sleep(draw.uniform(0, 0.03))
                    os.kill(last["started"], signal.SIGKILL)
            halves = {path.stat().st_mtime_ns for path in training.own.glob("temporary")}
            inside += bool(halves - seen)
            seen |= halves
            between += len(names(training.own)) - len(halves) > GENERATIONS
            found = epoch(training)  # all arrays and the progress of one generation
            if last["begin"] == 1 and found is None:
                continue  # the very first save was hit
            assert found is not None
            assert last["done"] <= found <= last["begin"] <= last["done"] + 1
            stalest = max(stalest, last["begin"] - found)
            reached = found
    print(f"{KILLS} kills: {inside} inside a write, {between} before the removal, {reached} generations")
    assert savers.returncode == 0
    assert inside >= LEAST_INSIDE
    assert stalest == 1
    save(training, reached + 1)
    assert len(names(training.own)) == GENERATIONS
    assert epoch(training) == reached + 1

"""Run as a program with a folder that has normalized digits, and changes of the params as JSON, by a name.

For each, trains once undisturbed, and once so that SIGKILL comes where the network is to be written and then DVC
removes what there is, as it does before it runs a stage again. Prints "NAME: the same" where the bytes are the same.
The trainings are processes forked from one that has imported the frameworks: so they cost seconds.
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import kill_loop
from killed_at import kill_at


def trained(training: Path) -> None:
    _, status = os.waitpid(kill_loop.forked(training), 0)
    assert status == 0, (training / "log").read_text()


def main(root: Path, variants: dict[str, dict[str, object]]) -> None:
    kill_loop.import_frameworks()
    for name, changes in variants.items():
        whole, killed = (kill_loop.folder(root / f"{name} {kind}", changes) for kind in ("whole", "killed"))
        trained(whole)
        _, status = os.waitpid(
            kill_loop.forked(
                killed, lambda: kill_at("keras_pipeline.training.recorded_training", "RecordedTraining.write")
            ),
            0,
        )
        assert os.WTERMSIG(status) == signal.SIGKILL, (killed / "log").read_text()
        shutil.rmtree(killed / "models")
        trained(killed)
        assert (killed / "log").read_text().count("Epoch 1/") == 1, "trained twice"
        assert kill_loop.digest(killed) == kill_loop.digest(whole), f"{name}: other bytes"
        print(f"{name}: the same", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))

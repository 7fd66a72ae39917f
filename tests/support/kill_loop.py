"""Kills trainings again and again until they are done, and compares what came of them: a program.

python tests/support/kill_loop.py --kills 50 --strategy none --strategy mirrored
python tests/support/kill_loop.py --end 30 --store 30

The first kills a training at random moments. It is a real process with the command line's own code, forked from one
that has imported the frameworks without starting them: so a kill costs seconds.

The second kills `dvc repro` in a checkout with the digits, once in each of so many copies of it, at moments spread
over the end of a training (from its last checkpoint until DVC has taken what it wrote, and half as long) and over the
begin of an MLflow store (from the first sign of mlruns/ until a training is told to it, and half as long). In turn
everything gets SIGKILL, the running stage alone gets it, and everything gets SIGINT, as by Ctrl-C. Then the same
command has to end as if nothing had happened: the same bytes, and one run in MLflow, with every epoch once.

Both end with 1 where a result differs from that of the training that nobody disturbed.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

import small
from keras_pipeline.cli import main as command_line
from real_workspace import Done, Run, Workspace, origin, wait_until

EPOCHS = 3
REPRODUCED = ("models/model.keras", "models/history.csv", "reports/metrics.json", "reports/predictions.npz")
WAYS = ("SIGKILL everything", "SIGKILL the stage", "SIGINT everything")


def import_frameworks() -> None:
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras  # noqa: F401
    import mlflow  # noqa: F401
    import tensorflow  # noqa: F401


def forked(training: Path, prepare: Callable[[], None] = lambda: None) -> int:
    process = os.fork()
    if process:
        return process
    os.chdir(training)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{training}/mlflow.db"
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    prepare()
    os._exit(command_line.main(["train", "--normalized", "../normalized"]))


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


def at_random(root: Path, strategies: list[str], kills: int, together: int) -> int:
    """How many trainings differ that are killed at random moments, so many times in all."""
    import_frameworks()
    small.normalized_digits(root, validation_share=0.2)
    bad = 0
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
        number, left = 0, kills // len(strategies)

        expected, seconds = whole(folder(root / strategy, changes))
        print(f"{strategy}: {expected}, {seconds:.1f} s undisturbed", flush=True)
        while left > 0:
            number += 1
            found, count = killed(
                folder(root / f"{strategy}-{number}", changes), min(left, random.randint(1, together)), seconds
            )
            left -= count
            bad += found != expected
            print(f"{strategy}: {found} after {count} kills {'' if found == expected else 'DIFFERS'}", flush=True)
    return bad


def template(root: Path) -> Workspace:
    """A checkout in which the digits are fetched and normalized, and nothing is trained."""
    made = origin(root / "template")
    made.set(fetch__dataset="digits", model__hidden_units=[64], train__epochs=EPOCHS, train__batch_size=32)
    (made.folder / "dvc.lock").unlink()
    made.good("dvc repro normalize")
    made.commit()
    return made


def opened(place: Workspace, around: str) -> bool:
    """Whether that is there from which on the moments are counted."""
    if around == "store":
        return (place.folder / "mlruns").exists()
    return any((place.folder / ".checkpoints").glob(f"*/{EPOCHS:08}.checkpoint"))


def closed(place: Workspace, around: str) -> bool:
    """Whether the time is over in which somebody may be killed."""
    if around == "store":
        return any((place.folder / "mlruns" / "alive").glob("*"))
    return "models/run.json" in (place.folder / "dvc.lock").read_text()


def stage(dvc: int) -> psutil.Process | None:
    """The stage that DVC runs now."""
    with suppress(psutil.Error):
        for one in psutil.Process(dvc).children(recursive=True):
            with suppress(psutil.Error):
                if any(word.endswith("keras-pipeline") for word in one.cmdline()):
                    return one
    return None


def started(place: Workspace, around: str) -> "subprocess.Popen[bytes]":
    """`dvc repro` at the first of the moments."""
    dvc, log = place.start("dvc repro")
    wait_until(lambda: opened(place, around) or dvc.poll() is not None, 300, f"{around}: {log}", every=0.001)
    return dvc


def windows(place: Workspace) -> dict[str, float]:
    """Over how many seconds the moments are spread, as a training takes them that nobody disturbs."""
    dvc, found = started(place, "store"), dict[str, float]()
    for around in ("store", "end"):
        wait_until(lambda around=around: opened(place, around), 300, around, every=0.001)
        began = time.monotonic()
        wait_until(lambda around=around: closed(place, around), 300, around, every=0.001)
        found[around] = time.monotonic() - began
    assert dvc.wait(300) == 0
    return {around: 1.5 * seconds for around, seconds in found.items()}


def disturbed(place: Workspace, around: str, seconds: float, way: str) -> tuple[str, Done]:
    """Run `dvc repro` and kill it so many seconds after the first moment; what ran then, and how the next one ended."""
    dvc = started(place, around)
    time.sleep(seconds)
    running = stage(dvc.pid)
    name = running.cmdline()[-1] if running else "dvc"
    with suppress(ProcessLookupError):
        if running and way == "SIGKILL the stage":
            running.kill()
        else:
            os.killpg(dvc.pid, signal.SIGINT if way.startswith("SIGINT") else signal.SIGKILL)
    dvc.wait(120)
    if running:
        running.wait(120)
    return name, place.run("dvc repro")


def bytes_of(place: Workspace) -> dict[str, str]:
    return {
        path: hashlib.sha256((place.folder / path).read_bytes()).hexdigest()[:16] if (place.folder / path).is_file()
        else "lacking"
        for path in REPRODUCED
    }  # fmt: skip


def of_the_training(run: Run) -> dict[str, list[int]]:
    """Each metric's steps, but for the machine's own."""
    return {name: steps for name, steps in run.epochs.items() if not name.startswith("system/")}


def faults(place: Workspace, again: Done, bytes_expected: dict[str, str], expected: Run) -> Iterator[str]:
    """What is not as if nobody had disturbed it."""
    if again.code:
        yield f"exit {again.code}"
    yield from (f"{path} differs" for path, digest in bytes_of(place).items() if digest != bytes_expected[path])
    runs = place.runs()
    if len(runs) != 1:
        yield f"{len(runs)} runs"
    for run in runs:
        if run.status != "FINISHED":
            yield run.status
        if of_the_training(run) != of_the_training(expected):
            yield f"other points: {of_the_training(run)}"
        if any(len(set(steps)) < len(steps) for steps in run.epochs.values()):
            yield "a step twice"
        if len(run.models) != 1:
            yield f"{len(run.models)} models"
    for folder in (".checkpoints", "mlruns/alive"):
        if left := [path.name for path in (place.folder / folder).glob("*")]:
            yield f"{folder}/ has {', '.join(left)}"


def at_moments(root: Path, counts: dict[str, int]) -> int:
    """How many copies of a checkout differ of which each is killed once, at moments spread over its window."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # who started this may ignore it, and so would they
    source, bad = template(root), 0
    undisturbed = source.copy(root / "undisturbed")
    spread = windows(undisturbed)
    digests, [run] = bytes_of(undisturbed), undisturbed.runs()
    print(f"moments over {spread['end']:.1f} s of the end and {spread['store']:.1f} s of the store")
    print(f"{'around':6} {'moment':>8}  {'killed':28} result", flush=True)
    for around, count in counts.items():
        for number in range(count):
            seconds = (number + random.random()) / count * spread[around]
            way = WAYS[number % len(WAYS)]
            place = source.copy(root / f"{around}-{number}")
            name, again = disturbed(place, around, seconds, way)
            found = list(faults(place, again, digests, run))
            bad += bool(found)
            print(f"{around:6} {seconds:+7.3f}s  {f'{way}: {name}':28} {'; '.join(found) or 'the same'}", flush=True)
            if found:
                print(again.output, file=sys.stderr)
            shutil.rmtree(place.folder)
    return bad


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--strategy", action="append", choices=["none", "one_device", "mirrored"])
    parser.add_argument("--together", type=int, default=3, help="kills in one training, at most")
    parser.add_argument("--end", type=int, default=0, metavar="N", help="moments around the end of a training")
    parser.add_argument("--store", type=int, default=0, metavar="N", help="moments around the first ones of a store")
    chosen = parser.parse_args()
    counts = {"end": chosen.end, "store": chosen.store}
    with tempfile.TemporaryDirectory() as temporary:
        if any(counts.values()):
            bad = at_moments(Path(temporary), counts)
        else:
            bad = at_random(Path(temporary), chosen.strategy or ["none", "mirrored"], chosen.kills, chosen.together)
    print(f"{bad} results differ")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())

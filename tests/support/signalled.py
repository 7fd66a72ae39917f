"""Asks commands of many processes to end, at random moments and in every way: a program.

python tests/support/signalled.py --count 40 --seed 1

`study run`, `search run`, `certify`, `debug one-batch` and `train` take turns, in copies of a checkout in which
`dvc repro` has ended. Each gets SIGINT, SIGTERM or SIGHUP at a moment drawn evenly from its time undisturbed: once or
twice, to the process that was begun alone, or to its group. It has to end with 75 or as by the signal, without a
traceback, a report of a bug (also of its children), a process or a temporary file left over; and the same `study run`,
`search run` and `train` then have to go on to their end. Ends with 1 where one does not.
"""

import argparse
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import TimeoutExpired

import kill_anywhere
from real_workspace import Workspace, origin

FILES = {
    "studies/signalled.yaml": "question: Which?\nseeds: [1, 2]\nbaseline: relu\n"
    "variants:\n  relu: {}\n  linear: {model.activation: linear}\n",
    "searches/signalled.yaml": "goal: Which?\nmaximize: val/accuracy\ntrials: 3\nseed: 1\nseeds: [2, 3]\n"
    "space:\n  train.optimizer.learning_rate: {low: 0.0001, high: 0.1, log: true}\n",
}
COMMANDS = {  # with each, whether it goes on where it was
    "study run signalled --jobs 2": True,
    "search run signalled --jobs 2": True,
    "certify": False,
    "debug one-batch": False,
    "train --no-resume --models other --checkpoints .other": True,
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
END_SECONDS, SECOND_SECONDS = 60.0, 10.0
"""So long after one request, and after a second one that is no part of the first, a command may still be there."""
BAD = re.compile(r"Traceback|this is a bug|Exception ignored|Fatal Python|Segmentation|terminate called|core dumped")


def said(place: Workspace, log: Path) -> Iterator[str]:
    """The lines of the command and of its children that no request to end may leave."""
    for path in (log, *place.folder.glob("studies/runs/*/log.txt")):
        text = path.read_text(errors="replace")
        if found := BAD.search(text):
            lines = text[max(0, found.start() - 300) : found.start() + 2500]
            yield f"{path.name} says {found[0]!r}:\n{lines}"


def left_over(place: Workspace, folder: Path, before: set[str]) -> Iterator[str]:
    """Processes and files."""
    deadline = time.monotonic() + 30
    while (alive := kill_anywhere.living(place)) and time.monotonic() < deadline:
        time.sleep(0.2)
    yield from (f"a process: {' '.join(one.cmdline())[:100]}" for one in alive)
    yield from (f"left in TMPDIR: {path.name}" for path in folder.iterdir())
    now = {name for name in kill_anywhere.files(place) if kill_anywhere.TEMPORARY.search(name)}
    yield from (f"left: {name}" for name in sorted(now - before) if not name.endswith(".lock"))
    others = sorted(kill_anywhere.temporary(place))  # of DVC and MLflow
    yield from (f"left: {name}" for name in others if not name.endswith(".lock"))


def asked(place: Workspace, command: str, seconds: float, chance: random.Random) -> tuple[str, list[str]]:
    """How the command was asked to end, and what is wrong with its end; "" where it had ended before."""
    folder = place.folder.parent / "temporary"
    before = {name for name in kill_anywhere.files(place) if kill_anywhere.TEMPORARY.search(name)}
    process, log = place.start("keras-pipeline", *command.split(), TMPDIR=str(folder))
    moment, number = chance.uniform(0, seconds), chance.choice(SIGNALS)
    group, again = chance.random() < 0.5, chance.choice([None, 0.0, chance.uniform(0, 1), chance.uniform(2, 6)])
    told = f"{number.name} after {moment:.2f} s to {'its group' if group else 'it alone'}"
    told += "" if again is None else f", again after {again:.2f} s"
    with suppress(TimeoutExpired):
        process.wait(moment)
        place.started.remove(process)
        return "", []

    def send() -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number) if group else os.kill(process.pid, number)

    send()
    at, allowed = time.monotonic(), END_SECONDS
    if again is not None:
        with suppress(TimeoutExpired):
            process.wait(again)
        if process.poll() is None:
            send()
            if again >= 2:
                at, allowed = time.monotonic(), SECOND_SECONDS
    found = []
    try:
        process.wait(allowed)
    except TimeoutExpired:
        found.append(f"it has not ended {allowed:.0f} s after the last request")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    told += f": exit {process.returncode} {time.monotonic() - at:.1f} s later"
    if process.returncode not in (0, 75, 128 + number, -number):
        found.append(f"exit {process.returncode}:\n{log.read_text()[-2000:]}")
    place.started.remove(process)
    return told, [*found, *said(place, log), *left_over(place, folder, before)]


def whole(source: Workspace, folder: Path, command: str) -> float:
    """The seconds of a command that nobody disturbs."""
    place = source.copy(folder / "checkout")
    started = time.monotonic()
    place.good("keras-pipeline", *command.split(), timeout=400)
    shutil.rmtree(folder)
    return time.monotonic() - started


def chain(
    source: Workspace, folder: Path, command: str, seconds: float, most: int, chance: random.Random
) -> Iterator[tuple[str, list[str]]]:
    """The command asked to end so many times, one after the other, and then left to its end."""
    place = source.copy(folder / "checkout")
    (folder / "temporary").mkdir()
    for _ in range(most):
        told, found = asked(place, command, seconds, chance)
        if not told:
            break
        yield told, found
    if COMMANDS[command]:
        done = place.run("keras-pipeline", *command.split(), timeout=400)
        bad = done.code or BAD.search(done.output)
        yield "", [f"afterwards: exit {done.code}:\n{done.output[-3000:]}"] if bad else []
    place.close()
    shutil.rmtree(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40, metavar="N", help="requests in all")
    parser.add_argument("--command", action="append", choices=list(COMMANDS), help="all of them, if none is named")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    chosen = parser.parse_args()
    chance, count, bad, number = random.Random(chosen.seed), 0, 0, 0
    commands, seconds = chosen.command or list(COMMANDS), dict[str, float]()
    print(f"seed {chosen.seed}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        source = origin(root / "source" / "checkout")
        source.set(fetch__dataset="digits", model__hidden_units=[16], train__epochs=3, train__batch_size=32)
        for path, text in FILES.items():
            (source.folder / path).write_text(text)
        (source.folder / "dvc.lock").unlink()
        source.commit()
        source.good("dvc repro", timeout=400)
        source.commit()
        while count < chosen.count:
            command = commands[number % len(commands)]
            if command not in seconds:
                seconds[command] = whole(source, root / "whole", command)
                print(f"{command}: {seconds[command]:.1f} s undisturbed", flush=True)
            most = min(chosen.count - count, 3)
            for told, found in chain(source, root / f"chain-{number}", command, seconds[command], most, chance):
                count += bool(told)
                bad += bool(found)
                print(f"{command}: {told or 'goes on'}: {'; '.join(found) or 'good'}", flush=True)
            number += 1
    print(f"{count} requests, {bad} ends are bad")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())

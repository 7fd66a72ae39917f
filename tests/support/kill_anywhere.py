"""Kills `dvc repro` at random moments, from its first to its last, again and again until it is done: a program.

python tests/support/kill_anywhere.py --kills 200 --seed 1

Each chain is a new checkout in which nothing has run: `dvc repro` is killed at a moment drawn evenly from the time
that an undisturbed one takes, begun again, killed again, ten times at most, and then left alone until it ends. It is
drawn too whether SIGKILL goes to all its processes, to DVC alone, or to the running stage alone. Chains take turns in
how they train: on one device and on two (mirrored), fused and step by step.

DVC writes dvc.lock and its list of locks in place: a kill in that moment leaves them torn, and DVC refuses them. Then
what `keras-pipeline doctor` says of the file is done, and told in the chain's line; so is what DVC was copying into its
cache, which keeps a temporary name there.

What is left has to be what the undisturbed one left: the same bytes, the same files and no other, in the checkout and
in the folder for temporary files; one run in MLflow, finished, with every epoch once; no process, no lease, no
checkpoint. Ends with 1 where it is not.
"""

import argparse
import fcntl
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

import kill_loop
from keras_pipeline.core import temporary as temporary_files
from real_workspace import Done, Run, Workspace, origin

WAYS = ("everything", "dvc", "the stage")
TOGETHER = 10
"""Kills of one chain, at most."""
CASES = {
    "none, fused": {"train__strategy": "none", "train__fused": True},
    "mirrored, fused": {"train__strategy": "mirrored", "train__devices": 2, "train__fused": True},
    "none, step by step": {"train__strategy": "none", "train__fused": False},
    "mirrored, step by step": {"train__strategy": "mirrored", "train__devices": 2, "train__fused": False},
}
TORN = re.compile(r"(?<=`)rm dvc\.lock(?= && dvc repro`)|rm -r \S*\.dvc/tmp/rwlock")
"""The command in what the doctor says of a file that DVC left torn."""
BUSY = re.compile("is being written by process|Unable to acquire lock|is busy")
NAMED_ANEW = re.compile(r"\.git/|mlruns/|\.dvc/cache/|\.dvc/tmp/|\.dvc/site|src/.*\.pyc$")
"""Files whose names are drawn, or the machine's own: looked at apart, if at all."""
TEMPORARY = re.compile(r"(^|/)(\.[^/]*\.[a-z0-9_]{8}|[^/]*\.(tmp|temp|part|lock)|tmp[a-z0-9_]{8})(/|$)")


@dataclass(frozen=True)
class Whole:
    """What a `dvc repro` leaves that nobody disturbs, and its seconds."""

    seconds: float
    digests: dict[str, str]
    run: Run
    files: set[str]
    temporary: set[str]


def repro(place: Workspace) -> dict[str, str]:
    """The variables with which `dvc repro` runs there: a folder for temporary files of its own."""
    folder = place.folder.parent / "temporary"
    folder.mkdir(exist_ok=True)
    return {"TMPDIR": str(folder)}


def files(place: Workspace) -> set[str]:
    found = {str(path.relative_to(place.folder)) for path in place.folder.rglob("*") if not path.is_dir()}
    return {name for name in found if not NAMED_ANEW.match(name)}


def temporary(place: Workspace) -> set[str]:
    """What looks like a temporary file in the folders whose other names are drawn."""
    paths = [path for folder in ("mlruns", ".dvc") for path in (place.folder / folder).rglob("*")]
    names = {str(path.relative_to(place.folder)) for path in paths}
    return {name for name in names if TEMPORARY.search(name) and not name.startswith(".dvc/cache/files/")}


def half_copied(place: Workspace) -> list[str]:
    """What DVC was killed while it copied it into its cache. It has a name of its own, and nothing reads it."""
    cache = place.folder / ".dvc" / "cache" / "files"
    return [f"DVC left {path.name} in its cache" for path in cache.rglob(".*.tmp")]


def living(place: Workspace) -> list[psutil.Process]:
    """The processes that work there."""
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if one.status() != psutil.STATUS_ZOMBIE and Path(one.cwd()).is_relative_to(place.folder):
                found.append(one)
    return found


def whole(source: Workspace, folder: Path) -> Whole:
    place = source.copy(folder / "checkout")
    began = time.monotonic()
    place.good("dvc repro", timeout=600, **repro(place))
    seconds = time.monotonic() - began
    [run] = place.runs()
    return Whole(seconds, kill_loop.bytes_of(place), run, files(place), temporary(place))


def killed(place: Workspace, seconds: float, way: str) -> str:
    """Kill a `dvc repro` after so many seconds: what ran then, "" where it had ended."""
    dvc, _ = place.start("dvc repro", **repro(place))
    with suppress(Exception):
        dvc.wait(seconds)
    if dvc.poll() is not None:
        place.started.remove(dvc)
        return ""
    running = kill_loop.stage(dvc.pid)
    with suppress(psutil.Error, ProcessLookupError, IndexError):
        name = running.cmdline()[-1] if running else "dvc"
        if way == "dvc":
            dvc.kill()
        elif way == "the stage" and running:
            running.kill()
        else:
            os.killpg(dvc.pid, signal.SIGKILL)
    dvc.wait(300)
    place.started.remove(dvc)
    return name


def ended(place: Workspace) -> tuple[Done, list[str]]:
    """`dvc repro` to its end; and what had to be waited for or repaired before."""
    busy, repaired = 0, list[str]()
    while True:
        done = place.run("dvc repro", timeout=900, **repro(place))
        if done.code and (commands := repairs(place)) and len(repaired) < 2:
            repaired += commands
            for command in commands:
                place.good(command)
        elif done.code and busy < 60 and BUSY.search(done.output):
            busy += 1
            time.sleep(2)
        else:
            return done, [*repaired, *([f"busy {busy} times"] if busy else [])]


def repairs(place: Workspace) -> list[str]:
    """What `keras-pipeline doctor` says to do about the files that DVC was killed while it wrote."""
    said = place.run("keras-pipeline doctor").output
    return [match[0] for match in TORN.finditer(said)]


def left_over(place: Workspace, expected: Whole) -> Iterator[str]:
    """Processes and files that an undisturbed one does not leave."""
    deadline = time.monotonic() + 30
    while (alive := living(place)) and time.monotonic() < deadline:
        time.sleep(0.2)
    yield from (f"a process: {' '.join(one.cmdline())[:100]}" for one in alive)
    now = files(place)
    yield from (f"lacking: {name}" for name in sorted(expected.files - now))
    yield from (f"left: {name}" for name in sorted(now - expected.files))
    yield from (f"left: {name}" for name in sorted(temporary(place) - expected.temporary))
    folders = (place.folder.parent / "temporary").iterdir()
    yield from (f"left in TMPDIR: {path.name}" for path in folders if not is_in_use(path))


def is_in_use(folder: Path) -> bool:
    """Whether it is the folder for temporary files of a process that is alive: of the one that stands by."""
    try:
        with (folder / temporary_files.MARK).open() as mark:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def chain(
    source: Workspace, folder: Path, expected: Whole, seconds: float, most: int, chance: random.Random
) -> tuple[list[str], ...]:
    """What was killed, one after the other, at moments within so many seconds, and what is wrong with the end."""
    place, kills = source.copy(folder / "checkout"), list[str]()
    while len(kills) < most:
        way = chance.choice(WAYS)
        if not (name := killed(place, chance.uniform(0, seconds), way)):
            break
        kills.append(f"{way}: {name}")
    done, notes = ended(place)
    found = [*kill_loop.faults(place, done, expected.digests, expected.run), *left_over(place, expected)]
    notes += half_copied(place)
    if done.code:
        print(done.output[-3000:], file=sys.stderr)
    place.close()
    return kills, found, notes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--case", action="append", choices=list(CASES), help="all of them, if none is named")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    chosen = parser.parse_args()
    chance, began, bad, kinds = random.Random(chosen.seed), time.monotonic(), 0, Counter[str]()
    print(f"seed {chosen.seed}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        root, sources, expected = Path(temporary), dict[str, Workspace](), dict[str, Whole]()
        for number, case in enumerate(chosen.case or CASES):
            source = origin(root / f"source-{number}" / "checkout")
            source.set(
                fetch__dataset="digits", model__hidden_units=[64], train__epochs=kill_loop.EPOCHS, train__batch_size=32,
                normalize__training_images=1280, **CASES[case],
            )  # fmt: skip
            (source.folder / "dvc.lock").unlink()
            source.commit()
            sources[case], expected[case] = source, whole(source, root / f"whole-{number}")
            print(f"{case}: {expected[case].seconds:.1f} s undisturbed", flush=True)
        number, seconds = 0, min(one.seconds for one in expected.values())
        while (left := chosen.kills - kinds.total()) > 0:
            case = list(sources)[number % len(sources)]
            folder = root / f"chain-{number}"
            began_chain = time.monotonic()
            kills, found, notes = chain(sources[case], folder, expected[case], seconds, min(left, TOGETHER), chance)
            if not kills:  # it takes less time than it did: a machine that was busy is no more
                seconds = min(seconds, time.monotonic() - began_chain)
            kinds.update(kills)
            bad += bool(found)
            told = "; ".join(found) or "the same"
            print(f"{case:22} {len(kills):2} kills {told} {' '.join(notes)} [{', '.join(kills)}]", flush=True)
            shutil.rmtree(folder)
            number += 1
    table = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    print(f"{kinds.total()} kills in {number} chains, {time.monotonic() - began:.0f} s: {table}")
    print(f"{bad} results differ")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())

"""Mutants of the shipped params, examples, studies and searches, read as the command line and DVC read them: a program.

python tests/support/mutated_params.py --count 100000 --others 10000 --seed 1

`count` mutants of params.yaml, `others` of the examples, studies and searches, shared by all cores. Each has to be
refused with a line and a column, or read with the values that DVC reads; without a traceback, within a second, in less
than 300 MB, and nothing is written, started or connected to meanwhile. It prints what it found, and ends with 1 where
that is a fault.
"""

import argparse
import math
import multiprocessing
import os
import random
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dvc.utils import serialize

from keras_pipeline.checks.params import CheckedParams, load_params
from keras_pipeline.checks.partial_params import lay_over
from keras_pipeline.config.params import Params, flatten
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.runs.run import Run
from keras_pipeline.searches.search import load_search
from keras_pipeline.strict_yaml.nodes import Node, parse_nodes
from keras_pipeline.strict_yaml.reader import parse_yaml
from keras_pipeline.studies.study import load_study
from places import ROOT, SHIPPED
from yaml_mutants import mutants

SECONDS, MEGABYTES = 1.0, 300
A_SHARE = 500
"""Mutants that one process reads in a row."""
SOURCES = {
    "params": [SHIPPED],
    "partial": sorted(ROOT.glob("examples/*.yaml")),
    "study": sorted(ROOT.glob("studies/*.yaml")),
    "search": sorted(ROOT.glob("searches/*.yaml")),
}
PLACED = re.compile(r"[\w./-]+\.yaml:[1-9]\d*:[1-9]\d*: [^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")
Differ = Callable[[Any], Iterator[str]]
"""Given DVC's reading of a file, where ours differs."""
ACTS = ("os.", "shutil.", "subprocess.", "socket.", "ctypes.dlopen", "webbrowser.")
"""Audit events, by how they begin, none of which belongs to reading a file."""
HARMLESS = {"os.listdir", "os.scandir", "os.walk"}


@dataclass
class Found:
    """What became of some mutants: how many of each kind were `read` and how many there were; the slowest's seconds;
    the most memory of a process that read them; each fault, with the mutant."""

    files: Counter[str] = field(default_factory=Counter)
    read: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    megabytes: float = 0.0
    faults: list[str] = field(default_factory=list)

    def add(self, other: "Found") -> None:
        self.files += other.files
        self.read += other.read
        self.seconds = max(self.seconds, other.seconds)
        self.megabytes = max(self.megabytes, other.megabytes)
        self.faults += other.faults

    def __str__(self) -> str:
        kinds = ", ".join(f"{self.files[kind]:,} {kind} files ({self.read[kind]:,} read)" for kind in self.files)
        return (
            f"{kinds}: {self.seconds:.2f} s the slowest, {self.megabytes:.0f} MB the largest process, "
            f"{len(self.faults)} faults"
        )


class Watch:
    """What this process does to the world while it is `on`: an audit hook, which nobody can take away again."""

    def __init__(self) -> None:
        self.on, self.seen = False, list[str]()
        sys.addaudithook(self)

    def __call__(self, event: str, given: tuple[Any, ...]) -> None:
        if not self.on or event in HARMLESS:
            return
        written = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
        if event.startswith(ACTS) or (event == "open" and isinstance(given[2], int) and given[2] & written):
            self.seen.append(f"{event} {given}")


def differences(root: Node, theirs: Any) -> Iterator[str]:
    """Where the tree of a file is not what DVC reads there."""
    ours = root.plain() or {}  # as DVC has an empty file
    if repr(ours) != repr(theirs):  # repr: 1 is not 1.0, nor true, and the order counts
        yield f"{ours} to us, {theirs} to DVC"


def typed_differences(params: Params, theirs: Any) -> Iterator[str]:
    """Which typed values are not DVC's. A whole number may stand for a decimal one."""
    for key, ours in flatten(params):
        value = theirs
        for part in key.split("."):
            value = value[part]
        if not isinstance(value, list) and (ours != value or isinstance(ours, bool) != isinstance(value, bool)):
            yield f"{key}: {ours!r} to us, {value!r} to DVC"


def load_alone(path: Path) -> Differ:
    """Load params; and then say where they differ from DVC's."""
    params = load_params(path)
    return lambda theirs: typed_differences(params, theirs)


def load_laid_over(path: Path) -> Differ:
    """A partial file laid over params.yaml; what is not in it stays as it is written."""
    before, after = lay_over(path, Path("params.yaml"))
    params = parse_yaml(after.encode(), "made", CheckedParams)

    def differ(_: Any) -> Iterator[str]:
        made = serialize.loads_yaml(after)
        yield from typed_differences(params, made)
        if made != merged(serialize.loads_yaml(before), serialize.load_yaml(path)):
            yield f"laid over, it gives {made}"
        if comments(before) - comments(after):
            yield f"lost: {comments(before) - comments(after)}"

    return differ


def merged(values: Any, others: Any) -> Any:
    """Blocks joined, all else replaced."""
    if not isinstance(values, dict) or not isinstance(others, dict):
        return others
    return values | {key: merged(values.get(key), other) for key, other in others.items()}


def comments(text: str) -> Counter[str]:
    return Counter(re.findall(r"#.*", text))


def load_runs(load: Callable[[Path, Path], list[Run]]) -> Callable[[Path], Differ]:
    """The same for a file of many runs, of which one is made a params.yaml, as for its training."""

    def loaded(path: Path) -> Differ:
        runs = load(path, Path("params.yaml"))

        def differ(_: Any) -> Iterator[str]:
            run = runs[len(path.read_bytes()) % len(runs)]
            made = run.text
            if parse_yaml(made.encode(), "made", CheckedParams) != run.params:
                yield f"{run.name}: its params.yaml, {made!r}, does not hold its params"
            yield from typed_differences(run.params, serialize.loads_yaml(made))

        return differ

    return loaded


LOADERS: dict[str, Callable[[Path], Differ]] = {
    "params": load_alone,
    "partial": load_laid_over,
    "study": load_runs(lambda path, params: list(load_study(path, params).runs)),
    "search": load_runs(lambda path, params: [load_search(path, params).baseline]),
}


def examine(kind: str, mutant: bytes, path: Path, watch: Watch) -> Iterator[str]:
    """What is wrong with how the mutant at `path` is read; ends with "read" where it is read at all."""
    before = _files()
    began, differ = time.thread_time(), None
    watch.on = True
    try:
        differ = LOADERS[kind](Path("asked.yaml" if kind != "params" else "params.yaml"))
    except ParamsError as error:
        watch.on = False
        *lines, last = str(error).split("\n")
        if not lines or last != "Nothing was changed." or error.exit_code != 2:
            yield f"no refusal: {error}"
        yield from (f"no place: {line}" for line in lines if not PLACED.fullmatch(line))
    except BaseException as error:
        watch.on = False
        yield f"{type(error).__name__}: {error}"
    watch.on = False
    if (seconds := time.thread_time() - began) > SECONDS:
        yield f"{seconds:.1f} s"
    yield from watch.seen
    watch.seen.clear()
    if (after := _files()) != before:
        yield f"written: {after}"
    root, faults = parse_nodes(mutant)
    if root is not None and not faults:  # also where the schema refuses
        try:
            theirs = serialize.load_yaml(path)
            yield from differences(root, theirs)
            yield from differ(theirs) if differ else ()
        except Exception as error:
            yield f"good to us, and to DVC {type(error).__name__}: {error}"
    if differ:
        yield "read"


def read_share(share: tuple[str, int, int]) -> Found:
    """What becomes of so many mutants of a kind, drawn with this seed; in a folder of their own."""
    kind, count, seed = share
    found, watch = Found(), _watch()
    chance = random.Random(f"{kind} {seed}")
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        Path("params.yaml").write_bytes(SHIPPED.read_bytes())
        for number in range(count):
            source = chance.choice(SOURCES[kind])
            own, path = source.read_bytes(), Path("params.yaml" if kind == "params" else "asked.yaml")
            if kind != "params":  # of two files, one is broken: more often the study's or search's own
                path.write_bytes(own)
                Path("params.yaml").write_bytes(SHIPPED.read_bytes())
                if chance.random() < 0.25:
                    own, path = SHIPPED.read_bytes(), Path("params.yaml")
            if chance.random() < 0.5:
                own = re.sub(rb" *#.*", b"", own)
            [mutant] = mutants(own, 1, chance.getrandbits(64))
            path.write_bytes(mutant)
            began = time.thread_time()
            said = list(examine(kind, mutant, path, watch))
            found.seconds = max(found.seconds, time.thread_time() - began)
            found.files[kind] += 1
            found.read[kind] += "read" in said
            found.faults += [f"{kind} {seed}.{number}: {one}\n{mutant!r}" for one in said if one != "read"]
    found.megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def _files() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def _watch() -> Watch:
    if not _WATCHES:
        for kind, load in LOADERS.items():  # what is imported once is no act of a later file
            with tempfile.TemporaryDirectory() as folder, chdir(folder):
                Path("params.yaml").write_bytes(SHIPPED.read_bytes())
                Path("asked.yaml").write_bytes(SOURCES[kind][0].read_bytes())
                load(Path("params.yaml" if kind == "params" else "asked.yaml"))
        _WATCHES.append(Watch())
    return _WATCHES[0]


_WATCHES: list[Watch] = []


def shares(counts: dict[str, int], seed: int) -> Iterator[tuple[str, int, int]]:
    for kind, count in counts.items():
        for number in range(math.ceil(count / A_SHARE)):
            yield kind, min(A_SHARE, count - number * A_SHARE), seed * 1_000_000 + number


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="mutants of params.yaml")
    parser.add_argument("--others", type=int, default=100, help="mutants of examples, studies and searches")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    counts = {"params": chosen.count, **dict.fromkeys(("partial", "study", "search"), chosen.others // 3)}
    found, began = Found(), time.monotonic()
    with multiprocessing.get_context("spawn").Pool() as pool:
        for one in pool.imap_unordered(read_share, shares(counts, chosen.seed)):
            found.add(one)
            for fault in one.faults:
                print(fault, flush=True)
    if found.megabytes > MEGABYTES:
        found.faults.append("memory")
    print(f"{found}; {time.monotonic() - began:.0f} s")
    return int(bool(found.faults))


if __name__ == "__main__":
    sys.exit(main())

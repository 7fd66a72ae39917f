"""The files of a finished pipeline changed as a hand, a disk or an editor changes them, and what each verb makes of it.

As a program: `python tests/support/mutated_files.py --count N --seed S` tries N random mutants and prints what came of
them.
"""

import argparse
import contextlib
import copy
import functools
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

import finished_pipeline
from keras_pipeline.checks import params as params_checks
from keras_pipeline.cli import main
from keras_pipeline.comparison import two_runs
from keras_pipeline.core import files
from keras_pipeline.core.errors import StoppedError
from keras_pipeline.distribution import strategies
from keras_pipeline.models import frameworks
from keras_pipeline.records import git, provenance, record
from keras_pipeline.tracking import mirror

REFUSED = (2, 3, 7)
"""The exit codes of a file that is not as it must be."""
ACCEPTED = (0, 1, 75)
"""Nothing to say, certify's no, and what would go on in a framework."""
REMEDIES = ("dvc repro", "dvc checkout", "keras-pipeline", "Train again")
COMPARED = ["compare", ".", "."]
VERBS: dict[str, list[list[str]]] = {
    "data/raw/dataset.json": [["normalize"], ["certify", "--quick"]],
    "data/normalized/statistics.json": [["train"], ["evaluate"], ["debug", "one-batch"], ["status"]],
    "models/run.json": [["status"], ["evaluate"], ["track"], COMPARED, ["certify", "--quick"]],
    "models/history.csv": [["evaluate"], ["certify", "--quick"]],
    "models/model.keras": [["evaluate"], ["track"], ["status"], ["certify", "--quick"]],
    "models/export/export.json": [["status"], ["track"]],
    "reports/metrics.json": [["status"], ["track"], COMPARED],
    "reports/predictions.npz": [["track"], COMPARED, ["status"]],
    "data/normalized/train_images.npy": [["train"], ["debug", "one-batch"]],
    "data/normalized/validation_labels.npy": [["train"]],
    "data/normalized/test_images.npy": [["evaluate"]],
    "data/normalized/test_labels.npy": [["evaluate"]],
}
"""Which verbs read a file; they are as in the folder of a pipeline."""
DROPPED = object()
VALUES: dict[str, Any] = {
    "dropped": DROPPED,
    "null": None,
    "word": "word",
    "text": "../../x\x1b[31m\n",
    "list": [],
    "object": {"a": 1},
    "number": -7,
    "large": 2**62,
    "fraction": 0.3125,
    "yes": True,
    "deep": functools.reduce(lambda inner, _: [inner], range(40), 0),
}
"""What takes the place of a value in a JSON file."""


class ProblemError(AssertionError):
    """A verb made of a mutant what it should not."""


@dataclass(frozen=True)
class Mutant:
    """`content` in place of a file; `what` was done, and where."""

    path: str
    what: str
    content: bytes


def json_mutants(path: str, value: Any) -> Iterator[Mutant]:
    """Every key of every depth with each of VALUES in its place."""
    for place in _places(value):
        for name, other in VALUES.items():
            changed = copy.deepcopy(value)
            *above, last = place or [None]
            block = functools.reduce(lambda part, key: part[key], above, changed)
            if last is None:
                changed = {} if other is DROPPED else other
            elif other is DROPPED:
                del block[last]
            elif block[last] == other:
                continue
            else:
                block[last] = other
            yield Mutant(path, f"{'.'.join(map(str, place)) or 'all'} {name}", json.dumps(changed).encode())


def _places(value: Any) -> Iterator[tuple[Any, ...]]:
    yield ()
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        for place in _places(inner):
            yield key, *place


def text_mutants(path: str, content: bytes) -> Iterator[Mutant]:
    """What happens to a file of text as a whole."""
    lines = content.split(b"\n")
    for what, changed in {
        "empty": b"",
        "cut": content[: len(content) // 2],
        "without its end": content[:-3],
        "in UTF-16": content.decode().encode("utf-16"),
        "with a byte that is no text": content[:20] + b"\xff" + content[20:],
        "with NUL": content[:20] + b"\0" + content[20:],
        "with git's marks": b"<<<<<<< HEAD\n" + content + b"=======\n" + content + b">>>>>>> theirs\n",
        "twice": content + content,
        "a line twice": b"\n".join([*lines[:2], *lines[1:]]),
        "HTML": b"<!doctype html><html>",
        "brackets": b"[" * 100_000,
        "NaN": content.replace(b"0.5", b"NaN"),
        "infinite": content.replace(b"0.5", b"1e999"),
        "commas": content.replace(b".", b","),
        "a number of 5000 digits": content.replace(b"1", b"1" * 5000, 1),
    }.items():
        if changed != content:
            yield Mutant(path, what, changed)


def array_mutants(path: str, array: Any) -> Iterator[Mutant]:
    """A .npy file of another kind, order, shape or values."""
    other = array.astype(np.float64 if array.dtype != np.float64 else np.int64)
    flat = array.reshape(-1).copy()
    for what, changed in {
        "kind": other,
        **({"byte order": array.astype(array.dtype.newbyteorder(">"))} if array.itemsize > 1 else {}),
        "order": np.asfortranarray(array) if array.ndim > 1 else array[::-1].copy(),
        "count": array[:-1],
        "none": array[:0],
        "shape": array.reshape(-1, 1, 1),
        "pickled": array.astype(object),
        "text": array.astype(str)[:2],
        **({"negative": _with(flat, -3).reshape(array.shape)} if array.dtype.kind != "u" else {}),
        **({"too large": _with(flat, 10).reshape(array.shape)} if array.dtype.kind != "u" else {}),
        **({"NaN": _with(flat, np.nan).reshape(array.shape)} if array.dtype.kind == "f" else {}),
    }.items():
        content = io.BytesIO()
        np.save(content, changed, allow_pickle=True)
        yield Mutant(path, what, content.getvalue())
    content = io.BytesIO()
    np.save(content, array)
    whole = content.getvalue()
    yield Mutant(path, "cut", whole[:-1])
    yield Mutant(path, "longer", whole + b"\0")
    yield Mutant(path, "header", whole.replace(b"shape", b"shope", 1))
    yield Mutant(path, "huge", whole.replace(b"(", b"(9" * 1, 1))


def _with(flat: Any, value: float) -> Any:
    changed = flat.copy()
    changed[len(flat) // 2] = value
    return changed


def archive_mutants(path: str, arrays: dict[str, Any]) -> Iterator[Mutant]:
    """An .npz file in which one of the arrays is another, lacks or is one too many."""
    for name, array in arrays.items():
        for mutant in array_mutants(path, np.asarray(array)) if np.asarray(array).ndim else ():
            content = io.BytesIO()
            with contextlib.suppress(ValueError):
                changed = np.load(io.BytesIO(mutant.content), allow_pickle=True)
                np.savez(content, allow_pickle=True, **{**arrays, name: changed})
                yield Mutant(path, f"{name} {mutant.what}", content.getvalue())
        content = io.BytesIO()
        np.savez(content, **{other: kept for other, kept in arrays.items() if other != name})
        yield Mutant(path, f"{name} dropped", content.getvalue())
    content = io.BytesIO()
    np.savez(content, **arrays, more=np.zeros(3))
    yield Mutant(path, "one more", content.getvalue())


def byte_mutants(path: str, content: bytes) -> Iterator[Mutant]:
    """A file that is no text, cut, or with other bytes."""
    middle = len(content) // 2
    yield Mutant(path, "empty", b"")
    yield Mutant(path, "cut", content[:middle])
    yield Mutant(path, "flipped", content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :])
    yield Mutant(path, "another's", content[:-1] + b"\1")
    yield Mutant(path, "HTML", b"<!doctype html>")


def every_mutant(root: Path) -> Iterator[Mutant]:
    """Of each file, each mutation at each place."""
    for path in VERBS:
        content = (root / path).read_bytes()
        if path.endswith(".json"):
            yield from json_mutants(path, json.loads(content))
        if path.endswith((".json", ".csv")):
            yield from text_mutants(path, content)
        elif path.endswith(".npy"):
            yield from array_mutants(path, np.load(root / path))
        elif path.endswith(".npz"):
            with np.load(root / path) as saved:
                yield from archive_mutants(path, dict(saved))
        if path.endswith((".npy", ".npz", ".keras")):
            yield from byte_mutants(path, content)


def random_mutant(root: Path, chance: random.Random) -> Mutant:
    """Some places of a file's text, or of its bytes, changed at once."""
    path = chance.choice([one for one in VERBS if not one.endswith("images.npy")])
    content = (root / path).read_bytes()
    if path.endswith(".json") and chance.random() < 0.6:
        value = json.loads(content)
        for _ in range(chance.randint(1, 4)):
            places = list(_places(value))[1:]
            if not places:
                break
            *above, last = chance.choice(places)
            block = functools.reduce(lambda part, key: part[key], above, value)
            name, other = chance.choice(list(VALUES.items()))
            if other is DROPPED:
                del block[last]
            else:
                block[last] = copy.deepcopy(other) if chance.random() < 0.7 else _drawn(chance)
            if name == "deep":
                break
        return Mutant(path, "some values", json.dumps(value).encode())
    changed = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(4):
            case 0:
                changed[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del changed[at : at + chance.randint(1, 40)]
            case 2:
                changed[at:at] = content[chance.randrange(len(content)) :][: chance.randint(1, 60)]
            case _:
                changed[at:at] = chance.choice([b'"', b"}", b"{", b",", b"-", b"\0", b"\n", b"1e999", b"null", b"NaN"])
    return Mutant(path, "some bytes", bytes(changed))


def _drawn(chance: random.Random) -> Any:
    return chance.choice(
        [chance.randint(-10, 10), chance.uniform(-1e9, 1e9), 10 ** chance.randint(1, 18), "", "é", "a" * 999]
    )


class Bench:
    """A finished pipeline in which one file at a time is a mutant; made in `folder`."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, verbs: dict[str, list[list[str]]] = VERBS) -> None:
        self.verbs = verbs
        self.root = folder / "checkout"
        with contextlib.redirect_stdout(io.StringIO()):
            finished_pipeline.by_hand(self.root)
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        patch.chdir(self.root)
        patch.setattr(tempfile, "tempdir", str(self.temporary))
        patch.setenv("GIT_CEILING_DIRECTORIES", str(folder))
        for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC_"))]:
            patch.delenv(name)
        run = json.loads((self.root / "models" / "run.json").read_bytes())
        run |= {"environment": run["environment"][:2], "git": git.git_state()}
        files.write_json(self.root / "models" / "run.json", run)
        # What takes time and reads none of these files; and where a framework would begin, a verb ends.
        for module, name in (
            (provenance, "code_digest"), (provenance, "library_versions"), (provenance, "installed_packages"),
            (record, "describe_machine"), (params_checks, "load_params"), (git, "git_state"), (record, "git_state"),
        ):  # fmt: skip
            patch.setattr(module, name, functools.cache(getattr(module, name)))
        patch.setattr(two_runs, "compare_answers", would_go_on)
        patch.setattr(strategies, "open_strategy", would_go_on)
        patch.setattr(frameworks, "start_framework", would_go_on)
        patch.setattr(mirror, "synchronise", lambda *_, **__: None)
        for verb in {tuple(verb) for verbs in self.verbs.values() for verb in verbs}:
            code, output = self.run(verb)
            assert code in ACCEPTED, (verb, code, output)

    def run(self, words: Sequence[str]) -> tuple[int, str]:
        """Exit code and output of a command."""
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            code = main.main([*words])
        return code, output.getvalue()

    def check(self, mutant: Mutant, verbs: Sequence[Sequence[str]] = ()) -> Counter[int]:
        """How often each exit code came of the verbs that read it. Raises ProblemError for what should not come."""
        path = self.root / mutant.path
        kept, codes = path.read_bytes(), Counter[int]()
        path.write_bytes(mutant.content)
        fitted = self._fit_digest(mutant)
        before = self._state()
        try:
            for verb in verbs or self.verbs[mutant.path]:
                code, output = self.run(verb)
                codes[code] += 1
                self._judge(mutant, verb, code, output)
                if code in REFUSED and self._state() != before:
                    raise ProblemError(f"{mutant.path}, {mutant.what}: {' '.join(verb)} wrote\n{output}")
        finally:
            path.write_bytes(kept)
            for other, content in fitted.items():
                other.write_bytes(content)
            shutil.rmtree(self.root / "compare", ignore_errors=True)
        return codes

    def _fit_digest(self, mutant: Mutant) -> dict[Path, bytes]:
        """Let statistics.json name an array that was changed, as if it were written so; what it was."""
        if not mutant.path.endswith(".npy"):
            return {}
        path = self.root / "data" / "normalized" / "statistics.json"
        kept = path.read_bytes()
        value = json.loads(kept)
        value["sha256"][Path(mutant.path).name] = files.file_sha256(self.root / mutant.path)
        path.write_text(json.dumps(value))
        record_path = self.root / "models" / "run.json"
        kept_record = record_path.read_bytes()
        run = json.loads(kept_record)
        run["sha256"]["data"] = files.file_sha256(path)
        record_path.write_text(json.dumps(run))
        return {path: kept, record_path: kept_record}

    def _judge(self, mutant: Mutant, verb: Sequence[str], code: int, output: str) -> None:
        told = f"{mutant.path}, {mutant.what}: {' '.join(verb)}: exit {code}\n{output}"
        if "Traceback" in output or any(self.temporary.glob("keras-pipeline-*.txt")):
            raise ProblemError(told + "".join(path.read_text() for path in self.temporary.glob("keras-pipeline-*.txt")))
        if code not in (*REFUSED, *ACCEPTED):
            raise ProblemError(told)
        if code in REFUSED:
            first = output.split("\n")[0] if "not available" not in output else ""
            if not {Path(mutant.path).name, Path(mutant.path).parts[1]} & set(re.split("[^A-Za-z0-9_.]", output)):
                raise ProblemError(f"the file is not named: {told}")
            if not any(remedy in output for remedy in REMEDIES):
                raise ProblemError(f"no remedy: {told}")
            if any(character < " " and character != "\n" for character in first):
                raise ProblemError(f"control characters: {told!r}")

    def _state(self) -> dict[str, tuple[int, int]]:
        found = {}
        for folder, _, names in os.walk(self.root):
            for name in names:
                if name != ".lock":
                    stat = os.lstat(os.path.join(folder, name))  # noqa: PTH118 (a thousand times a second)
                    found[f"{folder}/{name}"] = (stat.st_size, stat.st_mtime_ns)
        return found


def would_go_on(*_: Any, **__: Any) -> NoReturn:
    """Where a framework or another process would begin, a verb ends."""
    raise StoppedError("here a framework begins")


@contextlib.contextmanager
def opened_bench(folder: Path) -> Iterator[Bench]:
    """A bench, with all that it changed of this process as it was afterwards."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    with pytest.MonkeyPatch.context() as patch:
        yield Bench(folder, patch)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def try_mutants(
    folder: Path, drawn: Callable[[Path], Iterable[tuple[Mutant, Sequence[Sequence[str]]]]], tell: Callable[[str], None]
) -> int:
    """Try mutants, each by these verbs; how many problems they brought. Each is told, and at the end what came of
    all."""
    codes, problems, count = Counter[int](), 0, 0
    with opened_bench(folder) as bench:
        for count, (mutant, verbs) in enumerate(drawn(bench.root), 1):  # noqa: B007 (how many there were)
            try:
                codes += bench.check(mutant, verbs)
            except ProblemError as problem:
                problems += 1
                tell(str(problem))
                for report in bench.temporary.iterdir():
                    report.unlink()
    refused, tried = sum(codes[code] for code in REFUSED), sum(codes.values())
    tell(f"{count} mutated, {problems} tracebacks or other problems, {refused} refused, {tried - refused} read")
    return problems


def try_random_mutants(folder: Path, count: int, seed: int, tell: Callable[[str], None] = print) -> int:
    """Try so many random mutants, each by one verb."""
    chance = random.Random(seed)

    def drawn(root: Path) -> Iterator[tuple[Mutant, list[list[str]]]]:
        for _ in range(count):
            mutant = random_mutant(root, chance)
            yield mutant, [chance.choice(VERBS[mutant.path])]

    return try_mutants(folder, drawn, tell)


def try_every_mutant(folder: Path, tell: Callable[[str], None] = print) -> int:
    """Try all, each by every verb that reads it."""
    return try_mutants(folder, lambda root: ((one, VERBS[one.path]) for one in every_mutant(root)), tell)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="every one that is known, and none that is random")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        if asked.all:
            sys.exit(1 if try_every_mutant(Path(place)) else 0)
        sys.exit(1 if try_random_mutants(Path(place), asked.count, asked.seed) else 0)

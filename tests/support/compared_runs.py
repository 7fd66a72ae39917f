"""Runs to be compared, made by hand: in folders, revisions and experiments."""

import hashlib
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import small
import tracking_fixtures
from keras_pipeline.comparison import report, two_runs
from keras_pipeline.comparison.find_run import PREDICTIONS, RECORD, SCORES, FoundRun
from keras_pipeline.core import files
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.data.splits import Split
from keras_pipeline.evaluation import multiclass
from places import SHIPPED

IMAGES, CLASSES = 400, 10
LABELS = np.random.default_rng(0).integers(0, CLASSES, IMAGES)


def record(key: str = "a" * 32, **changes: Any) -> dict[str, Any]:
    """A run's record, complete."""
    strategy = {"name": "none", "asked": "none", "backend": "tensorflow", "workers": 1, "replicas": 1}
    strategy |= {"batch_per_replica": 128}
    machine = {"processor": "Z80", "cores": "2", "onednn": "default", "threads": "default"}
    made = tracking_fixtures.record(SHIPPED, key, machine=machine, strategy={**strategy, "devices": ["/cpu:0"]})
    made["dataset"]["images"] = {"train": 90, "validation": 10, "test": IMAGES}
    return {**made, **changes}


def outputs(seed: int, share: float = 0.9) -> NDArray[np.float32]:
    """Answers of which that share is right."""
    random = np.random.default_rng(seed)
    answered = np.where(random.random(IMAGES) < share, LABELS, random.integers(0, CLASSES, IMAGES))
    values = random.dirichlet(np.ones(CLASSES), IMAGES) + random.uniform(1, 5, (IMAGES, 1)) * np.eye(CLASSES)[answered]
    rows: NDArray[np.float32] = (values / values.sum(axis=1, keepdims=True)).astype(np.float32)
    return rows


def write(folder: Path, run: dict[str, Any], answers: NDArray[np.float32]) -> None:
    """The files of a run, as its stages leave them."""
    files.write_json(folder / RECORD, run)
    (folder / "reports").mkdir(exist_ok=True)
    np.savez(folder / PREDICTIONS, outputs=answers, labels=LABELS, loss=0.0)
    files.write_json(folder / SCORES, multiclass.class_scores(answers, LABELS, 0.0, 15))


def made(seed: int = 1, share: float = 0.9, run: dict[str, Any] | None = None, asked: str = "it") -> FoundRun:
    answers = outputs(seed, share)
    scores = multiclass.class_scores(answers, LABELS, 0.0, 15)
    return FoundRun(asked, f"folder {asked}", run or record(f"{seed:032x}"), scores, answers, LABELS)


def nowhere(asked: str, artifacts: tuple[str, ...], folder: Path) -> tuple[str, dict[str, Any]]:
    raise ParamsError(f"the store has no run '{asked}'")


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def commit(key: str, seed: int, cache: str = ".dvc/cache") -> str:
    """A commit as DVC makes it: digests in dvc.lock, metrics in git, the rest in the cache; its name."""
    answers = outputs(seed)
    write(Path(), record(key), answers)
    outs = []
    for path in (RECORD, PREDICTIONS):
        content = Path(path).read_bytes()
        digest = hashlib.md5(content).hexdigest()
        files.write_atomically(Path(cache, "files", "md5", digest[:2], digest[2:]), content)
        outs.append({"path": path, "hash": "md5", "md5": digest})
    files.write_json(Path("dvc.lock"), {"schema": "2.0", "stages": {"all": {"cmd": "x", "outs": outs}}})  # JSON is YAML
    git("init", "--quiet")
    git("add", "dvc.lock", SCORES)
    git("commit", "--quiet", "--allow-empty", "--message", key)
    shutil.rmtree("models")
    shutil.rmtree("reports")
    return git("rev-parse", "HEAD")


def experiment(name: str, key: str, seed: int) -> str:
    """A DVC experiment: a commit that only a reference below refs/exps names."""
    base = git("rev-parse", "HEAD")
    made = commit(key, seed)
    git("reset", "--quiet", "--hard", base)
    git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/{name}", made)
    return f"refs/exps/{base[:2]}/{base[2:]}/{name}"


NONE = {"name": "none", "offset": 0.0, "divisor": 1.0}


def with_data(*kinds: str, **changes: Any) -> dict[str, Any]:
    """A record with other test images or labels, or both, and these changes of the dataset."""
    run = record("d" * 32)
    run["dataset"] |= changes
    run["dataset"]["sha256"] |= {f"test_{kind}.npy": "e" * 64 for kind in kinds}
    return run


def normalized_arrays(folder: Path, run: dict[str, Any]) -> Split:
    """A folder as normalize leaves it, as far as test images go; the record gets their digests."""
    images = np.random.default_rng(5).integers(0, 256, (IMAGES, 8, 8, 1), np.uint8)
    folder.mkdir(parents=True)
    np.save(folder / "test_images.npy", images)
    np.save(folder / "test_labels.npy", LABELS)
    run["dataset"]["sha256"] |= {
        name: files.file_sha256(folder / name) for name in ("test_images.npy", "test_labels.npy")
    }
    run["dataset"] |= {
        **small.described(run["dataset"]["dataset"], (8, 8, 1)),
        "scaling": {"name": "unit", "offset": 0.0, "divisor": 255.0},
    }
    counts = {split: [count, *[0] * 9] for split, count in run["dataset"]["images"].items()}
    counts["test"] = np.bincount(LABELS, minlength=CLASSES).tolist()
    whole = {"format": 2, **run["dataset"], "normalize": {}, "class_counts": counts, "test_images_also_in_train": 0}
    files.write_json(folder / "statistics.json", whole)
    return Split(images, LABELS, Scaling("unit", 0.0, 255.0))


class Images(HTMLParser):
    """What a page without a plot loads: its links lead to itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe")
        loaded = [value or "" for name, value in attrs if name in ("src", "href")]
        self.sources += [value for value in loaded if not value.startswith("#part-")]


def written(a: FoundRun, b: FoundRun, images: Split | None) -> tuple[str, str, list[str]]:
    """Markdown, HTML and the names of the files."""
    folder = Path("compare")
    answers, differing = two_runs.compare_answers(a, b), two_runs.find_differences(a.record, b.record)
    paths = report.write_report(a, b, differing, answers, images, folder)
    assert sorted(paths) == sorted(folder.iterdir())
    return paths[1].read_text(), paths[0].read_text(), [path.name for path in paths]


def told(output: str, name: str) -> str:
    [line] = [line for line in output.splitlines() if line.startswith(f"{name}:")]
    return line.partition(":")[2].strip()

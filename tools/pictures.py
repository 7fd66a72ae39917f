"""The README's pictures, taken anew: python tools/pictures.py (make pictures).

The last commit is cloned into a temporary folder, some short trainings are done there, as a user would, and headless
Chromium takes pictures of the page of a comparison, of MLflow's table of runs, and of the page to draw on. It takes
some minutes.
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, ViewportSize, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
EXPERIMENTS = {
    "dropout-0.5": "model.dropout=0.5",
    "dropout-0": "model.dropout=0.0",
    "narrow": "model.hidden_units=[256]",
    "unnormalized": "model.batch_normalization=false",
    "softmax": "model.architecture=softmax_regression",
    "seed-2": "seed=2",
}
"""What differs from the first run; the first one of them is on the page of the comparison."""
EPOCHS = 5
PAGE: ViewportSize = {"width": 1300, "height": 1150}
TABLE: ViewportSize = {"width": 1600, "height": 640}
PAD: ViewportSize = {"width": 1100, "height": 960}
DRAWN = ROOT / "tests" / "support" / "drawn_digits.json"
DIGIT = 33
"""Which of the drawn digits is on the picture."""
MOST_BYTES = 200_000
CLOSED = ("Close", "Close assistant", "Dismiss")
"""The buttons of what MLflow lays around its table."""


class Checkout:
    """A clone of the last commit, and the commands that are run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        own = {"HOME": str(folder.parent), "DVC_SITE_CACHE_DIR": str(folder.parent / "site")}
        own |= {f"GIT_{role}_{kind}": "x@localhost" for role in ("AUTHOR", "COMMITTER") for kind in ("NAME", "EMAIL")}
        paths = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(folder / "src")}
        left = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_", "MLFLOW_"))}
        self.environment = left | own | paths
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)

    def run(self, *command: str) -> str:
        """What a command prints that ends well."""
        print(f"pictures: {' '.join(command)}", flush=True)
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode:
            raise SystemExit(f"{done.stdout[-3000:]}\npictures: {' '.join(command)}: exit {done.returncode}")
        return done.stdout

    @contextmanager
    def ui(self) -> Iterator[str]:
        """The address of MLflow's table of runs, as long as it is served."""
        command = ["keras-pipeline", "ui", "--no-browser"]
        with subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as server:
            try:
                found = next(
                    filter(None, (re.search(r"MLflow is at (http://\S+)", line) for line in server.stdout or ()))
                )
                yield found[1]
            finally:
                server.terminate()


def train(checkout: Checkout) -> Path:
    """Do the runs; the page of the first one compared with the first experiment."""
    checkout.run("dvc", "exp", "run", "-S", f"train.epochs={EPOCHS}")
    checkout.run("git", "commit", "--quiet", "--all", "--message", "The first run")
    for name, value in EXPERIMENTS.items():
        checkout.run("dvc", "exp", "run", "-S", value, "-n", name)
        checkout.run("git", "restore", "params.yaml")
    output = checkout.run("keras-pipeline", "compare", "HEAD", next(iter(EXPERIMENTS)))
    (page,) = re.findall(r"(?m)^page: +(.*)$", output)
    return checkout.folder / str(page)


def draw(page: Page) -> None:
    """A digit, with the mouse, on the page to draw on."""
    box = page.locator("#pad").bounding_box() or {"x": 0.0, "y": 0.0, "width": 1.0, "height": 1.0}
    for stroke in json.loads(DRAWN.read_text(encoding="utf-8"))[DIGIT]["strokes"]:
        for number, (x, y) in enumerate(zip(stroke[::2], stroke[1::2], strict=True)):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
            if number == 0:
                page.mouse.down()
        page.mouse.up()
    page.locator("#spoke-title", has_text="What spoke for “").wait_for()


def save(page: Page, name: str) -> None:
    """The part of a page that is seen, as PNG of few colours."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    content = io.BytesIO()
    picture.save(content, format="png", optimize=True)
    if len(content.getvalue()) > MOST_BYTES:
        raise SystemExit(f"pictures: {name} has {len(content.getvalue()):,} bytes; expected at most {MOST_BYTES:,}")
    (IMAGES / name).write_bytes(content.getvalue())
    print(f"pictures: {name}, {len(content.getvalue()):,} bytes")


def main() -> None:
    """Train, look, save."""
    browser_program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser_program is None:
        raise SystemExit("pictures: no Chromium on this machine. Install it: make browser")
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        checkout = Checkout(Path(temporary) / "keras-pipeline")
        comparison = train(checkout)
        browser = playwright.chromium.launch(executable_path=browser_program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport=PAGE)
        page.goto(comparison.as_uri())
        save(page, "compare.png")
        page.set_viewport_size(TABLE)
        with checkout.ui() as address:
            page.goto(address)
            page.get_by_text("matching runs").wait_for(timeout=120_000)
            page.wait_for_timeout(5000)  # MLflow moves things for some seconds
            for label in CLOSED:
                for button in page.get_by_role("button", name=label, exact=True).all():
                    button.click()
            page.wait_for_timeout(2000)
            save(page, "runs.png")
        checkout.run("keras-pipeline", "page")
        page.set_viewport_size(PAD)
        page.goto((checkout.folder / "page" / "index.html").as_uri())
        draw(page)
        save(page, "page.png")
        browser.close()


if __name__ == "__main__":
    main()

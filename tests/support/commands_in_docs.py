"""The commands in README.md and docs/, run as they are written: a program, `make docs-check`.

python tests/support/commands_in_docs.py [PAGE ...]

In a fresh clone of the last commit, with an empty home, page after page in the order of docs/README.md, each in one
shell from its first block to its last. A block whose fence says why it is not run is left out:

    ```bash not run: stays open

and so that a page can say "change a value", what a reader does by hand stands beside it in a comment:

    <!-- docs-check: sed -i 's/dropout: 0.3/dropout: 0.5/' params.yaml -->

Ends with 1 at the first page that fails, and prints its block and what it said.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from places import ROOT

INDEX = ROOT / "docs" / "README.md"
BLOCK = re.compile(
    r"^```bash(?: not run: (?P<reason>[^\n]+))?\n(?P<code>.*?)^```$|^<!-- docs-check: (?P<hidden>.*?) -->$",
    re.MULTILINE | re.DOTALL,
)
MARK = "docs-check-line"
KEPT = ("PATH", "LANG", "TERM", "TMPDIR", "KERAS_PIPELINE_MIRRORS", "PYENV_ROOT")
"""Of the environment, beside what pip and proxies need."""


@dataclass(frozen=True)
class Block:
    """Commands of a page: the line where they begin, and why they are not run, if so."""

    page: Path
    line: int
    code: str
    reason: str | None = None
    hidden: bool = False


def pages() -> list[Path]:
    """README.md, then those that the index names, in its order."""
    named = re.findall(r"\]\(([\w-]+\.md)\)", INDEX.read_text(encoding="utf-8"))
    return [ROOT / "README.md", *(ROOT / "docs" / name for name in dict.fromkeys(named))]


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        hidden = match["hidden"]
        yield Block(page, line, f"{hidden}\n" if hidden else match["code"], match["reason"], bool(hidden))


def script(page: Path) -> str:
    """A page's commands, each block announced by its line."""
    parts = [f"echo {MARK} {one.line} >&2\n{one.code}" for one in blocks(page) if one.reason is None]
    return "set -eo pipefail\n" + "\n".join(parts)


def environment(home: Path) -> dict[str, str]:
    """An empty home whose git knows who commits; of this environment what names mirrors, proxies and packages."""
    (home / ".gitconfig").write_text("[user]\n\tname = A reader\n\temail = reader@example.org\n", encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith("PIP_")}
    kept |= {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    return {**kept, "HOME": str(home), "SHELL": "/bin/bash"}


def check(page: Path, clone: Path, home: Path) -> bool:
    name, began = str(page.relative_to(ROOT)), time.monotonic()
    variables = environment(home)
    if page != ROOT / "README.md":  # which activates it itself, as its reader has done since
        variables["PATH"] = f"{clone / '.venv' / 'bin'}{os.pathsep}{variables['PATH']}"
    with (home / "said.txt").open("w+", encoding="utf-8", errors="replace") as said:
        done = subprocess.run(
            ["bash", "-c", script(page)], cwd=clone, env=variables, stdin=subprocess.DEVNULL, stdout=said,
            stderr=said, check=False,
        )  # fmt: skip
        said.seek(0)
        text = said.read()
    count = sum(one.reason is None for one in blocks(page))
    if done.returncode == 0:
        print(f"{name}: {count} blocks, {time.monotonic() - began:.0f} s", flush=True)
        return True
    *_, (line, rest) = re.findall(rf"^{MARK} (\d+)$(.*?)(?=^{MARK}|\Z)", text, re.MULTILINE | re.DOTALL)
    print(f"{name}:{line}: exit {done.returncode}\n{rest[-4000:]}", file=sys.stderr)
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", nargs="*", type=Path, help="README.md and all of docs/, if none is named")
    chosen = [path.resolve() for path in parser.parse_args().page] or pages()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        clone, home = Path(folder, "keras-pipeline"), Path(folder, "home")
        home.mkdir()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        if ROOT / "README.md" not in chosen:  # which comes first, and ends so
            first = "make run && git commit --quiet -am 'My first run'"
            subprocess.run(first, shell=True, cwd=clone, env=environment(home), check=True)
        for page in chosen:
            if not check(page, clone, home):
                return 1
            subprocess.run(["git", "checkout", "--quiet", "--", "."], cwd=clone, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

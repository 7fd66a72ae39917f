"""The steps of a Dockerfile, read as far as the files of this project go."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """One instruction, such as RUN, and all that stands behind it, in one line; `stage`: counted from 0."""

    stage: int
    word: str
    rest: str

    @property
    def words(self) -> list[str]:
        """Of a COPY or of an instruction in JSON: its words."""
        if self.rest.startswith("["):
            return re.findall(r'"((?:[^"\\]|\\.)*)"', self.rest)
        return shlex.split(self.rest)


def read_steps(path: Path) -> list[Step]:
    """Every instruction in its order, without comments."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    steps: list[Step] = []
    stage = -1
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, _, rest = line.partition(" ")
        stage += word == "FROM"
        steps.append(Step(stage, word, rest.strip()))
    return steps

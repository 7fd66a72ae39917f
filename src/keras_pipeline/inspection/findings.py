"""What `dataset check` says: a finding is a sentence, and the examples that it is about."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SHOWN = 5
"""So many examples are named in a sentence; all of them are in the JSON."""


@dataclass(frozen=True)
class Finding:
    """`check`: what was looked for, in one word or two; `text`: a sentence; `examples`: what each is called, all of
    them, in groups where they belong together; `refused`: whether `fetch` refuses the dataset for it."""

    check: str
    text: str
    examples: Sequence[Sequence[str]] = ()
    refused: bool = False

    def line(self) -> str:
        """The finding for people, with a few of its examples."""
        named = "; ".join(" = ".join(shortened(group)) for group in self.examples[:SHOWN])
        more = f"; and {len(self.examples) - SHOWN} more" if len(self.examples) > SHOWN else ""
        return f"{self.text}{f': {named}{more}' if named else ''}"

    def plain(self) -> dict[str, Any]:
        """The finding for programs."""
        return asdict(self)


def shortened(names: Sequence[str]) -> list[str]:
    """A few of these names, and how many more there are."""
    return [*names[:SHOWN], *([f"… ({len(names) - SHOWN} more)"] if len(names) > SHOWN else [])]


def counted(count: int, thing: str) -> str:
    """`1 image`, `2 images`, `3 classes`, `1,234 rows`."""
    plural = f"{thing}es" if thing.endswith("s") else f"{thing}s"
    return f"{count:,} {thing if count == 1 else plural}"


def singles(names: Iterable[str]) -> list[list[str]]:
    """Each of these as a group of its own."""
    return [[name] for name in names]


def kept_findings(name: str, downloads: Path) -> Path:
    """Where the findings of the last check are."""
    return downloads / f"{name}.check.json"

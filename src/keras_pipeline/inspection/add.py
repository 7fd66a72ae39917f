"""What files are taken for: each kind is asked, and the answer becomes a dataset file that people can read and edit."""

import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError, ParamsError
from keras_pipeline.inspection.findings import counted
from keras_pipeline.sources.dataset_file import FOLDER, KINDS, kind_name, read_dataset
from keras_pipeline.sources.files import scan
from keras_pipeline.sources.kinds.kind import Columns, Examples, Kind, Recognized
from keras_pipeline.sources.source_files import SourceFiles
from keras_pipeline.strict_yaml import reader
from keras_pipeline.strict_yaml.edits import flow_text

SCHEMA = "# yaml-language-server: $schema=../schemas/dataset.json"
WIDTH = 118
SHARED = ("kind", "title", "licence", "path", "classes", "label_values")
"""The keys that come first."""
OF_THE_FILES = (
    "path", "classes", "label_values", "train", "validation", "test", "columns", "target", "names", "counts", "table",
    "recorded",
)  # fmt: skip
"""What files say of themselves: of an earlier dataset file of theirs all other keys are kept."""
COMMENTS = {
    "licence": "whose they are, and what may be done with them",
    "path": "a folder, a file or an archive",
    "splits": "the share that becomes the test split: the same examples, however much is added",
    "recorded": "what was there; where it differs later, that is said in one line",
}


@dataclass(frozen=True)
class Taken:
    """What files were taken for: the kind, its keys and the reasons; and the names of `others` that fit too."""

    kind: type[Kind]
    found: Recognized
    others: Sequence[str]

    @property
    def name(self) -> str:
        """The kind's."""
        return kind_name(self.kind)


def recognize(source: SourceFiles, kinds: Sequence[type[Kind]] = KINDS) -> Taken:
    """The first kind that knows these files. Raises DataError with what is there instead, or with why the kind that
    knows them cannot tell what is what."""
    taken: list[tuple[type[Kind], Recognized]] = []
    unclear: list[DataError] = []
    for kind in kinds:
        try:
            found = kind.recognize(source)
        except DataError as error:
            unclear.append(error)
        else:
            if found:
                taken.append((kind, found))
    if taken:
        kind, found = taken[0]
        return Taken(kind, found, [kind_name(other) for other, _ in taken[1:]])
    if unclear:
        raise unclear[0]
    names = source.names()
    shown = ", ".join(map(ascii, names[:5])) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
    raise DataError(
        f"{source.name}: no kind of dataset is recognized ({shown or 'it is empty'}). Expected: folders of pictures, a "
        "folder a class; a CSV or Parquet file; arrays (.npz, .npy); IDX files; or binary records as CIFAR-10's."
    )


def dataset_keys(taken: Taken, earlier: Kind | None, **given: Any) -> dict[str, Any]:
    """All keys of the dataset file: what was found, `given` before it, and of an `earlier` file of this kind what the
    user wrote there and the files do not say."""
    found = {"kind": kind_name(taken.kind), **taken.found.keys}
    kept: dict[str, Any] = {}
    if earlier is not None:
        kept = earlier.model_dump(mode="json", exclude_unset=True)
        if earlier.kind != found["kind"]:
            kept = {key: kept[key] for key in ("title", "licence") if key in kept}
        elif set(kept.get("classes", ())) == set(found.get("classes", ())):  # in the user's order
            found |= {key: kept[key] for key in ("classes", "label_values") if key in kept}
        kept = {key: value for key, value in kept.items() if key not in OF_THE_FILES}
    keys = {**found, **kept, **{key: value for key, value in given.items() if value is not None}}
    return {key: keys[key] for key in [*SHARED, *(key for key in keys if key not in SHARED)] if key in keys}


def dataset_text(name: str, keys: Mapping[str, Any], reasons: Sequence[str]) -> str:
    """The dataset file, with comments."""
    lines = [SCHEMA, *_comment(f"Written by `keras-pipeline dataset add {name}`, to be read and edited. Why it is so:")]
    for reason in reasons:
        lines += _comment(f"- {reason}", "  ")
    for key, value in keys.items():
        written = list(_written(key, value))
        if comment := COMMENTS.get(key):
            written[0] = f"{written[0]}  # {comment}"
        lines += written
    return "\n".join(lines) + "\n"


def _comment(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent=f"# {indent}")


def _written(key: str, value: Any, indent: str = "") -> list[str]:
    """A key and its value: in one line where there is room, else in lines below the key."""
    line = f"{indent}{flow_text(key)}: {flow_text(value)}"
    if not isinstance(value, Mapping | list | tuple) or (not isinstance(value, Mapping) and len(line) <= WIDTH):
        return [line]
    head = f"{indent}{flow_text(key)}:"
    if isinstance(value, Mapping):
        return [head, *(one for inner, own in value.items() for one in _written(inner, own, f"{indent}  "))]
    return [head, *(f"{indent}- {flow_text(own)}" for own in value)]


def check_keys(path: Path, name: str, taken: Taken, earlier: Kind | None, given: Mapping[str, Any]) -> Kind:
    """What the dataset file `path` would say. Raises ParamsError where the keys do not go together."""
    text = dataset_text(name, dataset_keys(taken, earlier, **given), ())
    made: Kind = reader.parse_yaml(text.encode(), str(path), taken.kind)
    return made


def write_dataset(
    path: Path, name: str, taken: Taken, earlier: Kind | None, given: Mapping[str, Any], downloads: Path
) -> tuple[Kind, str]:
    """Write the dataset file `path`; what it says, and a line about its examples, or why `fetch` refuses them as they
    are. Raises ParamsError where a key that was kept of the `earlier` one does not go together with what is there now.
    """
    keys, made = dataset_keys(taken, earlier, **given), check_keys(path, name, taken, earlier, given)
    seen = scan.look(name, made, downloads)
    keys["recorded"] = seen.source
    try:
        examples = made.read(scan.open_files(name, made, seen, downloads))
    except DataError as error:
        said = f"but fetch will refuse them as they are:\n  {error}"
    else:
        said = _described(made, examples)
        if "splits" not in keys and (examples.splits is None or "test" not in examples.splits):
            keys["splits"] = {"test": made.splits.test}
    keys = {key: keys[key] for key in sorted(keys, key=lambda key: (key == "recorded", key == "splits"))}
    text = dataset_text(name, keys, taken.found.reasons)
    made = reader.parse_yaml(text.encode(), str(path), taken.kind)
    files.write_atomically(path, text.encode())
    return made, said


def _described(dataset: Kind, examples: Examples) -> str:
    thing = "row" if isinstance(examples.inputs, Columns) else "image"
    counts = Counter(examples.splits or ())
    splits = ", ".join(f"{counts[split]:,} {split}" for split in ("train", "validation", "test") if counts[split])
    own = "" if "test" in counts else f"; {dataset.splits.test:.0%} become the test split"
    classes = dataset.classes
    named = f", {counted(len(classes), 'class')}: {', '.join(classes[:8])}{', …' if len(classes) > 8 else ''}"
    return f"{counted(len(examples.labels), thing)}{f' ({splits})' if counts else ''}{named if classes else ''}{own}"


def kept_file(name: str, original: Path) -> Path:
    """What DVC is to keep of a folder, or of a file."""
    suffixes = [one for one in original.suffixes[-2:] if re.fullmatch(r"\.[A-Za-z]\w{0,9}", one)]
    return Path(FOLDER, f"{name}{'.tar' if original.is_dir() else ''.join(suffixes) or '.data'}")


def earlier_dataset(path: Path) -> Kind | None:
    """What the file says that is to be replaced; None where it cannot be read, and is replaced as a whole."""
    try:
        return read_dataset(path)
    except ParamsError:
        return None

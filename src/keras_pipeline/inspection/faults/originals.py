"""Formats and sizes of picture files, seen as they are read."""

import io
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from keras_pipeline.sources.picture_files.decoding import DecodedPictures


@dataclass
class Originals:
    """What was seen: how many there are of each format, and of each size, (width, height)."""

    formats: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)

    def watch(self, pictures: DecodedPictures) -> DecodedPictures:
        """The same pictures; what is read of them is seen here."""

        def contents(start: int) -> Iterator[bytes]:
            for content in pictures.contents(start):
                self._see(content)
                yield content

        return replace(pictures, contents=contents)

    def _see(self, content: bytes) -> None:
        from PIL import Image

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(io.BytesIO(content)) as picture:
                    found, size = str(picture.format), picture.size
        except Exception:  # whatever Pillow raises for a damaged one, which is told where it is decoded
            return
        self.formats[found] += 1
        self.sizes[size] += 1

    def facts(self) -> list[str]:
        """A line about formats, and one about sizes."""
        if not self.sizes:
            return []
        formats = ", ".join(f"{count:,} {name}" for name, count in self.formats.most_common())
        widths, heights = zip(*sorted(self.sizes.elements()), strict=True)
        if len(self.sizes) == 1:
            return [f"formats: {formats}", f"sizes: all {widths[0]} × {heights[0]}"]
        middle = len(widths) // 2
        return [
            f"formats: {formats}",
            f"sizes: {min(widths)} to {max(widths)} wide, {min(heights)} to {max(heights)} high, in the middle "
            f"{sorted(widths)[middle]} × {sorted(heights)[middle]}",
        ]

"""A text that is being repaired, and where each of its characters came from."""

from __future__ import annotations

from array import array
from collections.abc import Sequence


class Patched:
    """`text` after the edits so far; `place` maps a position in it to the original source."""

    def __init__(self, text: str, offset: int) -> None:
        self.text = text
        self._origin = array("q", range(offset, offset + len(text) + 1))

    def place(self, position: int) -> int:
        """The original place of a position; what was inserted stands where it was inserted."""
        return self._origin[min(position, len(self._origin) - 1)]

    def replace_all(self, edits: Sequence[tuple[int, int, str]]) -> None:
        """Many edits at once: (start, end, new) in order, not overlapping."""
        texts: list[str] = []
        origin = array("q")
        last = 0
        for start, end, new in edits:
            texts += (self.text[last:start], new)
            origin.extend(self._origin[last:start])
            origin.extend(array("q", [self.place(start)]) * len(new))
            last = max(end, last)
        texts.append(self.text[last:])
        origin.extend(self._origin[last:])
        self.text, self._origin = "".join(texts), origin

    def replace(self, start: int, end: int, new: str) -> None:
        """Puts `new` where start:end was."""
        self.text = self.text[:start] + new + self.text[end:]
        self._origin[start:end] = array("q", [self.place(start)]) * len(new)

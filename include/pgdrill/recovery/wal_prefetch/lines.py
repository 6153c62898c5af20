"""The lines out of a FIFO that anybody may write into."""

from __future__ import annotations

MOST_BYTES = 128  # of a line: more than any that recovery writes


class Lines:
    """A cutter of lines out of data that arrives in pieces.

    Of a line that is too long the beginning is kept, which is no line of recovery's.
    """

    def __init__(self) -> None:
        self._begun = b""

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that end in this piece."""
        first, *others = data.split(b"\n")
        found = []
        self._begun = (self._begun + first)[:MOST_BYTES]
        for other in others:
            found.append(self._begun.decode("ascii", "replace"))
            self._begun = other[:MOST_BYTES]
        return found

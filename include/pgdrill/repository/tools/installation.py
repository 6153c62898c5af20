"""The tool as it is installed on this host, for whoever examines the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from pgdrill.host.process import Command, Completed

Run = Callable[[Command], Completed]


@dataclass(frozen=True, slots=True)
class ToolFinding:
    """What was found of the tool's own settings: as it should be, doubtful, or wrong."""

    status: Literal["green", "warn", "red"]
    thing: str
    found: str
    expected: str = ""
    hint: str = ""


class Installation(Protocol):
    """The questions that only the tool's own file can answer."""

    def lacking(self, run: Run) -> list[str]:
        """Return the commands that pgdrill uses and this installation lacks."""

    def settings(self) -> Iterator[ToolFinding]:
        """Look at variables and files of the tool's own, by their names.

        A value is shown of places alone, never of keys.
        """

"""The keys of archived WAL, as a backup tool lays them out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WalKeys:
    """Where segments and timelines' histories are kept.

    ``{name}`` stands for the file's name, ``{log}`` for its first 16 digits; a compression's suffix
    may follow. Not ``exact``: more may follow, such as a digest, so that only a listing tells a
    file's key.
    """

    segment: str
    history: str
    exact: bool = True

    def of(self, name: str) -> str:
        """Return the key of a segment or history file, without what follows its name."""
        pattern = self.history if name.endswith(".history") else self.segment
        return pattern.format(name=name, log=name[:16])

    @property
    def folder(self) -> str:
        """The prefix below which every archived segment lies."""
        return self.segment.partition("{")[0]

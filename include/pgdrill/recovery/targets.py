"""Recovery targets: the places where a recovery is to stop.

There is always a target: without one PostgreSQL promotes silently across a gap.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from pgdrill.errors import ConfigError
from pgdrill.postgres.wal import parse_lsn

Kind = Literal["latest", "random", "alternate", "time", "before", "lsn", "name"]
WORDS: tuple[Kind, ...] = ("latest", "random", "alternate")
FORMS = (
    "latest, random, alternate, time:2026-11-20T11:00:00Z, before:2026-11-20T11:00:00Z,"
    " lsn:0/3000028 or name:before_migration"
)


@dataclass(frozen=True, slots=True)
class RecoveryTarget:
    """The target that a person asked for, before it is made exact.

    ``time`` keeps what was committed at that very instant, ``before`` leaves it out. ``random`` is
    an instant that :mod:`pgdrill.recovery.planning` draws, ``alternate`` is ``latest`` and
    ``random`` by turns.
    """

    kind: Kind
    value: str = ""

    @property
    def time(self) -> datetime:
        """The instant of a ``time`` or ``before`` target, UTC."""
        return datetime.fromisoformat(self.value).astimezone(UTC)

    @property
    def settings(self) -> dict[str, str]:
        """PostgreSQL's settings for the target.

        ``latest``, ``random`` and ``alternate`` have to be made exact first.
        """
        name = {
            "time": "recovery_target_time",
            "before": "recovery_target_time",
            "lsn": "recovery_target_lsn",
            "name": "recovery_target_name",
        }[self.kind]
        value = self.time.isoformat(sep=" ") if self.kind in ("time", "before") else self.value
        inclusive = "off" if self.kind == "before" else "on"
        return {
            name: value,
            "recovery_target_action": "promote",
            "recovery_target_inclusive": inclusive,
        }

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}" if self.value else self.kind


def parse_target(text: str) -> RecoveryTarget:
    """Parse a target that a person typed."""
    kind, _, value = text.strip().partition(":")
    try:
        for word in WORDS:
            if text.strip() == word:
                return RecoveryTarget(word)
        if kind in ("time", "before") and datetime.fromisoformat(value).tzinfo:
            return RecoveryTarget("time" if kind == "time" else "before", value)
        if kind == "lsn" and parse_lsn(value):
            return RecoveryTarget("lsn", value)
        if kind == "name" and re.fullmatch(r"[^\x00'\\]{1,63}", value):
            return RecoveryTarget("name", value)
    except ValueError:
        kind = ""  # falls through to the error below
    raise ConfigError(
        "bad-target",
        f"recovery target {text!r}",
        found="no known form (a time needs its zone)",
        expected=FORMS,
        hint="write it in one of these forms",
    )

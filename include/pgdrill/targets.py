"""Where a recovery is to stop. There is always a target: without one PostgreSQL promotes silently across a gap."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from pgdrill.errors import ConfigError
from pgdrill.postgres.wal import parse_lsn

Kind = Literal["latest", "time", "lsn", "name"]
FORMS = "latest, time:2026-11-20T11:00:00Z, lsn:0/3000028 or name:before_migration"


@dataclass(frozen=True, slots=True)
class RecoveryTarget:
    """What a person asked for, before it is made exact."""

    kind: Kind
    value: str = ""

    @property
    def time(self) -> datetime:
        """The instant of a ``time`` target, UTC."""
        return datetime.fromisoformat(self.value).astimezone(UTC)

    @property
    def settings(self) -> dict[str, str]:
        """PostgreSQL's settings for it (``latest`` has to be made exact first)."""
        name = {"time": "recovery_target_time", "lsn": "recovery_target_lsn", "name": "recovery_target_name"}[self.kind]
        value = self.time.isoformat(sep=" ") if self.kind == "time" else self.value
        return {name: value, "recovery_target_action": "promote", "recovery_target_inclusive": "on"}

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}" if self.value else self.kind


def parse_target(text: str) -> RecoveryTarget:
    """From what a person typed."""
    kind, _, value = text.strip().partition(":")
    try:
        if kind == "latest" and not value:
            return RecoveryTarget("latest")
        if kind == "time" and datetime.fromisoformat(value).tzinfo:
            return RecoveryTarget("time", value)
        if kind == "lsn" and parse_lsn(value):
            return RecoveryTarget("lsn", value)
        if kind == "name" and re.fullmatch(r"[^\x00'\\]{1,63}", value):
            return RecoveryTarget("name", value)
    except ValueError:
        kind = ""  # falls through to the error below
    raise ConfigError(
        "bad-target", f"recovery target {text!r}", found="no known form (a time needs its zone)", expected=FORMS,
        mend="write it in one of these forms",
    )  # fmt: skip

"""Targets of the past that cannot be reached: refused before a byte is restored.

The refusal names the nearest that can be reached. Only what is certain is refused. Where WAL is
missing or damaged it is recovery that finds out, and the backup's fault.
"""

from __future__ import annotations

import difflib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pgdrill.errors import ConfigError
from pgdrill.postgres.clock import ClockDifference
from pgdrill.postgres.wal import format_lsn, parse_lsn
from pgdrill.postgres.waldump import dump_range, ends_in
from pgdrill.recovery.restore_points import Found, RestorePoint, restore_points
from pgdrill.recovery.targets import RecoveryTarget
from pgdrill.repository.lineage import on_path, stretches
from pgdrill.repository.restorable_window import TICK, Line, newest_first
from pgdrill.repository.tools import BaseBackup
from pgdrill.repository.tools.base import BaseBackups
from pgdrill.repository.wal_files import WalReader

logger = logging.getLogger(__name__)

LOOKING_SECONDS = 120.0  # for a restore point; recovery finds it by itself, however far it is
SHOWN = 5
# drills' and baselines' restore points: of interest to whoever asks for one of them
OWN = "pgdrill-"


@dataclass(frozen=True, slots=True)
class Reached:
    """A target that can be reached, as far as is known: from which backup, and where it lies."""

    backup: str
    stop_lsn: int | None = None


@dataclass(frozen=True)
class Archive:
    """The archived WAL that a target is looked for in."""

    wal: WalReader
    line: Line

    def time(self, target: RecoveryTarget, clock: ClockDifference) -> None:
        """Refuse an instant that has not come, or that no archived transaction follows.

        Recovery stops at such a transaction.
        """
        now = clock.on_server(datetime.now(UTC)) + timedelta(seconds=clock.uncertainty_seconds)
        newest = self._newest()
        late = newest is not None and (
            target.time > newest if target.kind == "before" else target.time >= newest
        )
        if target.time <= now and not late:
            return
        nearest = (
            f"time:{(newest - TICK).isoformat().replace('+00:00', 'Z')}"
            if newest
            else "none: no archived transaction was found"
        )
        raise ConfigError(
            "target-in-the-future" if target.time > now else "target-not-archived",
            f"recovery target {target}",
            found=(
                "the last archived transaction ended at"
                f" {newest.isoformat() if newest else 'no known time'}; it is"
                f" {now:%Y-%m-%d %H:%M:%S} UTC"
            ),
            expected=(
                f"an instant before the end of an archived transaction; the nearest is {nearest}"
            ),
            hint=(
                f"take {'that one, or ' if newest else ''}`latest`; for an instant that has only"
                " just gone by, wait until its WAL is archived (archive_timeout)"
            ),
        )

    def lsn(self, target: RecoveryTarget, written_to: int) -> None:
        """Refuse a position that production has not written yet."""
        if parse_lsn(target.value) <= written_to:
            return
        raise ConfigError(
            "target-in-the-future",
            f"recovery target {target}",
            found=f"production has written WAL up to {format_lsn(written_to)}",
            expected=(
                f"a position that is written; the nearest is lsn:{format_lsn(written_to)}, once it"
                " is archived"
            ),
            hint="correct the LSN, or take `latest`",
        )

    def name(self, target: RecoveryTarget, backup: str) -> Reached:
        """Find a restore point, and the newest backup before it.

        Refuses a name that is in no archived WAL.
        """
        backups = self._backups()
        usable = [
            one
            for one in backups
            if on_path(one, self.line.path) and backup.upper() in ("LATEST", one.name.upper())
        ]
        if not usable:
            return Reached(backup)  # preflight says what is wrong
        newest = max(usable, key=lambda one: one.finish_lsn)
        found = self._points(newest)
        oldest = min(usable, key=lambda one: one.start_lsn)
        if not found.named(target.value) and found.whole and oldest is not newest:
            found = self._points(oldest)  # an earlier one may lead to it
        if points := found.named(target.value):
            return self._reached(points, usable, backup)
        if found.whole:
            raise self._no_such_point(target, found, oldest)
        logger.info(
            "restore point %s was not found in the WAL that could be read in %.0f s: recovery will"
            " look for it",
            target.value,
            LOOKING_SECONDS,
        )
        return Reached(backup)

    def _reached(
        self, points: list[RestorePoint], usable: list[BaseBackup], backup: str
    ) -> Reached:
        newest = max(usable, key=lambda one: one.finish_lsn)
        behind = [point for point in points if point.lsn >= newest.finish_lsn]
        if behind:
            return Reached(backup, behind[0].lsn)
        before = [one for one in usable if one.finish_lsn <= points[-1].lsn]
        if not before:
            return Reached(backup)
        chosen = max(before, key=lambda one: one.finish_lsn)
        return Reached(
            chosen.name, next(point.lsn for point in points if point.lsn >= chosen.finish_lsn)
        )

    def _points(self, since: BaseBackup) -> Found:
        end = self._end_lsn()
        if end <= since.finish_lsn:
            return Found()
        return restore_points(self.wal, self.line, since.finish_lsn, end, seconds=LOOKING_SECONDS)

    def _no_such_point(
        self, target: RecoveryTarget, found: Found, since: BaseBackup
    ) -> ConfigError:
        wanted = target.value.startswith(OWN)
        own = [point.name for point in found.points if wanted or not point.name.startswith(OWN)]
        names = list(
            dict.fromkeys([*difflib.get_close_matches(target.value, own, SHOWN), *reversed(own)])
        )[:SHOWN]
        return ConfigError(
            "no-such-restore-point",
            f"recovery target {target}",
            found=(
                f"no restore point of that name in archived WAL from {format_lsn(since.finish_lsn)}"
                f" to {format_lsn(self._end_lsn())}"
            ),
            expected=(
                f"one of those there: {', '.join(f'name:{name}' for name in names)}"
                if names
                else "one, and there is none but drills' own"
            ),
            hint=(
                "correct the name, or take an instant (`pgdrill window`); one that was only just"
                " made is there once its WAL is archived"
            ),
        )

    def _newest(self) -> datetime | None:
        """Return when the last archived transaction ended.

        None where a gap, damage or a quiet server keeps from knowing it.
        """
        archived = self.wal.repository.wal()
        found = stretches(self.line.wal(archived), self.line.path, self._backups())
        if not found or found[-1].end_lsn != self._end_lsn():
            return None
        for segment in newest_first(self.line, found[-1], archived):
            file = self.wal.fetch(segment.name)
            if file is None:
                return None
            text, unbroken = dump_range(self.wal.binaries, file, file, "--rmgr=Transaction")
            file.unlink()
            if not unbroken:
                return None
            if ended := ends_in(text):
                return max(one.at for one in ended)
        return None

    def _backups(self) -> BaseBackups:
        return self.wal.repository.backups()

    def _end_lsn(self) -> int:
        newest = self.line.newest(self.wal.repository.wal(), 1)
        return newest[0].start_lsn + newest[0].size_bytes if newest else 0

"""Everything that can be known before a byte is fetched.

It takes seconds, not an hour of a tool's retries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pgdrill.access import Access
from pgdrill.baseline import backup_record
from pgdrill.errors import BackupFault, ConfigError, CouldNotVerify, Problem
from pgdrill.postgres.wal import TimelineSwitch, format_lsn, parse_lsn, segments_needed
from pgdrill.recovery.goal import Goal
from pgdrill.recovery.room import check_room
from pgdrill.recovery.targets import RecoveryTarget
from pgdrill.reports.known_backups import lost_backups, missing
from pgdrill.repository.tools import BaseBackup
from pgdrill.repository.tools.base import ArchivedWal, BaseBackups

ROOM_FACTOR = 1.1
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """A restore that can work: which backup, to where, and what it will need."""

    backup: BaseBackup
    record: backup_record.BackupRecord | None
    timeline: int
    stop_lsn: int | None  # None: known only to the WAL (a time or a name)
    wal_segments: int
    parts: Mapping[str, int]  # the backup's objects -> stored bytes
    needed_bytes: int
    newest_timeline: int  # of those whose history is archived, or the target's
    history: tuple[TimelineSwitch, ...] = ()  # of the timeline


def choose_backup(
    backups: BaseBackups, wanted: str, target: RecoveryTarget, where: str
) -> BaseBackup:
    """Choose the newest backup that can reach the target, or the one of that full name.

    One that cannot be read, and by its name is newer, is what LATEST would have been: then no older
    one stands for it.
    """
    if problem := backups.broken.get(wanted):
        raise as_fault(problem)
    if not backups:
        if backups.broken:
            raise as_fault(backups.broken[max(backups.broken)])
        raise BackupFault(
            "no-backups",
            where,
            found="no finished base backup",
            expected="at least one",
            hint=(
                "take the first one: the base_backup DAG, or `pgdrill backup`; if there should be"
                " some, correct repository.url"
            ),
        )
    if wanted.upper() != "LATEST":
        named = [backup for backup in backups if backup.name == wanted]
        if not named:
            raise ConfigError(
                "unknown-backup",
                f"backup {wanted!r} in {where}",
                found=f"only {', '.join(b.name for b in backups[-SHOWN:])}",
                expected="the full name of a finished base backup",
                hint="take a name from `pgdrill backups`",
            )
        if not _before(named[0], target):
            raise ConfigError(
                "target-too-old",
                f"recovery target {target}",
                found=(
                    f"backup {wanted} finished {named[0].finish_time.isoformat()} at"
                    f" {format_lsn(named[0].finish_lsn)}"
                ),
                expected="a base backup that finished before the target",
                hint="leave the choice of the backup to pgdrill (LATEST), or choose a later target",
            )
        return named[0]
    fitting = [backup for backup in backups if _before(backup, target)]
    if not fitting:
        raise BackupFault(
            "target-too-old",
            f"recovery target {target}",
            found=f"oldest backup {backups[0].name} finished {backups[0].finish_time.isoformat()}",
            expected="a base backup that finished before the target",
            hint="choose a later target; keep more backups if the window is too short",
        )
    chosen = max(fitting, key=lambda backup: backup.finish_time)
    # names are in the order of WAL, or of time
    if backups.broken and (newest := max(backups.broken)) > chosen.name:
        raise as_fault(backups.broken[newest])
    return chosen


def as_fault(problem: Problem) -> BackupFault:
    """Return a problem of the backup as the error that it is."""
    return BackupFault(
        problem.reason,
        problem.thing,
        found=problem.found,
        expected=problem.expected,
        hint=problem.hint,
    )


def _before(backup: BaseBackup, target: RecoveryTarget) -> bool:
    if target.kind in ("time", "before"):
        return backup.finish_time <= target.time
    if target.kind == "lsn":
        return backup.finish_lsn <= parse_lsn(target.value)
    return True


def preflight(
    access: Access, goal: Goal, *, history: tuple[TimelineSwitch, ...], directory: Path
) -> Plan:
    """Check all that can be checked, or raise the first thing that makes the restore pointless.

    ``history``: of the goal's timeline, as far as it is known beforehand.
    """
    _unused(directory)
    repository = access.repository
    listed = repository.backups()
    backup = choose_backup(listed, goal.backup, goal.target, repository.url)
    if goal.backup.upper() == "LATEST":
        _newest_known(access, listed, backup)
    _same_system(backup, goal.system_identifier, access, listed)
    _all_inside(backup, goal.tablespaces)
    parts = repository.parts(backup)
    kept = backup_record.read(access.reports, backup.name)
    problems = repository.problems(backup, parts)
    if kept:
        problems += backup_record.differences(
            kept, repository.url, parts, backup.finish_time, repository.tool.changed_by_marking
        )
    _raise_first(problems, f"backup {backup.name}")
    archived = repository.wal()
    # Where a time or a name lies is known to the WAL alone: recovery itself then proves that it was
    # reached.
    # positions name the byte after what has to be there
    end = max(goal.stop_lsn or 0, backup.finish_lsn) - 1
    line, size = goal.timeline or backup.timeline, goal.segment_bytes
    segments = _unbroken(backup, archived, end, line, history, size, repository.url)
    needed = int(backup.uncompressed_bytes * ROOM_FACTOR) + segments * size
    check_room(directory, needed, access.cluster.drill.keep_free_bytes)
    histories = [int(name[:8], 16) for name in archived if name.endswith(".history")]
    return Plan(
        backup, kept, line, goal.stop_lsn, segments, parts, needed, max([line, *histories]), history
    )


def _newest_known(access: Access, listed: BaseBackups, chosen: BaseBackup) -> None:
    """Raise if a backup that is known and was not listed is newer than the chosen one."""
    there = [*(backup.name for backup in listed), *listed.broken]
    lost = [one for one in lost_backups(access, there, quick=True) if one.name > chosen.name]
    for problem in missing("base backup", access.repository.url, lost, len(there)):
        raise as_fault(problem)


def _unused(directory: Path) -> None:
    if directory.exists() and any(directory.iterdir()):
        raise CouldNotVerify(
            "directory-in-use",
            f"{directory}",
            found="files in it",
            expected="an empty or new folder",
            hint="destroy the drill that left it, or choose another drill.work_directory",
        )


def _same_system(
    backup: BaseBackup, identifier: int | None, access: Access, listed: Sequence[BaseBackup]
) -> None:
    if identifier and backup.system_identifier != identifier:
        name = access.cluster.name
        own = [one for one in listed if one.system_identifier == identifier]
        meanwhile = (
            f"; until then restore {name}'s newest by name: --backup"
            f" {max(own, key=lambda one: one.finish_time).name}"
            if own
            else ""
        )
        raise BackupFault(
            "wrong-system",
            f"backup {backup.name}",
            found=f"system identifier {backup.system_identifier}",
            expected=f"{identifier}, production's",
            hint=(
                "another cluster wrote into this repository: give each its own prefix, then take a"
                f" base backup (`pgdrill backup {name}`){meanwhile}"
            ),
        )
    installed = access.binaries.major_version
    if backup.major_version != installed:
        raise CouldNotVerify(
            "wrong-major-version",
            f"{access.binaries.folder}",
            found=f"PostgreSQL {installed}",
            expected=f"PostgreSQL {backup.major_version}, which wrote backup {backup.name}",
            hint="install that major version here and set server.bin_dir to it",
        )


def _all_inside(backup: BaseBackup, tablespaces: Mapping[str, str]) -> None:
    """Raise where production has tablespaces that the backup lacks.

    Replay takes the path of a new tablespace from WAL; no setting maps it. For other targets, WAL
    itself is looked at.
    """
    if lacking := sorted(set(tablespaces) - set(backup.tablespaces)):
        shown = ", ".join(f"{oid} in {tablespaces[oid]!r}" for oid in lacking[:SHOWN])
        raise CouldNotVerify(
            "tablespace-not-in-backup",
            f"backup {backup.name}",
            found=f"production has tablespaces that it lacks: {shown}",
            expected=(
                "every tablespace in the backup: replay would link the restored cluster to"
                " production's own folder"
            ),
            hint="take a base backup now, then drill again",
        )


def _raise_first(problems: list[Problem], thing: str) -> None:
    if problems:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise BackupFault(
            first.reason,
            first.thing,
            found=first.found + more,
            expected=first.expected,
            hint=first.hint,
        )


def _unbroken(
    backup: BaseBackup,
    archived: ArchivedWal,
    end: int,
    timeline: int,
    history: tuple[TimelineSwitch, ...],
    segment_bytes: int,
    where: str,
) -> int:
    """Return how many segments replay will need.

    A missing or empty one is an error that names it.
    """
    total = end // segment_bytes - backup.start_lsn // segment_bytes + 1
    # However many a description asks for: among one more than there are, one is lacking.
    needed = list(
        islice(
            segments_needed(backup.start_lsn, end, timeline, history, segment_bytes),
            len(archived) + 1,
        )
    )
    lacking = [
        choices[0].name for choices in needed if not any(archived.get(s.name) for s in choices)
    ]
    if lacking:
        count = f"{len(lacking) + total - len(needed)} of {total} lacking"
        empty = lacking[0] in archived
        raise BackupFault(
            "wal-empty" if empty else "wal-gap",
            f"WAL segment {lacking[0]} in {where}",
            found=("an empty object" if empty else "no such object") + f"; {count}",
            expected=f"every segment from {format_lsn(backup.start_lsn)} through {format_lsn(end)}",
            hint=(
                "nothing after the gap can be restored: take a base backup now, then find out what"
                " lost the segment"
            ),
        )
    doubled = [choices[0].name for choices in needed if choices[0].name in archived.doubles]
    if doubled:
        raise BackupFault(
            "wal-duplicate",
            f"WAL segment {doubled[0]} in {where}",
            found=(
                f"{len(archived.doubles[doubled[0]])} objects:"
                f" {', '.join(archived.doubles[doubled[0]])}"
            ),
            expected="one object: which of several a restore gets is chance",
            hint=(
                "fetch each with the tool, compare them with pg_waldump, and delete what is not"
                " production's; two alike may both be right"
            ),
        )
    return len(needed)

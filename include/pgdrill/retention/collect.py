"""The collector of everything that the planner may know.

Whatever cannot be read is said: nothing is deleted on a guess.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pgdrill.access import Access
from pgdrill.baseline import backup_record
from pgdrill.baseline.own_system import OwnSystem, none_of_its_own, own_system
from pgdrill.baseline.segment_size import segment_bytes
from pgdrill.errors import BackupFault, PgdrillError, Problem
from pgdrill.host.process import Runner
from pgdrill.postgres.wal import TimelineSwitch
from pgdrill.recovery.timelines import (
    Timelines,
    branches,
    followed,
    last_known_timeline,
    production_timeline,
)
from pgdrill.reports import known_backups, store
from pgdrill.reports.model import Branch, Report
from pgdrill.repository import prune_runs
from pgdrill.repository.ledger import read_ledger
from pgdrill.repository.lineage import foreign_timelines
from pgdrill.repository.tools.base import BaseBackup, Entry
from pgdrill.repository.wal_files import history_missing
from pgdrill.repository.wal_ranges import Position, Wal, parse_wal
from pgdrill.retention import holds, known
from pgdrill.retention.dumps import read_dumps
from pgdrill.retention.inventory import Backup, Inventory, Leftover, Mark, ToolRules, Unreadable
from pgdrill.retention.promises import view

READERS = 8
MOST_TIMELINES = 1000  # each costs a start of the tool; a cluster has a handful in its life


def take_inventory(access: Access, runner: Runner) -> Inventory:
    """Read repository, report store and memory. Writes nothing."""
    size = segment_bytes(access)
    ledger = read_ledger(access.reports)
    entries = access.repository.catalog()
    archived = access.repository.wal()
    incomplete: list[Problem] = []
    histories = _histories(access, runner, archived, incomplete)
    wal = Wal(parse_wal(archived, size), histories, size)
    finished = [entry for entry in entries if entry.finished]
    named = {entry.name: entry for entry in finished}
    with ThreadPoolExecutor(READERS) as pool:
        damages = list(pool.map(lambda entry: _damage(access, entry, named, wal), finished))
    reports = _reports(access, incomplete)
    described = [entry.backup for entry in finished if entry.backup]
    own = own_system(access, described)
    timeline, likely, ends = _timelines(access, wal, own.of(described), reports)
    marks: dict[str, Mark] = {
        e.name: ("pgdrill" if e.name in ledger.marked else "hand") if e.permanent else ""
        for e in finished
    }
    inventory = Inventory(
        backups=tuple(
            Backup.of(entry.backup, sum(entry.keys.values()), marks[entry.name], damage)
            for entry, damage in zip(finished, damages, strict=True)
            if entry.backup
        ),
        wal=wal,
        dumps=read_dumps(access.dumps),
        unreadable=tuple(_unreadable(entry, size) for entry in finished if entry.backup is None),
        leftovers=_leftovers(access, [entry for entry in entries if not entry.finished]),
        drilled=_drilled(reports),
        holds=holds.read_holds(access),
        doubted=ledger.doubted,
        system_identifier=own.identifier,
        unclear=own.problem is not None,
        timeline=timeline,
        likely_timeline=likely,
        branches=ends,
        rules=ToolRules(access.tool.keeps_own_wal_only, access.tool.frees_wal_alone),
        incomplete=tuple(incomplete),
    )
    inventory = replace(inventory, let_go=_let_go(access, inventory))
    inventory = _remembered(access, inventory, [entry.name for entry in finished], reports)
    inventory = replace(
        inventory, unseen=(*_not_its_own(access, inventory, own), *inventory.unseen)
    )
    return replace(
        inventory,
        written=_written(
            access,
            foreign_timelines(
                wal, view(inventory, access.cluster.retention, datetime.now(UTC)).paths
            ),
        ),
    )


def _timelines(
    access: Access, wal: Wal, backups: Sequence[BaseBackup], reports: Sequence[Report]
) -> tuple[int | None, int | None, tuple[Branch, ...]]:
    """Return production's timeline, the likeliest one without its word, and other ends of WAL.

    The first is by production's own word. The other ends are those of archived WAL.
    """
    found, timeline = Timelines(wal), production_timeline(access)
    if timeline is not None:
        return timeline, None, tuple(branches(access, found, timeline, [], production=True))
    likely, doubtful = followed(found, last_known_timeline(backups, reports))
    return (
        None,
        likely,
        (
            tuple(branches(access, found, likely, doubtful, production=False))
            if likely is not None
            else ()
        ),
    )


def _not_its_own(access: Access, inventory: Inventory, own: OwnSystem) -> tuple[Problem, ...]:
    """Return the problem of backups that cannot be told from others', or of none of its own."""
    return (own.problem,) if own.problem else tuple(none_of_its_own(access, inventory.backups, own))


def _let_go(access: Access, inventory: Inventory) -> dict[str, datetime]:
    """Return when the last run that deleted a thing began, for each that a hold names and is gone.

    A thing that no such run deleted is not in it.
    """
    gone = {hold.name for hold in inventory.holds} - inventory.names
    if not gone:
        return {}
    return {
        step.name: run.started_at
        for run in prune_runs.runs(access.reports)
        for step in run.steps
        if step.name in gone
        and step.kind.startswith("delete")
        and step.state in ("done", "was done")
    }


def _written(access: Access, timelines: list[int]) -> dict[int, datetime]:
    """Return when each timeline's newest object was written: timeline -> time.

    The store is asked only where there is such a timeline.
    """
    found: dict[int, datetime] = {}
    if timelines:
        for key, at in access.objects.written(access.repository.wal_folder).items():
            if (segment := access.tool.wal_key(key)) and (
                line := int(segment[:8], 16)
            ) in timelines:
                found[line] = max(at, found.get(line, at))
    return found


def _damage(access: Access, entry: Entry, known: Mapping[str, Entry], wal: Wal) -> str:
    """Return what is wrong with a backup itself, in few words, or an empty string.

    What it builds on is looked at on its own.
    """
    backup = entry.backup
    if backup is None:
        return ""
    own_wal = Backup.of(backup).own_wal(wal)
    if not wal.holds(own_wal.timeline, own_wal.first, own_wal.last):
        return (
            f"WAL that it needs itself is missing ({wal.name((own_wal.timeline, own_wal.first))}"
            " and on)"
        )
    if backup.parent and backup.parent not in known:
        return f"{backup.parent}, on which it builds, is missing"
    try:
        parts = access.repository.parts(backup)
        problems = access.repository.problems(backup, parts)
        if recorded := backup_record.read(access.reports, backup.name):
            problems += backup_record.differences(
                recorded,
                access.repository.url,
                parts,
                backup.finish_time,
                access.tool.changed_by_marking,
            )
    except BackupFault as error:
        problems = [error.problem]
    return f"{problems[0].reason}: {problems[0].thing}" if problems else ""


def _unreadable(entry: Entry, size: int) -> Unreadable:
    position: Position | None = None
    if entry.first_segment:
        per_id = 0x100000000 // size
        words = [int(entry.first_segment[at : at + 8], 16) for at in (0, 8, 16)]
        position = words[0], words[1] * per_id + words[2]
    return Unreadable(entry.name, entry.trouble, position, sum(entry.keys.values()))


def _leftovers(access: Access, entries: list[Entry]) -> tuple[Leftover, ...]:
    if not entries:
        return ()
    prefix = next(iter(entries[0].keys)).split(entries[0].name)[0]
    written = access.objects.written(prefix)
    now = datetime.now(UTC)
    return tuple(
        Leftover(
            entry.name, sum(entry.keys.values()), max(written.get(key, now) for key in entry.keys)
        )
        for entry in entries
    )


def _histories(
    access: Access, runner: Runner, archived: Mapping[str, int], incomplete: list[Problem]
) -> dict[int, tuple[TimelineSwitch, ...]]:
    """Read the history of each timeline that has WAL or a history file."""
    lines = sorted({int(name[:8], 16) for name in archived} - {1})
    found: dict[int, tuple[TimelineSwitch, ...]] = {}
    for line in [line for line in lines if f"{line:08X}.history" not in archived][:MOST_TIMELINES]:
        incomplete.append(history_missing(access.repository.url, line).problem)
    with tempfile.TemporaryDirectory(prefix="pgdrill-") as folder:
        wal = access.wal_reader(runner, Path(folder))
        for line in [line for line in lines if f"{line:08X}.history" in archived][:MOST_TIMELINES]:
            try:
                found[line] = wal.history(line)
            except BackupFault as error:
                incomplete.append(error.problem)
    return found


def _reports(access: Access, incomplete: list[Problem]) -> list[Report]:
    """Read every drill's report."""
    found = []
    for drill_id in store.list_reports(access):
        try:
            found.append(store.load_report(access, drill_id))
        except PgdrillError as error:
            incomplete.append(error.problem)
    return found


def _drilled(reports: Iterable[Report]) -> dict[str, datetime]:
    """Return when a drill of each backup last passed: backup -> time."""
    found: dict[str, datetime] = {}
    for report in reports:
        if report.verdict == "passed" and report.backup:
            found[report.backup] = max(
                report.started_at, found.get(report.backup, report.started_at)
            )
    return found


def _remembered(
    access: Access, inventory: Inventory, there: Collection[str], reports: Sequence[Report]
) -> Inventory:
    """Return the inventory with what is known and was not seen."""
    dumps = [dump.name for dump in inventory.dumps]
    backups, lost = known_backups.lost_backups(access, there), known.lost_dumps(access, dumps)
    unseen = [
        *known_backups.missing("base backup", access.repository.url, backups, len(there)),
        *known_backups.missing("dump", access.dumps.url, lost, len(dumps)),
        *known.missing_wal(access.repository.url, inventory.wal, bool(there), reports),
    ]
    if not there and not dumps and not unseen:
        unseen.append(known.nothing_there(access.repository.url))
    names = tuple(one.name for one in (*backups, *lost))
    return replace(
        inventory, unseen=tuple(unseen), forgotten=names, no_memory=known.no_memory(access, there)
    )

"""The base backups as the promises see them, read once in a look."""

from __future__ import annotations

from pgdrill.baseline.own_system import own_system
from pgdrill.health.continuity import merged, wal_of
from pgdrill.health.memory import Needed
from pgdrill.health.subject import BackupFacts, HealthSubject
from pgdrill.repository.ledger import read_ledger
from pgdrill.repository.lineage import on_path
from pgdrill.retention.inventory import Backup, Inventory
from pgdrill.retention.promises import view


def read_backups(subject: HealthSubject) -> BackupFacts:
    """Read the backups' own descriptions, and note which WAL they need."""
    if subject.backups:
        return subject.backups
    access, memory = subject.access, subject.memory
    found = access.repository.backups()
    own = own_system(access, found)
    inventory = Inventory(
        backups=tuple(Backup.of(backup) for backup in found),
        wal=wal_of(memory.wal),
        system_identifier=own.identifier,
        unclear=own.problem is not None,
        timeline=memory.timeline,
        doubted=read_ledger(access.reports).doubted,
    )
    seen = view(inventory, access.cluster.retention, subject.now)
    path = seen.paths[0] if seen.paths else ()
    on_way = [backup for backup in seen.counted if on_path(backup, path)]
    memory.needed = None
    if on_way:
        begin = seen.anchor or on_way[0]
        memory.needed = Needed(
            start_lsn=begin.start_lsn,
            newest_lsn=max(on_way, key=lambda backup: backup.finish_time).start_lsn,
            own=merged(
                backup.own_wal(inventory.wal)
                for backup in seen.counted
                if backup.start_lsn < begin.start_lsn
            ),
        )
    broken = {name: problem.found for name, problem in found.broken.items()}
    subject.backups = BackupFacts(tuple(seen.counted), inventory, broken)
    return subject.backups

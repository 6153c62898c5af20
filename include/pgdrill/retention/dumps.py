"""The logical dumps as the planner sees them.

A dump counts if a restore of it has passed, and none since found it damaged.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime

from pgdrill.documents import LARGE_DOCUMENT_BYTES, Bytes, Instant, ToolDocument, read_model
from pgdrill.errors import BackupFault
from pgdrill.logical.manifest import DUMP_ID
from pgdrill.logical.report import DumpReport, counts
from pgdrill.logical.store import parse_report
from pgdrill.repository.object_store import Storage
from pgdrill.retention.inventory import Dump

MANIFEST = "manifest.json"


def read_dumps(store: Storage) -> tuple[Dump, ...]:
    """Read every dump with a manifest."""
    objects: dict[str, dict[str, int]] = defaultdict(dict)
    for key, size in store.sizes().items():
        name, _, rest = key.partition("/")
        if rest:
            objects[name][rest] = size
    return tuple(
        _dump(store, name, sizes)
        for name, sizes in sorted(objects.items())
        if MANIFEST in sizes and DUMP_ID.fullmatch(name)
    )


class File(ToolDocument):
    """A file of a dump."""

    name: str
    bytes: Bytes


class DatabaseFiles(ToolDocument):
    """The files of a database."""

    files: list[File]


class Parts(ToolDocument):
    """The part of a manifest, of whatever version, that retention has to know."""

    ended_at: Instant
    global_objects: File
    databases: list[DatabaseFiles]


def _dump(store: Storage, name: str, sizes: dict[str, int]) -> Dump:
    keys = tuple(f"{name}/{rest}" for rest in sorted(sizes, key=lambda rest: rest != MANIFEST))
    total = sum(sizes.values())
    try:
        manifest = read_model(Parts, store.read(f"{name}/{MANIFEST}", LARGE_DOCUMENT_BYTES))
    except (ValueError, BackupFault) as error:
        # Its day is not known, so it gets the newest there can be: it takes no other's place and is
        # not deleted.
        return Dump(name, datetime.now(UTC), total, f"its manifest is unreadable ({error})", keys)
    files = [
        manifest.global_objects,
        *(file for database in manifest.databases for file in database.files),
    ]
    lacking = [file.name for file in files if sizes.get(file.name) != file.bytes]
    damage = f"{lacking[0]} is missing or has another size" if lacking else ""
    if not damage:
        reports = [
            report
            for key in keys
            if key.startswith(f"{name}/drill-") and (report := _report(store, key))
        ]
        proved = any(report.proves for report in reports)
        damage = (
            ""
            if counts(reports)
            else "its last restore found it damaged"
            if proved
            else "no restore of it has passed"
        )
    return Dump(name, manifest.ended_at, total, damage, keys)


def _report(store: Storage, key: str) -> DumpReport | None:
    try:
        return parse_report(store.read_listed(key), key)
    except (ValueError, BackupFault):
        return None  # written by another version, or broken: no proof

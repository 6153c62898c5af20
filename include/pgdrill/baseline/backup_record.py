"""The backup's record: the parts of a base backup, and what production held when it was taken.

It is kept beside the reports as ``backups/<name>.json``. It knows every object of the backup with
its size, so that a later restore sees a missing or shortened part whatever the tool's own metadata
tells.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from datetime import datetime
from pathlib import PurePosixPath

from pydantic import Field

from pgdrill.baseline import Baseline
from pgdrill.documents import (
    LARGE_DOCUMENT_BYTES,
    Bytes,
    Instant,
    StrictModel,
    load_json,
    read_model,
)
from pgdrill.errors import BackupFault, Problem
from pgdrill.repository.object_store import Storage

logger = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,99}")
RECORD_VERSION = 4  # of the record and of the baseline in it; a new form gets a new number


class BackupRecord(StrictModel):
    """One base backup as it was when it was good."""

    version: int = RECORD_VERSION
    name: str
    cluster: str
    tool: str
    finished_at: Instant
    objects: dict[str, Bytes]
    baseline: Baseline
    # database -> oid of a vector index -> the figures that it was built with
    built: dict[str, dict[str, dict[str, int]]] = Field(default_factory=dict)


def key(name: str) -> str:
    """Return the key under which the record of a backup is kept."""
    return f"backups/{name}.json"


def write(reports: Storage, record: BackupRecord) -> None:
    """Write a record to the reports."""
    reports.write(key(record.name), record.model_dump_json(indent=1).encode())


def read(reports: Storage, name: str) -> BackupRecord | None:
    """Read the record of a backup; None for one that pgdrill did not take.

    None, too, for a record of another version. Raises :class:`BackupFault` for one that cannot be
    read.
    """
    if not NAME.fullmatch(name):  # the name comes from a listing or a report, and becomes a key
        return None
    try:
        text = reports.read(key(name), LARGE_DOCUMENT_BYTES)
        if text is None:
            return None
        data = load_json(text)
        version = data.get("version") if isinstance(data, dict) else None
        if isinstance(version, int) and version != RECORD_VERSION:
            logger.warning(
                "the record of backup %s has version %s, not %s: not used",
                name,
                version,
                RECORD_VERSION,
            )
            return None
        record = read_model(BackupRecord, text)
        if record.name != name:
            raise ValueError(f"it is that of backup {record.name[:60]}")  # noqa: TRY301
    except ValueError as error:
        raise BackupFault(
            "record-broken",
            f"{reports.url}/{key(name)}",
            found=f"unreadable ({error})",
            expected="the record pgdrill wrote after the backup",
            hint="restore the object from the bucket's versions, or delete it to drill without it",
        ) from None
    return record


def differences(
    record: BackupRecord,
    repository_url: str,
    parts: dict[str, int],
    finished_at: datetime,
    may_change: Collection[str] = (),
) -> list[Problem]:
    """Return in what a backup's objects differ from its record.

    Such objects are gone, have another size than after the backup, or were added to it; or the
    metadata is another backup's. Objects of a name in ``may_change`` need only be there.
    """
    hint = "choose another backup; find out what changes the bucket; take a new base backup"
    found = []
    if finished_at != record.finished_at:
        found.append(
            Problem(
                "wrong-backup",
                f"metadata of backup {record.name} in {repository_url}",
                f"a backup that finished {finished_at.isoformat()}",
                f"{record.finished_at.isoformat()}, as recorded after the backup",
                hint,
            )
        )
    # Tools unpack every archive they find there. Other objects may well come later, as barman's
    # note to keep a backup does.
    found += [
        Problem(
            "unexpected-part",
            f"{repository_url}/{name}",
            f"{size} bytes",
            "nothing of that name, as recorded after the backup",
            hint,
        )
        for name, size in parts.items()
        if name not in record.objects and ".tar" in name
    ]
    for name, size in record.objects.items():
        now = parts.get(name)
        if now != size and not (now and PurePosixPath(name).name in may_change):
            found.append(
                Problem(
                    "missing-part" if now is None else "changed-part",
                    f"{repository_url}/{name}",
                    "no such object" if now is None else f"{now} bytes",
                    f"{size} bytes, as recorded after the backup",
                    hint,
                )
            )
    return found

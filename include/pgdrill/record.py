"""The backup's record: what a base backup consisted of and what production held when it was taken.

Kept beside the reports as ``backups/<name>.json``. It knows every object of the backup with its size, which lets a
later restore see a missing or shortened part whatever the tool's own metadata tells.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from datetime import datetime
from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict, ValidationError

from pgdrill.baseline import Baseline
from pgdrill.errors import BackupFault, Problem
from pgdrill.storage import Storage

logger = logging.getLogger(__name__)

RECORD_VERSION = 4  # of the record and the baseline in it: a new form gets a new number


class BackupRecord(BaseModel):
    """One base backup as it was when it was good."""

    model_config = ConfigDict(extra="forbid")

    version: int = RECORD_VERSION
    name: str
    cluster: str
    tool: str
    finished_at: datetime
    objects: dict[str, int]
    baseline: Baseline


def key(name: str) -> str:
    """Where the record of a backup is kept."""
    return f"backups/{name}.json"


def write(reports: Storage, record: BackupRecord) -> None:
    """Keep a record."""
    reports.write(key(record.name), record.model_dump_json(indent=1).encode())


def read(reports: Storage, name: str) -> BackupRecord | None:
    """The record of a backup; None for one that pgdrill did not take."""
    text = reports.read(key(name))
    if text is None:
        return None
    try:
        version = json.loads(text)["version"]
        if version != RECORD_VERSION:
            logger.warning("the record of backup %s has version %s, not %s: not used", name, version, RECORD_VERSION)
            return None
        return BackupRecord.model_validate_json(text)
    except (ValueError, KeyError, TypeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        raise BackupFault(
            "record-broken", f"{reports.url}/{key(name)}", found=f"unreadable ({first['loc']}: {first['msg']})",
            expected="the record pgdrill wrote after the backup",
            mend="restore the object from the bucket's versions, or delete it to drill without it",
        ) from None  # fmt: skip


def differences(
    record: BackupRecord, repository_url: str, parts: dict[str, int], finished_at: datetime, may_change: Collection[str] = ()
) -> list[Problem]:
    """Objects that are gone, have another size than after the backup, or were added to it; another backup's metadata.

    Objects of a name in ``may_change`` need only be there.
    """
    mend = "choose another backup; find out what changes the bucket; take a new base backup"
    found = []
    if finished_at != record.finished_at:
        found.append(Problem(
            "wrong-backup", f"metadata of backup {record.name} in {repository_url}",
            f"a backup that finished {finished_at.isoformat()}", f"{record.finished_at.isoformat()}, as recorded after the backup",
            mend,
        ))  # fmt: skip
    # Tools unpack every archive they find there. What is no archive may well come later: barman's note to keep a backup.
    found += [
        Problem("unexpected-part", f"{repository_url}/{name}", f"{size} bytes", "nothing of that name, as recorded after the backup", mend)
        for name, size in parts.items() if name not in record.objects and ".tar" in name
    ]  # fmt: skip
    for name, size in record.objects.items():
        now = parts.get(name)
        if now != size and not (now and PurePosixPath(name).name in may_change):
            found.append(Problem(
                "missing-part" if now is None else "changed-part", f"{repository_url}/{name}",
                "no such object" if now is None else f"{now} bytes", f"{size} bytes, as recorded after the backup",
                mend,
            ))  # fmt: skip
    return found

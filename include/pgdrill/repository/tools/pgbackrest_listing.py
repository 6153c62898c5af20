"""pgBackRest's side of listing and deleting: its catalog, and what a dry run says (2.55.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pgdrill.errors import BackupFault
from pgdrill.repository.object_store import Storage
from pgdrill.repository.tools import pgbackrest_info as info
from pgdrill.repository.tools.base import BaseBackup, BaseBackups, Entry

OWNER = re.compile(rf"backup/[^/]+/({info.LABEL})/.+")
WAL_FILE = re.compile(r"archive/[^/]+/[^/]+/[0-9A-F]{16}/([0-9A-F]{24})(?:[-.][\w.-]+)?")
REMOVED = re.compile(rf"remove expired backup ({info.LABEL})")
WAL_REMOVED = re.compile(
    r"repo1: (\S+) remove archive, start = ([0-9A-F]{16,24}), stop = ([0-9A-F]{16,24})"
)
ARCHIVE_REMOVED = re.compile(r"remove archive path:? (\S+)")


def backups(repository: Storage, folder: str) -> BaseBackups:
    """Read the backups that ``backup.info`` lists, with their tablespaces from the manifests."""
    return BaseBackups(
        {
            name: found.problem if isinstance(found, BackupFault) else found
            for name, found in _read(repository, folder).items()
        }
    )


def listed(repository: Storage, folder: str) -> Mapping[str, Any]:
    """Return the lines of ``backup.info``: label -> what it says of the backup."""
    return (info.read_info(repository, folder, "backup") or {}).get("backup:current", {})


def _read(repository: Storage, folder: str) -> dict[str, BaseBackup | BackupFault]:
    told = info.read_info(repository, folder, "backup") or {}
    lines = {
        name: line
        for name, line in told.get("backup:current", {}).items()
        if re.fullmatch(info.LABEL, name)
    }
    manifests = (f"{folder}/{name}/backup.manifest" for name in lines)
    found: dict[str, BaseBackup | BackupFault] = {}
    for (name, line), spaces in zip(
        lines.items(), info.tablespaces(repository, manifests), strict=True
    ):
        try:
            if isinstance(spaces, BackupFault):
                raise spaces
            found[name] = info.parse_backup(name, line, told.get("db:history", {}), spaces)
        except BackupFault as error:
            found[name] = error
    return found


def catalog(repository: Storage, folder: str) -> list[Entry]:
    """List every label that has objects, and those that ``backup.info`` lists.

    What it does not list is not finished.
    """
    keys: dict[str, dict[str, int]] = {}
    for key, size in repository.sizes(f"{folder}/").items():
        if match := OWNER.fullmatch(key):
            keys.setdefault(match[1], {})[key] = size
    read, lines = _read(repository, folder), listed(repository, folder)
    entries = []
    for name in sorted(keys):
        found = read.get(name)
        entries.append(
            Entry(
                name,
                keys[name],
                found if isinstance(found, BaseBackup) else None,
                trouble=found.problem.found if isinstance(found, BackupFault) else "",
                permanent=kept(lines.get(name)),
                finished=found is not None,
            )
        )
    return entries


def kept(line: Any) -> bool:
    """Return whether a backup's line has pgdrill's annotation.

    One that is broken counts as kept.
    """
    if line is None:
        return False
    if not isinstance(line, dict) or not isinstance(line.get("backup-annotation", {}), dict):
        return True
    return bool(line.get("backup-annotation", {}).get(info.KEEP))


def fulls_to_reach(lines: Mapping[str, Any]) -> int:
    """Return how many full backups there are from the oldest that is not kept on; 0: none is."""
    fulls = sorted(name for name in lines if "_" not in name)
    free = [at for at, name in enumerate(fulls) if not kept(lines[name])]
    return len(fulls) - free[0] if free else 0


def named(output: str, keys: Mapping[str, int], stanza: str) -> set[str]:
    """Return the keys that a dry run names, by labels and by ranges of WAL."""
    folders = tuple(f"backup/{stanza}/{match[1]}/" for match in REMOVED.finditer(output))
    folders += tuple(
        f"archive/{stanza}/{match[1].rsplit('/', 1)[-1]}/"
        for match in ARCHIVE_REMOVED.finditer(output)
    )
    found = {key for key in keys if folders and key.startswith(folders)}
    for match in WAL_REMOVED.finditer(output):
        archive, first, last = match.groups()
        for key in keys:
            segment = wal_key(key) if key.startswith(f"archive/{stanza}/{archive}/") else ""
            if segment and first <= segment[: len(first)] and segment[: len(last)] <= last:
                found.add(key)
    return found


def wal_key(key: str) -> str:
    """Return the segment that an object of the WAL folders belongs to, or an empty string."""
    match = WAL_FILE.fullmatch(key)
    return match[1] if match else ""

"""wal-g's side of deleting: its catalog, and what a dry run says (tried with 3.0.8)."""

from __future__ import annotations

import re
from collections.abc import Callable

from pgdrill.documents import (
    DESCRIPTION_BYTES,
    SMALL_DOCUMENT_BYTES,
    Content,
    ToolDocument,
    read_model,
)
from pgdrill.errors import BackupFault
from pgdrill.repository.object_store import Storage
from pgdrill.repository.tools.base import BaseBackup, Entry

BASE = "basebackups_005"
OWNER = re.compile(
    rf"{BASE}/(base_[0-9A-F]{{24}}(?:_D_[0-9A-F]{{24}})?)(?:/.+|(_backup_stop_sentinel\.json))"
)
NAMED = re.compile(r"will be deleted: (.+?)(?:, from storage: \S+)?$", re.MULTILINE)
WAL_FILE = re.compile(r"wal_005/([0-9A-F]{24})(?:\.[\w.]+)?")
# A dry run speaks on stderr, of which a runner keeps the last lines only.
MERGED = ("sh", "-c", 'exec "$@" 2>&1', "sh")


class Metadata(ToolDocument):
    """The part of a backup's ``metadata.json`` that is used."""

    is_permanent: bool


def catalog(repository: Storage, parse: Callable[[str, Content], BaseBackup]) -> list[Entry]:
    """List every name below the folder of base backups.

    A name without a sentinel is not finished.
    """
    keys: dict[str, dict[str, int]] = {}
    finished = set()
    for key, size in repository.sizes(f"{BASE}/").items():
        if match := OWNER.fullmatch(key):
            keys.setdefault(match[1], {})[key] = size
            if match[2]:
                finished.add(match[1])
    done = sorted(finished)
    sentinels = {_sentinel(name): name for name in done}
    marks = {_metadata(name): name for name in done}
    backups = {
        sentinels[key]: _parsed(parse, sentinels[key], text)
        for key, text in repository.read_all(sentinels, DESCRIPTION_BYTES)
    }
    permanents = {
        marks[key]: _marked(text) for key, text in repository.read_all(marks, SMALL_DOCUMENT_BYTES)
    }
    return [
        _entry(name, keys[name], backups[name], permanents[name])
        if name in finished
        else Entry(name, keys[name], first_segment=_first(name), finished=False)
        for name in sorted(keys)
    ]


def _first(name: str) -> str:
    return name.removeprefix("base_")[:24]


def _sentinel(name: str) -> str:
    return f"{BASE}/{name}_backup_stop_sentinel.json"


def _metadata(name: str) -> str:
    return f"{BASE}/{name}/metadata.json"


def _parsed(
    parse: Callable[[str, Content], BaseBackup], name: str, text: Content
) -> BaseBackup | str:
    try:
        return parse(name, text)
    except BackupFault as error:
        return error.problem.found


def _marked(text: Content) -> bool | str:
    try:
        return read_model(Metadata, text).is_permanent
    except ValueError as error:
        return f"metadata.json unreadable ({error})"


def _entry(name: str, keys: dict[str, int], backup: BaseBackup | str, marked: bool | str) -> Entry:
    """Return the entry of a backup. A text in place of a value says why it could not be read."""
    if isinstance(backup, str) or isinstance(marked, str):
        return Entry(
            name,
            keys,
            trouble=backup if isinstance(backup, str) else str(marked),
            first_segment=_first(name),
        )
    return Entry(name, keys, backup, first_segment=_first(name), permanent=marked)


def permanent(repository: Storage, name: str) -> bool:
    """Return whether a backup is marked.

    One whose metadata is gone or broken is not known to be free, so it counts as marked.
    """
    try:
        return read_model(
            Metadata, repository.read(_metadata(name), SMALL_DOCUMENT_BYTES)
        ).is_permanent
    except (ValueError, BackupFault):
        return True


def named(output: str) -> set[str]:
    """Return the keys that a dry run names, as the repository has them.

    ``delete target`` names them relative to the folder of base backups.
    """
    found = (match[1].strip() for match in NAMED.finditer(output))
    return {f"{BASE}/{name}" if name.startswith("base_") else name for name in found}


def wal_key(key: str) -> str:
    """Return the segment that an object of the WAL folder belongs to, or an empty string."""
    match = WAL_FILE.fullmatch(key)
    return match[1] if match else ""

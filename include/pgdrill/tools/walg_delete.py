"""wal-g's side of deleting: what there is, and what a dry run says (tried with 3.0.8)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from pgdrill.documents import Content, ToolDocument, read_model
from pgdrill.errors import BackupFault
from pgdrill.storage import Storage
from pgdrill.tools.base import BaseBackup, Entry

BASE = "basebackups_005"
OWNER = re.compile(rf"{BASE}/(base_[0-9A-F]{{24}}(?:_D_[0-9A-F]{{24}})?)(?:/.+|(_backup_stop_sentinel\.json))")
NAMED = re.compile(r"will be deleted: (.+?)(?:, from storage: \S+)?$", re.MULTILINE)
WAL_FILE = re.compile(r"wal_005/([0-9A-F]{24})(?:\.[\w.]+)?")
# A dry run speaks on stderr, of which a runner keeps the last lines only.
MERGED = ("sh", "-c", 'exec "$@" 2>&1', "sh")


class Metadata(ToolDocument):
    """What is used of a backup's ``metadata.json``."""

    is_permanent: bool


def catalog(repository: Storage, parse: Callable[[str, Content], BaseBackup]) -> list[Entry]:
    """Every name below the folder of base backups; without a sentinel it is not finished."""
    keys: dict[str, dict[str, int]] = {}
    finished = set()
    for key, size in repository.sizes(f"{BASE}/").items():
        if match := OWNER.fullmatch(key):
            keys.setdefault(match[1], {})[key] = size
            if match[2]:
                finished.add(match[1])
    texts = repository.read_all(key for name in finished for key in (_sentinel(name), _metadata(name)))
    return [_entry(texts, name, keys[name], name in finished, parse) for name in sorted(keys)]


def _sentinel(name: str) -> str:
    return f"{BASE}/{name}_backup_stop_sentinel.json"


def _metadata(name: str) -> str:
    return f"{BASE}/{name}/metadata.json"


def _entry(
    texts: Mapping[str, Content], name: str, keys: dict[str, int], finished: bool, parse: Callable[[str, Content], BaseBackup]
) -> Entry:
    first = name.removeprefix("base_")[:24]
    if not finished:
        return Entry(name, keys, first_segment=first, finished=False)
    try:
        backup = parse(name, texts[_sentinel(name)])
        marked = read_model(Metadata, texts[_metadata(name)]).is_permanent
    except BackupFault as error:
        return Entry(name, keys, trouble=error.problem.found, first_segment=first)
    except ValueError as error:
        return Entry(name, keys, trouble=f"metadata.json unreadable ({error})", first_segment=first)
    return Entry(name, keys, backup, first_segment=first, permanent=marked)


def permanent(repository: Storage, name: str) -> bool:
    """Whether a backup is marked; one whose metadata is gone or broken is not known to be free, so it counts as marked."""
    try:
        return read_model(Metadata, repository.read(_metadata(name))).is_permanent
    except ValueError:
        return True


def named(output: str) -> set[str]:
    """Keys as the repository has them: ``delete target`` names them relative to the folder of base backups."""
    found = (match[1].strip() for match in NAMED.finditer(output))
    return {f"{BASE}/{name}" if name.startswith("base_") else name for name in found}


def wal_key(key: str) -> str:
    """The segment an object of the WAL folder belongs to."""
    match = WAL_FILE.fullmatch(key)
    return match[1] if match else ""

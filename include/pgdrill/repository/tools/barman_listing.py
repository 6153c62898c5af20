"""barman-cloud's side of deleting: its catalog, and what a dry run says (tried with 3.19.1)."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from pgdrill.documents import DESCRIPTION_BYTES, Content
from pgdrill.errors import BackupFault
from pgdrill.repository.object_store import Storage
from pgdrill.repository.tools.base import BaseBackup, Entry

OWNER = re.compile(r"[^/]+/base/([0-9]{8}T[0-9]{6})/.+")
LISTED = re.compile(r"Skipping deletion of objects (\[.*\]) due to --dry-run option")
PREFIX = re.compile(r"Skipping deletion of all objects under prefix (\S+) due to --dry-run option")
WAL_FILE = re.compile(r"[^/]+/wals/[0-9A-F]{16}/([0-9A-F]{24})(?:\.[A-Za-z0-9_.]+)?")


def catalog(
    repository: Storage, server: str, parse: Callable[[str, Content], BaseBackup | None]
) -> list[Entry]:
    """List every id below ``base/``. What is not DONE is not finished."""
    keys: dict[str, dict[str, int]] = {}
    for key, size in repository.sizes(f"{server}/base/").items():
        if match := OWNER.fullmatch(key):
            keys.setdefault(match[1], {})[key] = size
    infos = {f"{server}/base/{name}/backup.info": name for name in sorted(keys)}
    there = [key for key, name in infos.items() if key in keys[name]]
    read = {
        infos[key]: _entry(server, infos[key], keys[infos[key]], text, parse)
        for key, text in repository.read_all(there, DESCRIPTION_BYTES)
    }
    return [read.get(name) or Entry(name, keys[name], finished=False) for name in sorted(keys)]


def _entry(
    server: str,
    name: str,
    keys: dict[str, int],
    text: Content,
    parse: Callable[[str, Content], BaseBackup | None],
) -> Entry:
    try:
        backup = parse(name, text)
    except BackupFault as error:
        return Entry(name, keys, trouble=error.problem.found)
    return Entry(
        name,
        keys,
        backup,
        permanent=f"{server}/base/{name}/annotations/keep" in keys,
        finished=backup is not None,
    )


def named(output: str, keys: Mapping[str, int], url: str) -> set[str]:
    """Return the keys that a dry run names, as the repository has them.

    Barman names them from the bucket's root, or a whole prefix at once.
    """
    root = urlsplit(url).path.strip("/")
    found: set[str] = set()
    for match in LISTED.finditer(output):
        found |= {_below(root, path) for path in ast.literal_eval(match[1])}
    for match in PREFIX.finditer(output):
        prefix = _below(root, match[1])
        found |= {key for key in keys if key.startswith(prefix)} or {prefix}
    return found


def _below(root: str, path: str) -> str:
    return path.removeprefix(f"{root}/") if root else path


def wal_key(key: str) -> str:
    """Return the segment that an object of the WAL folders belongs to, or an empty string."""
    match = WAL_FILE.fullmatch(key)
    return match[1] if match else ""

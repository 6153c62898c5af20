"""The logical dumps as the planner sees them. A dump counts if a restore of it has passed."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from pgdrill.access import Access
from pgdrill.retention.inventory import Dump
from pgdrill.storage import Storage

MANIFEST = "manifest.json"


def dump_store(access: Access) -> Storage:
    """Where dumps are kept: ``<id>/manifest.json`` is written last, reports of restores are ``<id>/drill-….json``."""
    kept: Storage | None = getattr(access, "dumps", None)
    if kept is not None:
        return kept
    where = access.cluster.repository
    return Storage.open(f"{where.url}/dumps", access.environment, endpoint_url=where.endpoint_url, region=where.region)


def read_dumps(store: Storage) -> tuple[Dump, ...]:
    """Every dump with a manifest."""
    objects: dict[str, dict[str, int]] = defaultdict(dict)
    for key, size in store.sizes().items():
        name, _, rest = key.partition("/")
        if rest:
            objects[name][rest] = size
    return tuple(_dump(store, name, sizes) for name, sizes in sorted(objects.items()) if MANIFEST in sizes)


def _dump(store: Storage, name: str, sizes: dict[str, int]) -> Dump:
    keys = tuple(f"{name}/{rest}" for rest in sorted(sizes, key=lambda rest: rest != MANIFEST))
    total = sum(sizes.values())
    try:
        manifest = json.loads(store.read(f"{name}/{MANIFEST}") or b"")
        ended = datetime.fromisoformat(manifest["ended_at"]).astimezone(UTC)
        files = [manifest["global_objects"], *(file for database in manifest["databases"] for file in database["files"])]
        lacking = [file["name"] for file in files if sizes.get(file["name"]) != file["bytes"]]
    except (ValueError, KeyError, TypeError) as error:
        # Its day is not known: the newest there can be, so that it takes no other's place and is not deleted.
        return Dump(name, datetime.now(UTC), total, f"its manifest is unreadable ({type(error).__name__})", keys)
    damage = f"{lacking[0]} is missing or has another size" if lacking else ""
    if not damage and not any(_passed(store.read(key)) for key in keys if key.startswith(f"{name}/drill-")):
        damage = "no restore of it has passed"
    return Dump(name, ended, total, damage, keys)


def _passed(text: bytes | None) -> bool:
    try:
        report: dict[str, Any] = json.loads(text or b"")
    except ValueError:
        return False
    return report.get("verdict") == "passed" and not report.get("migrated")

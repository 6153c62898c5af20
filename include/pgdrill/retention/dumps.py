"""The logical dumps as the planner sees them. A dump counts if a restore of it has passed, and none since found it damaged."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime

from pydantic import ValidationError

from pgdrill.dump.report import DumpReport, counts
from pgdrill.retention.inventory import Dump
from pgdrill.storage import Storage

MANIFEST = "manifest.json"


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
    if not damage:
        reports = [report for key in keys if key.startswith(f"{name}/drill-") and (report := _report(store.read(key)))]
        proved = any(report.proves for report in reports)
        damage = "" if counts(reports) else "its last restore found it damaged" if proved else "no restore of it has passed"
    return Dump(name, ended, total, damage, keys)


def _report(text: bytes | None) -> DumpReport | None:
    try:
        return DumpReport.model_validate_json(text or b"")
    except ValidationError:
        return None  # written by another version, or broken: no proof

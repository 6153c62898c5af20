"""Indexes that PostgreSQL itself does not trust."""

from __future__ import annotations

from collections.abc import Iterator

from pgdrill.checks.base import Context, Outcome, check
from pgdrill.checks.integrity.relations import opened
from pgdrill.fingerprint import read_fingerprint


@check(
    "invalid-indexes", "integrity",
    passing="every index is valid, ready and live",
    mend="REINDEX INDEX CONCURRENTLY or drop it on production: until then it costs writes and serves no query",
    example="agents.documents_tags_idx: invalid, wanted valid",
)  # fmt: skip
def invalid_indexes(context: Context) -> Iterator[Outcome]:
    """A failure, or a warning where the baseline has the same: then production is to be mended, not the backup."""
    query = (
        "SELECT indexrelid::int8, indexrelid::regclass::text FROM pg_index WHERE NOT (indisvalid AND indisready AND indislive)"
        " ORDER BY 2"
    )
    for database in context.databases:
        with opened(context, database) as connection:
            found = connection.execute(query).fetchall()
            state = context.baseline.databases.get(database) if context.baseline and found else None
            now = read_fingerprint(connection, shared=False).objects if state else {}
            for oid, name in found:
                key = f"pg_index:{oid}"
                same = bool(state and key in now and now[key] == state.schema_objects.objects.get(key))
                yield Outcome("warn" if same else "fail", f"{database}.{name}", "invalid", "valid",
                              "as on production" if same else "")  # fmt: skip
            if not found:
                yield Outcome("pass", database, 0, "0 invalid indexes")

"""Indexes that PostgreSQL itself does not trust."""

from __future__ import annotations

from collections.abc import Iterator

from pgdrill.checks.base import Context, Outcome, check
from pgdrill.checks.integrity.relations import opened, shown
from pgdrill.postgres.catalog_fingerprint import NO_SPAN, Fingerprint, read_fingerprint

INVALID = """
SELECT i.indexrelid::int8, {name} FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT (i.indisvalid AND i.indisready AND i.indislive) ORDER BY 2
""".replace("{name}", shown("n", "c"))


@check(
    "invalid-indexes",
    "integrity",
    passing="every index is valid, ready and live",
    hint=(
        "REINDEX INDEX CONCURRENTLY or drop it on production: until then it costs writes and serves"
        " no query"
    ),
    example="agents.documents_tags_idx: invalid, wanted valid",
)
def invalid_indexes(context: Context) -> Iterator[Outcome]:
    """Yield an answer for each invalid index: a failure, or in three cases a warning.

    It is a warning where the baseline has the same, for then production is to be mended and not the
    backup; where the index was being built (CONCURRENTLY) at the restore point; and where nothing
    tells what production had.
    """
    for database in context.databases:
        with opened(context, database) as connection:
            found = connection.execute(INVALID).fetchall()
            state = context.baseline.databases.get(database) if context.baseline and found else None
            span = context.baseline.span if context.baseline else NO_SPAN
            now = (
                read_fingerprint(connection, shared=False, written_in=span, roles=context.own_roles)
                if state
                else Fingerprint(objects={})
            )
            for oid, name in found:
                key = f"pg_index:{oid}"
                same = bool(
                    state
                    and key in now.objects
                    and now.objects[key] == state.schema_objects.objects.get(key)
                )
                why = (
                    "not compared: a concurrent build may have been under way"
                    if state is None
                    else (
                        "as on production"
                        if same
                        else "being built on production at that moment"
                        if key in now.recent
                        else ""
                    )
                )
                yield Outcome(
                    "warn" if why else "fail", f"{database}.{name}", "invalid", "valid", why
                )
            if not found:
                yield Outcome("pass", database, 0, "0 invalid indexes")

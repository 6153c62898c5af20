"""Schema: is every object there, as production has it, and are the extensions and libraries the same?"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from pgdrill.baseline import extension_versions as versions
from pgdrill.checks.base import Context, Outcome, check
from pgdrill.fingerprint import Fingerprint, differences, read_fingerprint

SHOWN = 20


@check(
    "catalogs", "schema",
    passing="every row of every system catalog is as it was: tables, columns, indexes, constraints, triggers, functions, "
    "policies, grants, roles, comments, …",
    mend="compare the named object with production (`\\d+`, `pg_dump --schema-only`); the backup or its WAL is not of that instant",
    example="agents: index embeddings_hnsw_idx: missing (pg_class), wanted as in production",
)  # fmt: skip
def catalogs(context: Context) -> Iterator[Outcome]:
    """One answer for each differing object, and one for all that agree."""
    if context.baseline is None:
        yield Outcome("skip", "catalogs", message="no baseline to compare with")
        return
    context.settle()
    with context.connect("postgres") as connection:
        yield from _compared("cluster", context.baseline.shared_objects, connection, shared=True)
    for name, state in context.baseline.databases.items():
        with context.connect(name) as connection:
            yield from _compared(name, state.schema_objects, connection, shared=False)


def _compared(where: str, before: Fingerprint, connection: psycopg.Connection, *, shared: bool) -> Iterator[Outcome]:
    found = list(differences(before, read_fingerprint(connection, shared=shared)))
    for difference in found[:SHOWN]:
        yield Outcome("fail", f"{where}: {difference.name}", difference.how, "as in production", difference.catalog)
    if len(found) > SHOWN:
        yield Outcome("fail", where, len(found) - SHOWN, "0", "more objects differ")
    if not found:
        yield Outcome("pass", where, len(before.objects), "all as in production", "objects compared")


@check(
    "extension-versions", "schema",
    passing="every extension has the version recorded from production",
    mend="install the recorded version on the drill host; if production was upgraded, drill again from a fresh baseline",
    example="agents.vector: 0.7.0, wanted = 0.8.6",
)  # fmt: skip
def extension_versions(context: Context) -> Iterator[Outcome]:
    """One answer for each extension of each database, recorded or restored."""
    if context.baseline is None:
        yield Outcome("skip", "extensions", message="no baseline to compare with")
        return
    for name, recorded in context.baseline.databases.items():
        with context.connect(name) as connection:
            found = versions(connection)
        for extension in sorted(recorded.extensions.keys() | found.keys()):
            before, now = recorded.extensions.get(extension, "none"), found.get(extension, "none")
            yield Outcome("pass" if before == now else "fail", f"{name}.{extension}", now, f"= {before}")


AVAILABLE = "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"


@check(
    "pgvector-library", "schema", required=False,
    passing="the pgvector installed here is the one the database was last updated for",
    mend="install the same pgvector package as production has: other versions read the same index by other code",
    example="agents: 0.8.6, wanted = 0.7.0",
)  # fmt: skip
def pgvector_library(context: Context) -> Iterator[Outcome]:
    """The installed library's version against the extension's."""
    for name in context.databases:
        with context.connect(name) as connection:
            extension = versions(connection).get("vector")
            row = connection.execute(AVAILABLE).fetchone()
        if extension:
            installed = row[0] if row else "none"
            yield Outcome("pass" if installed == extension else "warn", name, installed, f"= {extension}")

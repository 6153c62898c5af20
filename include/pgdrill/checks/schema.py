"""Schema: is every object there, as production has it?"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import psycopg

from pgdrill.baseline import DatabaseState
from pgdrill.baseline import extension_versions as versions
from pgdrill.checks.base import Context, Outcome, check
from pgdrill.checks.comparison import comparable, each_database, why_not
from pgdrill.errors import CouldNotVerify
from pgdrill.postgres.catalog_differences import differing
from pgdrill.postgres.catalog_fingerprint import (
    Difference,
    Fingerprint,
    Span,
    differences,
    read_fingerprint,
)
from pgdrill.postgres.toast import told_once

logger = logging.getLogger(__name__)

MOST = 1000  # objects that a report names: each is an answer of its own
DETAILED = 50  # objects of which production is asked how they differ


@check(
    "catalogs",
    "schema",
    compares=True,
    passing=(
        "every row of every system catalog is as it was: tables, columns, indexes, constraints,"
        " triggers, functions, policies, grants, roles, comments, …"
    ),
    hint=(
        "compare the named object with production (`\\d+`, `pg_dump --schema-only`); the backup or"
        " its WAL is not of that instant"
    ),
    example="agents: index embeddings_hnsw_idx: missing (pg_class), wanted as in production",
)
def catalogs(context: Context) -> Iterator[Outcome]:
    """Yield one answer for each differing object, and one for all that agree."""
    if (baseline := comparable(context)) is None:
        yield Outcome("skip", "catalogs", message=why_not(context))
        return
    context.settle_catalogs()
    with context.system() as connection:
        yield from _compared(
            context, "cluster", baseline.shared_objects, connection, baseline.span, shared=True
        )

    def ask(connection: psycopg.Connection, name: str, state: DatabaseState) -> Iterator[Outcome]:
        yield from _compared(
            context, name, state.schema_objects, connection, baseline.span, shared=False
        )

    yield from each_database(context, "catalogs", ask)


def _compared(
    context: Context,
    where: str,
    before: Fingerprint,
    connection: psycopg.Connection,
    span: Span,
    *,
    shared: bool,
) -> Iterator[Outcome]:
    now = read_fingerprint(
        connection, shared=shared, like=before, written_in=span, roles=context.own_roles
    )
    found = told_once(list(differences(before, now)), before, now)
    details = _details(context, where, connection, found) if found else {}
    for difference in found[:MOST]:
        words = "; ".join(filter(None, (difference.catalog, details.get(difference.key))))
        yield Outcome(
            "fail",
            f"{where}: {difference.name}",
            difference.how,
            "as in production",
            words,
            proved=difference.proved,
        )
    if rest := found[MOST:]:
        yield Outcome(
            "fail",
            where,
            len(rest),
            "0",
            "more objects differ",
            proved=any(one.proved for one in rest),
        )
    unread = {
        name for name, columns in now.left_out.items() if before.left_out.get(name) != columns
    }
    for name in sorted(unread):
        yield Outcome(
            "skip",
            f"{where}: {name}",
            message=(
                "the role that asks may not read it: GRANT pg_read_all_data TO"
                f" {connection.info.user}"
            ),
        )
    for name in sorted(before.left_out.keys() - unread):
        columns = ", ".join(before.left_out[name]).replace("*", "all of it")
        yield Outcome(
            "warn",
            f"{where}: {name}",
            columns,
            "all read",
            "not compared: the baseline's role may not read it on production",
        )
    if not found:
        yield Outcome(
            "pass", where, len(before.objects), "all as in production", "objects compared"
        )


def _details(
    context: Context, where: str, restored: psycopg.Connection, found: list[Difference]
) -> dict[str, str]:
    """Return in words how changed objects differ, by key, where production still answers."""
    changed = [one.key for one in found if one.how == "changed"][:DETAILED]
    if not changed or context.production_now is None or not context.databases:
        return {}
    database = where if where in context.databases else context.databases[0]
    try:
        with context.production_now(database) as production:
            return {key: differing(production, restored, key) for key in changed}
    except (CouldNotVerify, psycopg.Error) as error:
        logger.info("production does not tell what differs: %s", type(error).__name__)
        return {}


@check(
    "extension-versions",
    "schema",
    compares=True,
    passing="every extension has the version recorded from production",
    hint=(
        "install the recorded version on the drill host; if production was upgraded, drill again"
        " from a fresh baseline"
    ),
    example="agents.vector: 0.7.0, wanted = 0.8.6",
)
def extension_versions(context: Context) -> Iterator[Outcome]:
    """Yield one answer for each extension of each database, recorded or restored."""
    context.settle_catalogs()

    def ask(connection: psycopg.Connection, name: str, state: DatabaseState) -> Iterator[Outcome]:
        found, later = versions(connection), state.extensions_later or state.extensions
        for extension in sorted(state.extensions.keys() | found.keys()):
            now = found.get(extension, "none")
            allowed = dict.fromkeys(
                [state.extensions.get(extension, "none"), later.get(extension, "none")]
            )
            yield Outcome(
                "pass" if now in allowed else "fail",
                f"{name}.{extension}",
                now,
                f"= {' or '.join(allowed)}",
            )

    yield from each_database(context, "extensions", ask)

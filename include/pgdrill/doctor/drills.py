"""Examinations of what a drill on this host would meet.

They are of libraries and locales, labels, and heartbeats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from psycopg import sql

from pgdrill.baseline.heartbeat import TABLE, HeartbeatColumn
from pgdrill.baseline.server_facts import database_forms, read_settings
from pgdrill.doctor.examination import examination
from pgdrill.doctor.model import Finding, green, not_asked, red, unknown
from pgdrill.doctor.subject import DatabaseFacts, Subject
from pgdrill.postgres.libraries import left_out
from pgdrill.recovery.equipped import lacking
from pgdrill.reports.terminal import seconds as shown
from pgdrill.vectors.labels import LabelError, label_command, parse_label

PART = "drill"
NOT_THERE = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidSchemaName,
)


@dataclass(frozen=True, slots=True)
class Now:
    """The contents of production now, as :mod:`pgdrill.recovery.equipped` asks for them."""

    settings: Mapping[str, str]
    configured: Mapping[str, str]
    database_forms: Mapping[str, str]
    databases: Mapping[str, DatabaseFacts]


@examination(
    "libraries",
    PART,
    green="this host has the libraries and locales of all that production has now",
    needs=("login", "programs"),
    after=("databases",),
    jobs=("drill", "dump"),
    hint=(
        "install the same packages as on production (Debian: postgresql-18-pgvector, locales), or"
        " set server.bin_dir to the PostgreSQL that has them"
    ),
    example=(
        "extension vector of database agents: no vector.control in"
        " /usr/share/postgresql/18/extension"
    ),
)
def libraries(subject: Subject) -> Iterator[Finding]:
    """Ask the same question that a drill asks before it fetches a byte."""
    access = subject.access
    settings, configured = read_settings(subject.server)
    now = Now(settings, configured, database_forms(subject.server), subject.databases)
    allowed = access.cluster.drill.allowed_libraries
    lacks = lacking(access.binaries, now, access.cluster.server.databases, allowed)
    for thing, why in lacks.items():
        yield red(thing, why, "as on production")
    yield from _closed(subject)
    if not lacks and not subject.closed:
        apart = left_out([settings.get("shared_preload_libraries", "")], allowed)
        count = sum(len(one.extensions) for one in subject.databases.values())
        yield green(
            f"{access.binaries.folder}",
            f"{count} extensions of {len(subject.databases)} databases"
            + (f"; not loaded in drills: {', '.join(apart)}" if apart else ""),
        )


@examination(
    "vector-labels",
    PART,
    green="every vector column says which model its vectors are of",
    needs=("login",),
    after=("databases",),
    jobs=("drill",),
    hint="name the model with `pgdrill label`, as the table's owner",
    example="agents: public.items.embedding: no label",
)
def labels(subject: Subject) -> Iterator[Finding]:
    """Look for a label on every vector column. Without one a drill is red."""
    columns = [
        (name, *place, text)
        for name, facts in subject.databases.items()
        for place, text in facts.comments.items()
    ]
    wrong = 0
    for database, schema, table, column, text in columns:
        try:
            found = "" if parse_label(text) else "no label"
        except LabelError as error:
            found = f"unreadable label: {error}"
        if found:
            wrong += 1
            words = label_command(subject.name, database, f"{schema}.{table}", column)
            yield red(
                f"{database}: {schema}.{table}.{column}",
                found,
                "the model that made its vectors",
                f"as the table's owner: `{words}`",
            )
    yield from _closed(subject)
    if not wrong and not subject.closed:
        yield green("vector columns", f"{len(columns)}, each labelled" if columns else "none")


@examination(
    "heartbeat",
    PART,
    green="heartbeats are written, and this role may write them",
    needs=("login",),
    jobs=("drill",),
    hint="docs/explanation/recovery.md shows the table and the service",
    example="agents: public.pgdrill_heartbeat.at: the newest is 4 h old",
)
def heartbeat(subject: Subject) -> Iterator[Finding]:
    """Read the column that drill.heartbeat names."""
    column = HeartbeatColumn.of(subject.access.cluster)
    if column is None:
        yield not_asked(
            "drill.heartbeat",
            "names no column: nothing proves what instant a restored cluster is of",
        )
        return
    try:
        with subject.connected(column.database) as connection, connection.transaction():
            if why := column.runs(connection):
                yield unknown(
                    f"{column}",
                    f"not read, for {why}",
                    "a table that can be read without running anybody's function",
                )
                return
            newest = column.newest(connection)
            finding = _may_write(connection, column)
    except NOT_THERE as error:
        yield red(
            f"{column}",
            str(error).strip().splitlines()[0],
            "a timestamptz that something writes all the time",
            _make(column, subject.server.info.user),
        )
        return
    yield finding or _fresh(subject, column, newest)


def _closed(subject: Subject) -> Iterator[Finding]:
    for name in subject.closed:
        yield unknown(
            f"database {name}",
            "could not be entered",
            "its extensions and vector columns",
            "mend databases first",
        )


def _fresh(subject: Subject, column: HeartbeatColumn, newest: datetime | None) -> Finding:
    drill = subject.access.cluster.drill
    allowed = max(drill.rpo_seconds, 3 * drill.heartbeat_seconds)
    age = (datetime.now(UTC) - newest).total_seconds() if newest else None
    if age is None or age > allowed:
        found = "nobody wrote any" if age is None else f"the newest is {shown(age)} old"
        return red(
            f"{column}",
            found,
            f"one of the last {shown(allowed)}",
            f"run as a service: `pgdrill heartbeat {subject.name} --every"
            f" {drill.heartbeat_seconds:g}`",
        )
    return green(f"{column}", f"the newest is {shown(max(0.0, age))} old")


def _may_write(connection: psycopg.Connection, column: HeartbeatColumn) -> Finding | None:
    """Return a red finding where this role may not write pgdrill's own table, or None.

    Whoever writes into a table of his own does so himself.
    """
    if column.table != TABLE:
        return None
    row = connection.execute(
        "SELECT has_table_privilege(%s, 'INSERT')", (_table(column).as_string(connection),)
    ).fetchone()
    if row and row[0]:
        return None
    grant = (
        sql.SQL("GRANT INSERT ON {} TO {}")
        .format(_table(column), sql.Identifier(connection.info.user))
        .as_string(connection)
    )
    return red(
        f"{column}",
        f"role {connection.info.user} may not write to it",
        "INSERT",
        f"as its owner, in database {column.database}: `{grant}`",
    )


def _make(column: HeartbeatColumn, user: str) -> str:
    table = _table(column).as_string(None)
    made = (
        f'CREATE TABLE {table} ("{column.column}" timestamptz NOT NULL DEFAULT clock_timestamp())'
    )
    return (
        f"as the owner of database {column.database}: `{made}`, `CREATE INDEX ON {table}"
        f' ("{column.column}")`, `GRANT INSERT ON {table} TO "{user}"`'
    )


def _table(column: HeartbeatColumn) -> sql.Identifier:
    return sql.Identifier(column.schema, column.table)

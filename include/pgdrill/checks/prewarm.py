"""Warming up the vector indexes before the first search that counts, as after a real recovery.

Before that, each is searched once as it is, which shows what the first query after a restore takes.
Small indexes go into the server's own buffers while they have room, and larger ones are read into
the system's cache; the rest stays on the disk.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from pgdrill.checks.base import UNFORESEEN, Context
from pgdrill.checks.integrity.relations import PREWARM, made_extension, opened
from pgdrill.checks.outlived import note
from pgdrill.errors import CouldNotVerify
from pgdrill.host.tuning import memory_bytes
from pgdrill.vectors.columns import FoundColumn, find_columns, searches
from pgdrill.vectors.observation import first_search_ms

logger = logging.getLogger(__name__)

SHARE_OF_BUFFERS = 0.75  # rows and catalogs want some, too
SHARE_OF_MEMORY = 0.5
READ_BYTES = 8 * 2**20
COLD_SECONDS = 60.0  # a search that takes longer goes round in circles, as the checks will tell
TROUBLE = (psycopg.Error, CouldNotVerify, OSError, *UNFORESEEN)


@dataclass(slots=True)
class Prewarmed:
    """The time that warming up took, and what was read."""

    seconds: float = 0.0
    reading_seconds: float = 0.0  # the part of ``seconds`` that grows with ``bytes``
    bytes: int = 0
    left_bytes: int = 0  # of the indexes that did not fit
    # how long an index's first search took, by database and oid
    cold_ms: dict[tuple[str, int], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Index:
    """A valid vector index."""

    oid: int
    name: str
    bytes: int
    file: str  # its first, below the data directory


def prewarm(context: Context) -> Prewarmed:
    """Search each vector index once, then read as many as fit, the smallest first.

    This never fails: damage is for checks to tell.
    """
    started, done = time.monotonic(), Prewarmed()
    for database in context.databases:
        try:
            indexes = list(_searched(context, database, done))
            _warm(context, database, indexes, done)
        except TROUBLE as error:
            logger.warning(
                "vector indexes of %s are not warmed up: %s", database, type(error).__name__
            )
    done.seconds = time.monotonic() - started
    return done


def _searched(context: Context, database: str, done: Prewarmed) -> Iterator[Index]:
    with context.connect(database) as connection:
        for column in find_columns(connection, database, context.cluster):
            _first_searches(context, column, done)
            for index in column.indexes:
                row = connection.execute(
                    "SELECT pg_relation_size(%(oid)s::oid), pg_relation_filepath(%(oid)s::oid)",
                    {"oid": index.oid},
                ).fetchone()
                if index.valid and row and row[1]:
                    yield Index(index.oid, index.name, int(row[0]), str(row[1]))


def _first_searches(context: Context, column: FoundColumn, done: Prewarmed) -> None:
    """Search each index of a column once, in a session of its own, which a table's code may end."""
    try:
        with context.connect(column.database) as connection:
            connection.execute(
                sql.SQL("SET statement_timeout = {}").format(sql.Literal(int(1000 * COLD_SECONDS)))
            )
            _search_cold(connection, column, done)
    except psycopg.errors.AdminShutdown as error:
        logger.warning("first search of %s: %s", column.name, type(error).__name__)
        note(context, column.database, column.oid)


def _search_cold(connection: psycopg.Connection, column: FoundColumn, done: Prewarmed) -> None:
    for search in searches(connection, column):
        if search.index is None:
            continue
        try:
            taken = first_search_ms(connection, column, search)
        except psycopg.errors.AdminShutdown:
            # it refused to be cancelled: another index of the table would, too
            raise
        except TROUBLE as error:
            logger.warning("first search through %s: %s", search.name, type(error).__name__)
            continue
        if taken is not None:
            done.cold_ms[column.database, search.index.oid] = taken


def _warm(context: Context, database: str, indexes: list[Index], done: Prewarmed) -> None:
    with opened(context, database) as connection:
        extension = made_extension(context, connection, "pg_prewarm")
        read = extension.call("pg_prewarm", *PREWARM) if extension else None
        row = connection.execute(
            "SELECT pg_size_bytes(current_setting('shared_buffers'))"
        ).fetchone()
        began = time.monotonic()
        buffers = SHARE_OF_BUFFERS * (row[0] if row else 0)
        for index in sorted(indexes, key=lambda one: one.bytes):
            if done.bytes + index.bytes > SHARE_OF_MEMORY * memory_bytes():
                done.left_bytes += index.bytes
                continue
            done.bytes += index.bytes
            into = "buffer" if done.bytes <= buffers else "read"
            if read:
                _into(connection, read, index, into)
            elif context.data_directory:
                read_files(context.data_directory / index.file)
        done.reading_seconds += time.monotonic() - began


def _into(connection: psycopg.Connection, read: sql.Identifier, index: Index, place: str) -> None:
    """Read one index with pg_prewarm.

    This happens in a savepoint, so that a damaged index keeps no other from being warmed up.
    """
    call = sql.SQL(
        "SELECT {}(%s::oid::regclass, %s::text, 'main'::text, NULL::int8, NULL::int8)"
    ).format(read)
    try:
        with connection.transaction():
            connection.execute(call, (index.oid, place))
    except psycopg.DatabaseError as error:
        if connection.broken:
            raise
        logger.warning("warming %s: %s", index.name, type(error).__name__)


def read_files(first: Path) -> int:
    """Read all of a relation's files, and return their bytes.

    That leaves them in the system's cache.
    """
    total = 0
    for file in (first, *sorted(first.parent.glob(f"{first.name}.[0-9]*"))):
        with file.open("rb", buffering=0) as content:
            while piece := content.read(READ_BYTES):
                total += len(piece)
    return total

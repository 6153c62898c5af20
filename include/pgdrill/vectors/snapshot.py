"""Remembering: what a look at production becomes in the baseline."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

import psycopg
from psycopg import sql

from pgdrill.config import Cluster
from pgdrill.postgres.guarded import Guard, RunsCode
from pgdrill.postgres.relation_names import joined
from pgdrill.postgres.row_digests import Horizon
from pgdrill.vectors.columns import FoundColumn, find_columns, use_pgvector
from pgdrill.vectors.labels import read_labels
from pgdrill.vectors.model import Answers, Contents, IndexState, NormState, SearchState, VectorState
from pgdrill.vectors.observation import (
    FILTERED_PROBES,
    Asked,
    Observed,
    Searched,
    observe,
    placed,
    places_of,
    warm_ms,
    writers,
)
from pgdrill.vectors.scan import Reading

logger = logging.getLogger(__name__)

HELD_BY_ANOTHER = (
    "another session had the table for itself (ACCESS EXCLUSIVE) when the baseline was taken"
)
ROW_SECURITY = """
SELECT bool_or(relrowsecurity) FROM pg_class
WHERE oid IN (SELECT %(table)s::oid UNION SELECT pg_partition_root(%(table)s::oid::regclass)::oid)
"""
# Finds applications' roles: superusers, owners and those with BYPASSRLS see everything.
TENANT_ROLES = """
SELECT r.rolname FROM pg_roles r, pg_class c
WHERE c.oid = coalesce(pg_partition_root(%(table)s::oid::regclass), %(table)s::oid::regclass)
  AND c.relrowsecurity
  AND NOT r.rolsuper AND NOT r.rolbypassrls AND r.rolname !~ '^pg_'
  AND has_table_privilege(r.oid, c.oid, 'SELECT')
  AND has_schema_privilege(r.oid, c.relnamespace, 'USAGE')
  AND (c.relforcerowsecurity OR NOT pg_has_role(r.oid, c.relowner, 'USAGE'))
  AND (SELECT bool_and(pg_get_expr(p.polqual, p.polrelid) ~ 'current_setting\\(') FROM pg_policy p
       WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd IN ('*', 'r')
         AND EXISTS (SELECT FROM unnest(p.polroles) q(role)
                     WHERE q.role = 0 OR pg_has_role(r.oid, q.role, 'USAGE')))
ORDER BY NOT r.rolcanlogin, 1 LIMIT 1
"""
# Reads what decides how a search goes, by itself and for each role and database.
SETTINGS = r"""
SELECT name,
       CASE WHEN source IN ('database', 'database user', 'user') THEN 'database' ELSE source END
       || ': ' || reset_val
FROM pg_settings WHERE name ~ '^(hnsw|ivfflat)\.'
UNION ALL
SELECT coalesce('role ' || r.rolname, 'every role') || ', ' || split_part(s.setting, '=', 1),
       substr(s.setting, strpos(s.setting, '=') + 1)
FROM pg_db_role_setting d LEFT JOIN pg_roles r ON r.oid = d.setrole, unnest(d.setconfig) s(setting)
WHERE d.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
  AND s.setting ~ '^(hnsw\.|ivfflat\.|enable_|random_page_cost|seq_page_cost|cpu_)'
ORDER BY 1
"""


def search_settings(connection: psycopg.Connection) -> dict[str, str]:
    """Read pgvector's settings with where they come from, and those of roles and databases."""
    return dict(connection.execute(SETTINGS).fetchall())


def has_row_security(connection: psycopg.Connection, column: FoundColumn) -> bool:
    """Return True if row security is on, for the table or the one that it is a partition of."""
    row = connection.execute(ROW_SECURITY, {"table": column.oid}).fetchone()
    return bool(row and row[0])


def tenant_roles(connection: psycopg.Connection, column: FoundColumn) -> list[str]:
    """Read the roles that row security shows a tenant's rows to and nothing else.

    Every policy for them asks a setting.
    """
    return [row[0] for row in connection.execute(TENANT_ROLES, {"table": column.oid}).fetchall()]


def read_vectors(
    connection: psycopg.Connection,
    cluster: Cluster,
    line: Horizon,
    whole: Collection[str],
    guard: Guard,
    proceed: Callable[[], None] = lambda: None,
    only: Collection[int] | None = None,
) -> tuple[dict[str, VectorState], dict[str, str]]:
    """Read every vector column of production's snapshot, and the settings that searches run with.

    ``whole``: the tables (``schema.table``) that may be read to the end. ``proceed`` raises where
    the job was stopped. ``only``: the tables (oids) whose columns are wanted; None: all. What one
    column cannot be asked (a timeout, a missing privilege) is kept as its ``trouble`` and stops
    nothing else. A column whose table would run somebody's function is not searched: ``guard``
    tells.
    """
    database = connection.info.dbname
    try:
        with connection.transaction():
            if not use_pgvector(connection):
                return {}, {}
            columns = find_columns(connection, database, cluster, only)
            labels = read_labels(connection)
            settings = search_settings(connection)
    except psycopg.Error as error:
        if not _of_the_question(error):
            raise
        logger.warning(
            "vector columns of %s are not in the baseline: %s", database, error.diag.message_primary
        )
        return {}, {}
    states = {}
    for column in columns:
        proceed()
        label = str(labels.get((column.schema, column.table, column.column)) or "")
        if column.held:
            states[key_of(column)] = _held(column, label)
            continue
        state = VectorState(
            oid=column.oid,
            number=column.number,
            kind=column.kind,
            dimensions=column.dimensions,
            label=label,
            filter_column=column.filter.column if column.filter else "",
            filter_settings=list(column.filter.settings) if column.filter else [],
            row_security=has_row_security(connection, column),
            tenant_roles=tenant_roles(connection, column),
            indexes=[
                IndexState(
                    oid=index.oid,
                    name=index.name,
                    definition=index.definition,
                    options=list(index.options),
                    valid=index.valid,
                )
                for index in column.indexes
            ],
        )
        try:
            state.code = guard.why_not(connection, column.schema, column.table, column.oid)
            if not state.code:
                with guard.watching(connection, column.oid), connection.transaction():
                    seen = observe(
                        connection,
                        column,
                        line=line,
                        whole=joined(column.schema, column.table) in whole,
                    )
                    state.contents = contents_of(seen.reading) if seen.reading else None
                    state.searches = [
                        _search_state(connection, seen, one, line.key) for one in seen.searches
                    ]
        except RunsCode as added:
            state.code, state.contents, state.searches = str(added), None, []
        except psycopg.Error as error:
            proceed()
            if not _of_the_question(error):
                raise
            state.trouble = f"{type(error).__name__}: {error.diag.message_primary}"
            logger.warning("vectors of %s are not in the baseline: %s", column.name, state.trouble)
        states[key_of(column)] = state
    return states, settings


def key_of(column: FoundColumn) -> str:
    """Return the name of a column as a baseline has it."""
    return joined(column.schema, column.table, column.column)


def _held(column: FoundColumn, label: str) -> VectorState:
    """Return the state of a column that cannot be looked at: nothing is waited for."""
    logger.warning("vectors of %s are not in the baseline: %s", column.name, HELD_BY_ANOTHER)
    return VectorState(
        oid=column.oid,
        number=column.number,
        kind=column.kind,
        dimensions=column.dimensions,
        label=label,
        trouble=HELD_BY_ANOTHER,
    )


def _of_the_question(error: psycopg.Error) -> bool:
    """Return True if an error is of the question, and not of the server or the connection.

    The latter end the whole baseline, as a standby's conflict with recovery does.
    """
    return isinstance(
        error, psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable
    ) or not isinstance(error, psycopg.OperationalError)


def contents_of(reading: Reading) -> Contents:
    """Return the figures of a reading as they are kept."""
    norms, state = reading.norms, None
    if norms.count:
        mean = norms.total / norms.count
        state = NormState(
            lowest=norms.lowest,
            mean=mean,
            highest=norms.highest,
            deviation=max(0.0, norms.squares / norms.count - mean**2) ** 0.5,
        )
    return Contents(
        rows=reading.rows,
        nulls=reading.nulls,
        sizes=reading.sizes,
        broken=reading.broken,
        zeros=reading.zeros,
        copies=reading.copies.rows,
        stable=reading.stable,
        digest=f"{reading.digest:016x}",
        norms=state,
    )


def _search_state(
    connection: psycopg.Connection, seen: Observed, one: Searched, key: str
) -> SearchState:
    known = writers(connection, seen.column, places_of(one))
    return SearchState(
        index=one.search.name,
        operator=one.search.operator,
        probes=[(probe.place, probe.digest(key)) for probe in one.probes],
        whole=_answers(one.whole, len(one.probes), known),
        filtered=(
            _answers(one.filtered, min(len(one.probes), FILTERED_PROBES), known)
            if one.filtered
            else None
        ),
        warm_ms=warm_ms(connection, one, seen.column),
        used=one.used,
        made_anew=_made_anew(connection, seen.column, one),
    )


def _made_anew(connection: psycopg.Connection, column: FoundColumn, one: Searched) -> bool:
    """Return True if a search reads another file than the index had at the snapshot.

    A catalog's row is the snapshot's; the functions tell what is there now.
    """
    if one.search.index is None:
        return False
    name = sql.Identifier(column.schema, one.search.name).as_string(connection)
    row = connection.execute(
        "SELECT relfilenode IS DISTINCT FROM pg_relation_filenode(to_regclass(%s))"
        " FROM pg_class WHERE oid = %s",
        (name, one.search.index.oid),
    ).fetchone()
    return row is not None and bool(row[0])


def _answers(asked: Asked, probes: int, known: dict[str, str]) -> Answers:
    if asked.exact is None:
        return Answers(found=[[_short(distance) for distance in found] for found in asked.found])
    near = [placed(asked.exact.stable, number, known) for number in range(probes)]
    return Answers(
        neighbours=[list(one) for one in near],
        distances=[[_short(distance) for distance in one.values()] for one in near],
        hits=[asked.hits(number) for number in range(probes)] if asked.found else [],
        wanted=[len(asked.wanted(number)) for number in range(probes)],
    )


def _short(distance: float) -> float:
    return float(f"{distance:.9g}")

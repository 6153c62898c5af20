"""Access methods that amcheck does not know: does an index search find what a scan finds?"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
from psycopg import sql

from pgdrill.checks.base import Context, Outcome, check
from pgdrill.checks.cut import Server
from pgdrill.checks.integrity.relations import asking, error_outcome, shown
from pgdrill.checks.outlived import ENDED, asked_once
from pgdrill.postgres.identifiers import beside, doubled
from pgdrill.postgres.server_words import words_of
from pgdrill.postgres.session import catalogs_only

SEARCHED_ROWS = 200  # at most, for each key of an index
ROWS_AT_ONCE = 20  # the first so many are always searched for
SEARCH_SECONDS = 1.0  # for each key; no further rows are searched for after that
SCANNED_PAGES = 20_000  # in a larger table, a share of about this many pages is sampled
# The operators by which a row can be found with its own value, the best first.
OPERATORS = ["=", "~=", "@>", "&&", "~~", "@@"]
PROBES = {
    "~~": r"replace(replace(replace({}, '\', '\\'), '%', '\%'), '_', '\_')",
    "@@": (
        "(SELECT string_agg('''' || replace(replace(w, '\\', '\\\\'), '''', '''''') || '''', ' &"
        " ')::tsquery FROM (SELECT unnest(tsvector_to_array({})) w LIMIT 3) words)"
    ),
}

# Leaves the planner one index of its table alone, until the transaction is rolled back.
LENT = """
UPDATE pg_index SET indisvalid = false
WHERE indexrelid <> $1 AND indrelid = (SELECT indrelid FROM pg_index WHERE indexrelid = $1)
"""
KEYS = r"""
SELECT i.indexrelid::int8, {name}, i.indrelid::int8, n.nspname, t.relname, x.relname, t.relpages,
       k.n, '(' || pg_get_indexdef(i.indexrelid, k.n, false) || ')',
       coalesce(pg_get_expr(i.indpred, i.indrelid), 'true'),
       o.nspname, o.oprname
FROM pg_index i
JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_namespace w ON w.oid = x.relnamespace
JOIN pg_am m ON m.oid = x.relam
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
CROSS JOIN LATERAL generate_series(1, i.indnkeyatts) k(n)
JOIN pg_opclass c ON c.oid = i.indclass[k.n - 1]
LEFT JOIN LATERAL (
    SELECT s.nspname, p.oprname FROM pg_amop a
    JOIN pg_operator p ON p.oid = a.amopopr
    JOIN pg_namespace s ON s.oid = p.oprnamespace
    WHERE a.amopfamily = c.opcfamily AND a.amoppurpose = 's' AND a.amoplefttype = c.opcintype
      AND p.oprname = ANY(%s)
      AND a.amoprighttype = CASE p.oprname WHEN '@@' THEN 'tsquery'::regtype ELSE c.opcintype END
    ORDER BY array_position(%s, p.oprname::text) LIMIT 1
) o ON true
WHERE m.amname NOT IN ('btree', 'hnsw', 'ivfflat') AND x.relkind = 'i' AND x.relpersistence = 'p'
  AND i.indisvalid AND i.indisready AND i.indislive
ORDER BY 2, k.n
""".replace("{name}", shown("w", "x"))
INDEX_SCANS = """
SET LOCAL enable_indexscan = {0};
SET LOCAL enable_indexonlyscan = {0};
SET LOCAL enable_bitmapscan = {0}
"""


@dataclass(frozen=True, slots=True)
class Key:
    """A key column of an index."""

    index_oid: int
    index: str
    table_oid: int
    schema: str
    table: str
    plain: str
    pages: int
    number: int
    expression: str
    predicate: str
    operator_schema: str | None
    operator: str | None  # None where none fits

    @property
    def relation(self) -> sql.Identifier:
        """The table's name, quoted."""
        return sql.Identifier(self.schema, self.table)

    @property
    def probe(self) -> sql.SQL:
        """The expression that a row's own value is searched by."""
        return sql.SQL(
            PROBES.get(self.operator or "", "{}").replace("{}", self.expression).replace("%", "%%")
        )

    @property
    def kept(self) -> sql.SQL:
        """The condition of a partial index."""
        return sql.SQL(self.predicate.replace("%", "%%"))


@check(
    "access-methods",
    "integrity",
    passing=(
        "through every hash, GiST, SP-GiST, GIN, BRIN or other index, stored rows are found by"
        " their own values, and all that the index returns for them matches"
    ),
    hint=(
        "REINDEX the named index on production if it fails there too; if not, the backup is"
        " damaged: drill with an older one"
    ),
    example=(
        "agents.things_hash: 200 (200 of 200 stored rows not found through it; 0 searches gave rows"
        " that do not match), wanted 0 wrong searches"
    ),
)
def access_methods(context: Context) -> Iterator[Outcome]:
    """Search the index for rows that a scan picked, by their own values.

    B-trees are left to amcheck, and vector indexes are proved by recall.
    """
    for database in context.databases:
        with contextlib.ExitStack() as held:
            connection, alone = _asking(context, database, held)
            server = Server.of(context, database, connection)
            good = looked_at = 0
            with catalogs_only(connection):  # then names in expressions have their schema
                keys = [
                    Key(*row) for row in connection.execute(KEYS, (OPERATORS, OPERATORS)).fetchall()
                ]
            for key in keys:
                thing = f"{database}.{key.index}" + (
                    f" (key {key.number})" if key.number > 1 else ""
                )
                try:
                    with (
                        asked_once(context, database, key.table_oid),
                        connection.transaction(force_rollback=True),
                    ):
                        answer, rows = _searched(connection, key, thing, alone)
                except ENDED as error:
                    answer = Outcome(
                        "skip", thing, message=f"could not be searched: {words_of(error)}"
                    )
                    rows = 0
                except psycopg.Error as error:
                    if connection.closed:
                        yield server.session_ended(f"searching {key.index}")
                        break
                    answer, rows = error_outcome(thing, error), 0
                if answer:
                    yield answer
                # code of that table ended the session, which says nothing about the others
                if connection.closed:
                    connection, alone = _asking(context, database, held)
                good, looked_at = good + (answer is None), looked_at + rows
            if good:
                yield Outcome(
                    "pass",
                    f"{database}: {good} index keys",
                    looked_at,
                    "every row found",
                    "rows searched by their values",
                )
            if not keys:
                yield Outcome("pass", database, 0, "", "no such index")


def _asking(
    context: Context, database: str, held: contextlib.ExitStack
) -> tuple[psycopg.Connection, sql.Composable | None]:
    connection, alone = held.enter_context(asking(context, database, LENT))
    connection.execute("SET LOCAL jit = off")  # the cost of a forbidden scan would start it
    connection.execute("SET LOCAL max_parallel_workers_per_gather = 0")
    return connection, alone


def _searched(
    connection: psycopg.Connection, key: Key, thing: str, alone: sql.Composable | None
) -> tuple[Outcome | None, int]:
    """Return the outcome, None if all is well, and the number of rows searched for."""
    if key.operator is None or key.operator_schema is None:
        return (
            Outcome(
                "skip",
                thing,
                message="not covered: no operator of its class finds a row by its own value",
            ),
            0,
        )
    places = _places(connection, key)
    if not places:
        return None, 0
    query = _search(key)
    if alone:
        connection.execute(sql.SQL("SELECT {}({})").format(alone, sql.Literal(key.index_oid)))
    connection.execute("SET LOCAL enable_seqscan = off")
    plan = connection.execute(
        sql.SQL("EXPLAIN (FORMAT json) {}").format(query), {"places": places[:1]}
    ).fetchone()
    if f'"Index Name": {json.dumps(key.plain)}' not in json.dumps(plan):
        return (
            Outcome(
                "skip",
                thing,
                message=f"not covered: the planner does not use it for {key.operator}",
            ),
            0,
        )
    ends = time.monotonic() + SEARCH_SECONDS
    lost = wrong = number = 0
    while number < len(places) and (number == 0 or time.monotonic() < ends):
        some = places[number : number + ROWS_AT_ONCE]
        found, strangers = connection.execute(query, {"places": some}).fetchone() or (0, 0)
        lost, wrong, number = lost + len(some) - found, wrong + strangers, number + len(some)
    if lost or wrong:
        words = (
            f"{lost} of {number} stored rows not found through it; {wrong} searches gave rows that"
            " do not match"
        )
        return Outcome("fail", thing, lost + wrong, "0 wrong searches", words), number
    return None, number


def _places(connection: psycopg.Connection, key: Key) -> list[str]:
    """Return the places of rows that the index has to hold, read by a scan of the table.

    They are the same rows at every drill of the same data.
    """
    share = 100 * SCANNED_PAGES / max(key.pages, 1)
    part = (
        sql.SQL("TABLESAMPLE SYSTEM ({}) REPEATABLE (1)").format(sql.Literal(share))
        if share < 100
        else sql.SQL("")
    )
    connection.execute(INDEX_SCANS.format("off"))
    rows = connection.execute(
        sql.SQL(
            "SELECT ctid::text FROM ONLY {t} {part} WHERE {kept} AND {probe} IS NOT NULL ORDER BY"
            " hashtext(ctid::text) LIMIT {n}"
        ).format(
            t=doubled(key.relation),
            part=part,
            kept=key.kept,
            probe=key.probe,
            n=sql.Literal(SEARCHED_ROWS),
        ),
        {},
    ).fetchall()
    connection.execute(INDEX_SCANS.format("on"))
    return [row[0] for row in rows]


def _search(key: Key) -> sql.Composed:
    """Return a query that counts what the index gives for the rows at given places.

    It counts the rows that the index finds, and those for which it gives rows that do not match.
    The values themselves never leave the server.
    """
    # An index's expression may name the table itself, so the table keeps its name.
    probe = beside(key.table, "pgdrill_probe")
    matches = sql.SQL("{} OPERATOR({}.{}) {}.v").format(
        sql.SQL(key.expression.replace("%", "%%")),
        sql.Identifier(key.operator_schema or ""),
        sql.SQL(key.operator or ""),
        probe,
    )
    return sql.SQL(
        "WITH {p} AS MATERIALIZED (SELECT ctid AS place, {probe} AS v FROM ONLY {t} WHERE ctid ="
        " ANY(%(places)s::tid[])) SELECT count(*) FILTER (WHERE found > 0), count(*) FILTER (WHERE"
        " strangers > 0) FROM {p} CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE ctid ="
        " {p}.place) AS found, count(*) FILTER (WHERE NOT ({matches} AND {kept})) AS strangers FROM"
        " ONLY {t} WHERE {matches} AND {kept}) searched"
    ).format(p=probe, probe=key.probe, t=doubled(key.relation), matches=matches, kept=key.kept)

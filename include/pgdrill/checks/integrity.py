"""Integrity: are files, pages, indexes and sequences whole, down to those that no query of the application touches?

What needs an extension (amcheck, pg_prewarm) gets it inside a transaction that is never committed, so the restored
cluster stays as it came. On a cluster that is not ours (``verify``) only extensions that are installed there are used,
and what cannot be asked without them is a skip.

Not looked at: databases that refuse connections (template0) or that the config leaves out, unlogged relations (empty
after any recovery), free-space and visibility maps beyond their checksums. A page of nothing but zeros has no checksum:
the content of tables, amcheck and searching through the index find those.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
from psycopg import sql

from pgdrill.checks.base import Context, Outcome, check
from pgdrill.fingerprint import read_fingerprint

SHOWN = 20
SEARCHED_ROWS = 200  # of each key of an index, within SEARCH_SECONDS, but never fewer than FEWEST_ROWS
FEWEST_ROWS = 20
SEARCH_SECONDS = 1.0
SCANNED_PAGES = 20_000  # of a larger table, a share of about this many pages is sampled
# SQLSTATE classes of errors that say nothing of the data: not supported, no right or no such function, out of
# memory, disk or locks, locked, cancelled (a crash that a damaged page causes has no SQLSTATE).
NO_DAMAGE = ("0A", "42", "53", "55", "57")
# What a row can be found by with its own value, best first.
OPERATORS = ["=", "~=", "@>", "&&", "~~", "@@"]
PROBES = {
    "~~": r"replace(replace(replace({}, '\', '\\'), '%', '\%'), '_', '\_')",
    "@@": "(SELECT string_agg('''' || replace(replace(w, '\\', '\\\\'), '''', '''''') || '''', ' & ')::tsquery"
          " FROM (SELECT unnest(tsvector_to_array({})) w LIMIT 3) words)",
}  # fmt: skip

RELATIONS = """
SELECT c.oid::int8, c.oid::regclass || coalesce(' of ' || o.oid::regclass, ''), c.relkind::text, coalesce(m.amname, ''),
       c.relpages, coalesce(i.indisvalid AND i.indisready AND i.indislive, true)
FROM pg_class c
LEFT JOIN pg_am m ON m.oid = c.relam
LEFT JOIN pg_index i ON i.indexrelid = c.oid
LEFT JOIN pg_class o ON o.reltoastrelid = coalesce(i.indrelid, c.oid) AND o.reltoastrelid <> 0
WHERE c.relkind IN ('r', 'm', 't', 'i', 'S') AND c.relpersistence = 'p'
ORDER BY 2
"""


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation with storage. ``usable`` is false for an invalid index."""

    oid: int
    name: str
    kind: str
    method: str
    pages: int
    usable: bool


@contextlib.contextmanager
def _opened(context: Context, database: str) -> Iterator[psycopg.Connection]:
    """A transaction that is never committed, writable where the cluster is ours."""
    connect = context.prepare or context.connect
    with contextlib.closing(connect(database)) as connection:  # closed without a commit: rolled back
        connection.autocommit = False
        if context.prepare:
            connection.read_only = False
            # No event trigger of the restored database acts on what we create.
            connection.execute("SET LOCAL session_replication_role = replica")
            connection.execute("SET LOCAL ignore_checksum_failure = off")
        limit = int(context.cluster.drill.statement_timeout_seconds * 1000)
        connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(sql.Literal(limit)))
        connection.execute("SET LOCAL row_security = off")
        yield connection


def _relations(connection: psycopg.Connection) -> list[Relation]:
    return [Relation(*row) for row in connection.execute(RELATIONS).fetchall()]


def _extension(context: Context, connection: psycopg.Connection, name: str) -> tuple[str, tuple[int, ...]] | None:
    """Schema and version of an extension, made for this transaction where that is allowed; None: not to be had."""
    if context.prepare:
        with contextlib.suppress(psycopg.Error), connection.transaction():
            connection.execute("CREATE SCHEMA IF NOT EXISTS pgdrill_scratch")
            connection.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {} SCHEMA pgdrill_scratch").format(sql.Identifier(name)))
    row = connection.execute(
        "SELECT n.nspname, e.extversion FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = %s",
        (name,),
    ).fetchone()
    return (row[0], tuple(int(part) for part in row[1].split(".") if part.isdigit())) if row else None


def _without(context: Context, database: str, extension: str) -> Outcome:
    why = "cannot be created here: install PostgreSQL's contrib package" if context.prepare else (
        "is not installed there, and a cluster that pgdrill did not restore is not changed"
    )  # fmt: skip
    return Outcome("skip", database, message=f"the extension {extension} {why}")


def _each(
    connection: psycopg.Connection, database: str, relations: list[Relation], good: str,
    ask: Callable[[Relation], Outcome | None],
) -> Iterator[Outcome]:  # fmt: skip
    """Ask of every relation: an answer for each damaged one, and one for all that are whole (``ask`` gives None)."""
    found: list[Outcome] = []
    for relation in relations:
        try:
            with connection.transaction():
                answer = ask(relation)
        except psycopg.Error as error:
            answer = _error(f"{database}.{relation.name}", error)
        if answer:
            found.append(answer)
        if connection.closed:
            found.append(Outcome("skip", database, message=f"the server ended while reading {relation.name}: the rest was not checked"))
            break
    yield from _shown(database, found)
    if not connection.closed and len(found) < len(relations):
        yield Outcome("pass", f"{database}: {len(relations) - len(found)} relations", len(relations) - len(found), good)


def _shown(database: str, found: list[Outcome]) -> Iterator[Outcome]:
    found = sorted(found, key=lambda outcome: outcome.status != "fail")
    yield from found[:SHOWN]
    if rest := found[SHOWN:]:
        yield Outcome(rest[0].status, database, len(rest), "0", "more relations")


def _error(thing: str, error: psycopg.Error) -> Outcome:
    """The server's own words, without their details: those may hold values."""
    words = error.diag.message_primary or str(error).strip().partition("\n")[0]
    return Outcome("skip" if (error.sqlstate or "")[:2] in NO_DAMAGE else "fail", thing, type(error).__name__, "no error", words[:300])


@check(
    "relation-files", "integrity",
    passing="every table, index, TOAST table, sequence and materialized view has its file, in whole pages, and no "
    "fewer of them than the catalog counted when it was last vacuumed or analyzed",
    mend="the backup lacks a file or a part of one: drill with an older base backup and take a new one; ANALYZE on production "
    "if `pg_restore --statistics` set page counts of another cluster",
    example="agents.hc_patients: no file, wanted >= 12 pages",
)  # fmt: skip
def relation_files(context: Context) -> Iterator[Outcome]:
    """Sizes only. Vacuum cuts a file and notes its pages in one go, so a healthy one is never shorter than noted."""
    query = (
        "SELECT pg_relation_size(%(oid)s::oid::regclass), (pg_stat_file(pg_relation_filepath(%(oid)s::oid::regclass), true)).size,"
        " current_setting('block_size')::int"
    )

    for database in context.databases:
        with _opened(context, database) as connection:

            def ask(relation: Relation, connection: psycopg.Connection = connection, database: str = database) -> Outcome | None:
                size, first, page = connection.execute(query, {"oid": relation.oid}).fetchone() or (0, None, 8192)
                wanted = f">= {relation.pages} pages"
                if first is None:
                    return Outcome("fail", f"{database}.{relation.name}", "no file", wanted)
                if size < relation.pages * page or size % page:
                    return Outcome("fail", f"{database}.{relation.name}", f"{size / page:g} pages", wanted)
                return None

            yield from _each(connection, database, _relations(connection), "files as long as noted", ask)


@check(
    "page-checksums", "integrity",
    passing="every page of every relation, index pages and maps among them, is read without a checksum failure",
    mend="the named relation is damaged in the backup or was on production: run amcheck or a full scan there; REINDEX an index",
    example='agents.things_btree: DataCorrupted (invalid page in block 3 of relation "base/16385/19002"), wanted no error',
)  # fmt: skip
def page_checksums(context: Context) -> Iterator[Outcome]:
    """pg_prewarm reads every page through the server's buffers, which is where PostgreSQL compares checksums."""
    for database in context.databases:
        with _opened(context, database) as connection:
            extension = _extension(context, connection, "pg_prewarm")
            if extension is None:
                yield _without(context, database, "pg_prewarm")
                continue
            query = sql.SQL(
                "SELECT sum({}.pg_prewarm(%(oid)s::oid::regclass, 'buffer', fork)) FROM unnest(ARRAY['main', 'fsm', 'vm']) fork"
                " WHERE pg_relation_size(%(oid)s::oid::regclass, fork) > 0"
            ).format(sql.Identifier(extension[0]))

            def ask(relation: Relation, connection: psycopg.Connection = connection, query: sql.Composed = query) -> None:
                connection.execute(query, {"oid": relation.oid})

            row = connection.execute("SELECT current_setting('data_checksums')").fetchone()
            if row and row[0] == "off":
                yield Outcome("warn", database, "no checksums", "data_checksums = on",
                              "pages are only as proved as amcheck, searches and content prove them")  # fmt: skip
                yield from (o for o in _each(connection, database, _relations(connection), "", ask) if o.status != "pass")
            else:
                yield from _each(connection, database, _relations(connection), "every page has its checksum", ask)


@check(
    "amcheck", "integrity",
    passing="amcheck finds every heap and TOAST page sound, every B-tree in order and complete (each row of the table is "
    "in it and found from its root; no duplicate in a unique one), and from PostgreSQL 18 on every GIN index in order",
    mend="run the same amcheck function on production: if it fails there, REINDEX or salvage the table; if not, the backup is "
    "damaged: drill with an older one",
    example='agents.things_btree: IndexCorrupted (item order invariant violated for index "things_btree"), wanted no error',
)  # fmt: skip
def amcheck(context: Context) -> Iterator[Outcome]:
    """The thorough forms, which lock out writers, only on a cluster of our own."""
    for database in context.databases:
        with _opened(context, database) as connection:
            extension = _extension(context, connection, "amcheck")
            if extension is None:
                yield _without(context, database, "amcheck")
                continue
            functions = _amcheck_functions(*extension, ours=context.prepare is not None)

            def ask(
                relation: Relation, connection: psycopg.Connection = connection, database: str = database,
                functions: dict[str, sql.Composed] = functions,
            ) -> Outcome | None:  # fmt: skip
                row = connection.execute(functions[relation.method], {"oid": relation.oid}).fetchone()
                if row and row[0]:
                    return Outcome("fail", f"{database}.{relation.name}", row[0], "0 findings", str(row[1])[:300])
                return None

            covered = [r for r in _relations(connection) if r.usable and r.method in functions and r.kind != "S"]
            yield from _each(connection, database, covered, "sound", ask)


def _amcheck_functions(schema: str, version: tuple[int, ...], *, ours: bool) -> dict[str, sql.Composed]:
    """A query for each access method that amcheck knows: number of findings and the first; damaged indexes raise."""
    where = sql.Identifier(schema)
    # In order: every row is in the index, each is found from the root, a unique index is unique (amcheck 1.4).
    btree = "bt_index_parent_check(%(oid)s::oid, true, true" if ours else "bt_index_check(%(oid)s::oid, true"
    functions = {
        "heap": sql.SQL(
            "SELECT count(*), min(format('block %%s, line %%s: %%s', blkno, offnum, msg)) FROM"
            " (SELECT * FROM {}.verify_heapam(%(oid)s::oid, check_toast => true) LIMIT 1000) found"
        ).format(where),
        "btree": sql.SQL("SELECT 0, {}." + btree + (", true)" if version >= (1, 4) else ")")).format(where),
    }
    if version >= (1, 5):
        functions["gin"] = sql.SQL("SELECT 0, {}.gin_index_check(%(oid)s::oid)").format(where)
    return functions


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
        with _opened(context, database) as connection:
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


KEYS = r"""
SELECT i.indexrelid::int8, i.indexrelid::regclass::text, i.indrelid::int8, n.nspname, t.relname, x.relname, t.relpages,
       k.n, '(' || pg_get_indexdef(i.indexrelid, k.n, false) || ')', coalesce(pg_get_expr(i.indpred, i.indrelid), 'true'),
       o.nspname, o.oprname
FROM pg_index i
JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_am m ON m.oid = x.relam
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
CROSS JOIN LATERAL generate_series(1, i.indnkeyatts) k(n)
JOIN pg_opclass c ON c.oid = i.indclass[k.n - 1]
LEFT JOIN LATERAL (
    SELECT s.nspname, p.oprname FROM pg_amop a
    JOIN pg_operator p ON p.oid = a.amopopr
    JOIN pg_namespace s ON s.oid = p.oprnamespace
    WHERE a.amopfamily = c.opcfamily AND a.amoppurpose = 's' AND a.amoplefttype = c.opcintype AND p.oprname = ANY(%s)
      AND a.amoprighttype = CASE p.oprname WHEN '@@' THEN 'tsquery'::regtype ELSE c.opcintype END
    ORDER BY array_position(%s, p.oprname::text) LIMIT 1
) o ON true
WHERE m.amname NOT IN ('btree', 'hnsw', 'ivfflat') AND x.relkind = 'i' AND x.relpersistence = 'p'
  AND i.indisvalid AND i.indisready AND i.indislive
ORDER BY 2, k.n
"""


@dataclass(frozen=True, slots=True)
class Key:
    """A key column of an index; ``operator`` is None where none fits."""

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
    operator: str | None

    @property
    def relation(self) -> sql.Identifier:
        """The table, quoted."""
        return sql.Identifier(self.schema, self.table)

    @property
    def probe(self) -> sql.SQL:
        """What a row's own value is searched by."""
        return sql.SQL(PROBES.get(self.operator or "", "{}").replace("{}", self.expression).replace("%", "%%"))

    @property
    def kept(self) -> sql.SQL:
        """The condition of a partial index."""
        return sql.SQL(self.predicate.replace("%", "%%"))


@check(
    "access-methods", "integrity",
    passing="through every hash, GiST, SP-GiST, GIN, BRIN or other index, stored rows are found by their own values, and all "
    "that the index returns for them matches",
    mend="REINDEX the named index on production if it fails there too; if not, the backup is damaged: drill with an older one",
    example="agents.things_hash: 200 (200 of 200 stored rows not found through it; 0 searches gave rows that do "
    "not match), wanted 0 wrong searches",
)  # fmt: skip
def access_methods(context: Context) -> Iterator[Outcome]:
    """Rows picked by a scan, searched through the index. B-trees are amcheck's, vector indexes are proved by recall."""
    for database in context.databases:
        with _opened(context, database) as connection:
            connection.execute("SET LOCAL jit = off")  # the cost of a forbidden scan would start it
            connection.execute("SET LOCAL max_parallel_workers_per_gather = 0")
            good = looked_at = 0
            keys = [Key(*row) for row in connection.execute(KEYS, (OPERATORS, OPERATORS)).fetchall()]
            for key in keys:
                thing = f"{database}.{key.index}" + (f" (key {key.number})" if key.number > 1 else "")
                try:
                    with connection.transaction(force_rollback=True):
                        answer, rows = _searched(connection, key, thing, ours=context.prepare is not None)
                except psycopg.Error as error:
                    answer, rows = _error(thing, error), 0
                if answer:
                    yield answer
                if connection.closed:
                    yield Outcome("skip", database, message=f"the server ended while searching {key.index}: the rest was not checked")
                    break
                good, looked_at = good + (answer is None), looked_at + rows
            if good:
                yield Outcome("pass", f"{database}: {good} index keys", looked_at, "every row found", "rows searched by their values")
            if not keys:
                yield Outcome("pass", database, 0, "", "no such index")


def _searched(connection: psycopg.Connection, key: Key, thing: str, *, ours: bool) -> tuple[Outcome | None, int]:
    """None if all is well, and the number of rows searched for."""
    if key.operator is None or key.operator_schema is None:
        return Outcome("skip", thing, message="not covered: no operator of its class finds a row by its own value"), 0
    places = _places(connection, key)
    if not places:
        return None, 0
    query = _search(key)
    if ours:  # the planner is left with this index alone, until the transaction is rolled back
        connection.execute("UPDATE pg_index SET indisvalid = false WHERE indrelid = %s AND indexrelid <> %s",
                           (key.table_oid, key.index_oid))  # fmt: skip
    connection.execute("SET LOCAL enable_seqscan = off")
    plan = connection.execute(sql.SQL("EXPLAIN (FORMAT json) {}").format(query), {"place": places[0]}).fetchone()
    if f'"Index Name": {json.dumps(key.plain)}' not in json.dumps(plan):
        return Outcome("skip", thing, message=f"not covered: the planner does not use it for {key.operator}"), 0
    ends = time.monotonic() + SEARCH_SECONDS
    lost = wrong = number = 0
    for number, place in enumerate(places, 1):
        found, strangers = connection.execute(query, {"place": place}).fetchone() or (0, 0)
        lost, wrong = lost + (not found), wrong + bool(strangers)
        if number >= FEWEST_ROWS and time.monotonic() > ends:
            break
    if lost or wrong:
        words = f"{lost} of {number} stored rows not found through it; {wrong} searches gave rows that do not match"
        return Outcome("fail", thing, lost + wrong, "0 wrong searches", words), number
    return None, number


def _places(connection: psycopg.Connection, key: Key) -> list[str]:
    """Rows that the index has to hold, the same ones at every drill of the same data, read by a scan of the table."""
    share = 100 * SCANNED_PAGES / max(key.pages, 1)
    part = sql.SQL("TABLESAMPLE SYSTEM ({}) REPEATABLE (1)").format(sql.Literal(share)) if share < 100 else sql.SQL("")
    for method in ("indexscan", "indexonlyscan", "bitmapscan"):
        connection.execute(sql.SQL("SET LOCAL {} = off").format(sql.Identifier(f"enable_{method}")))
    rows = connection.execute(
        sql.SQL(
            "SELECT ctid::text FROM ONLY {t} {part} WHERE {kept} AND {probe} IS NOT NULL ORDER BY hashtext(ctid::text) LIMIT {n}"
        ).format(t=key.relation, part=part, kept=key.kept, probe=key.probe, n=sql.Literal(SEARCHED_ROWS)),
        {},
    ).fetchall()
    for method in ("indexscan", "indexonlyscan", "bitmapscan"):
        connection.execute(sql.SQL("SET LOCAL {} = on").format(sql.Identifier(f"enable_{method}")))
    return [row[0] for row in rows]


def _search(key: Key) -> sql.Composed:
    """Does the index give the row at a place, and does all that it gives match? The value itself never leaves the server."""
    matches = sql.SQL("{} OPERATOR({}.{}) (SELECT v FROM probe)").format(
        sql.SQL(key.expression.replace("%", "%%")),
        sql.Identifier(key.operator_schema or ""), sql.SQL(key.operator or ""),
    )  # fmt: skip
    return sql.SQL(
        "WITH probe AS MATERIALIZED (SELECT {probe} AS v FROM ONLY {t} WHERE ctid = %(place)s::tid)"
        " SELECT count(*) FILTER (WHERE ctid = %(place)s::tid), count(*) FILTER (WHERE NOT ({matches} AND {kept}))"
        " FROM ONLY {t} WHERE {matches} AND {kept}"
    ).format(probe=key.probe, t=key.relation, matches=matches, kept=key.kept)


OWNERS = """
SELECT d.objid::int8, n.nspname, c.relname, a.attname, s.seqincrement > 0, NOT s.seqcycle
FROM pg_depend d
JOIN pg_sequence s ON s.seqrelid = d.objid
JOIN pg_class c ON c.oid = d.refobjid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
  AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) AND c.relpersistence = 'p'
"""


@check(
    "sequences", "integrity",
    passing="every sequence is readable and holds one row; none is behind the column that it numbers",
    mend="a sequence that cannot be read is damage in the backup: drill with an older one; one that is behind gives duplicate keys: "
    "setval() it on production to the column's maximum",
    example='agents.invoice_number_seq: DataCorrupted (invalid page in block 0 of relation "base/16385/16421"), wanted no error',
)  # fmt: skip
def sequences(context: Context) -> Iterator[Outcome]:
    """Behind its column is a warning: rows may have been written with numbers of their own."""
    for database in context.databases:
        with _opened(context, database) as connection:
            owners = {row[0]: row[1:] for row in connection.execute(OWNERS).fetchall()}

            def ask(
                relation: Relation, connection: psycopg.Connection = connection, database: str = database,
                owners: dict[int, tuple[str, str, str, bool, bool]] = owners,
            ) -> Outcome | None:  # fmt: skip
                name = sql.SQL(relation.name)
                rows = connection.execute(sql.SQL("SELECT last_value, is_called FROM {}").format(name)).fetchall()
                if len(rows) != 1:
                    return Outcome("fail", f"{database}.{relation.name}", f"{len(rows)} rows", "1 row")
                if relation.oid in owners:
                    last, called = rows[0]
                    return _behind(connection, f"{database}.{relation.name}", last, called, *owners[relation.oid])
                return None

            found = [relation for relation in _relations(connection) if relation.kind == "S"]
            yield from _each(connection, database, found, "readable, and not behind", ask)
            if not found:
                yield Outcome("pass", database, 0, "", "no sequence")


def _behind(
    connection: psycopg.Connection, thing: str, last: int, called: bool, schema: str, table: str, column: str,
    ascending: bool, once: bool,
) -> Outcome | None:  # fmt: skip
    cell, end = sql.Identifier(column), sql.SQL("max" if ascending else "min")
    row = connection.execute(sql.SQL("SELECT {}({}) FROM {}").format(end, cell, sql.Identifier(schema, table))).fetchone()
    if not once or row is None or row[0] is None:
        return None
    ahead = last - row[0] if ascending else row[0] - last
    if ahead > 0 or (ahead == 0 and called):
        return None
    return Outcome("warn", thing, last, f"past {row[0]}", f"behind {table}.{column}: the next number may be taken")

"""Tables that run somebody's function when they are read.

Planning a query folds what stands on them, with the reader's rights.

Counted is every function that is neither PostgreSQL's own nor an extension's, wherever reading can
reach it: in expressions, predicates and operator classes of indexes, in CHECKs, extended
statistics, generated columns, policies and keys of partitioning, and behind the types of columns
(domains, casts, output), directly or by way of operators and types. An extension's function counts
as its own only if a superuser owns it, or it is C: whoever owns an extension may add his own
function to it. What an extension's function calls in turn is not followed. Column defaults,
triggers, rules and the query of a materialized view count for writing alone: reading evaluates none
of them. Constants in all of these are evaluated by the planner (``eval_const_expressions``), even
for a bare ``count(*)``.

PostgreSQL's own functions are harmless where they have to be IMMUTABLE, and not elsewhere:
``ts_rewrite``, ``query_to_xml`` and the like run SQL that they are given as text, ``set_config``
and ``pg_notify`` act. A CHECK of a domain may call them, and a cast to that domain may stand in an
index. No dependency is recorded on what is PostgreSQL's own, so expressions are read as they are
stored (``pg_node_tree``). Writing evaluates more: there such a function counts wherever it stands,
but for those that only tell the time or the next number.

A definition that is asked anew, in words, may find another function of the same name that fits its
types better (those of a domain). So a vector index whose functions or operators somebody has given
a namesake in their schema counts as well.

Such a table can still be read by ``COPY table (columns) TO STDOUT``: it scans and calls the types'
output functions, and there is no query to be planned (``BeginCopyTo`` in copyto.c; under row
security it becomes one, which BYPASSRLS keeps away).
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import sql

# Objects on a table that take part in reading it, and those that take part in writing alone.
READING = """
    SELECT relid, 'pg_class'::regclass::oid, relid, 'a type' FROM root
    UNION ALL SELECT relid, 'pg_type'::regclass, c.reltype, 'a type'
      FROM root JOIN pg_class c ON c.oid = relid
    UNION ALL SELECT relid, 'pg_class'::regclass, i.indexrelid, 'index ' || quote_ident(c.relname)
      FROM root JOIN pg_index i ON i.indrelid = relid JOIN pg_class c ON c.oid = i.indexrelid
    UNION ALL SELECT relid, 'pg_constraint'::regclass, c.oid,
        'constraint ' || quote_ident(c.conname)
      FROM root JOIN pg_constraint c ON c.conrelid = relid
    UNION ALL SELECT relid, 'pg_attrdef'::regclass, d.oid,
        'generated column ' || quote_ident(a.attname)
      FROM root JOIN pg_attrdef d ON d.adrelid = relid
      JOIN pg_attribute a ON a.attrelid = relid AND a.attnum = d.adnum AND a.attgenerated <> ''
    UNION ALL SELECT relid, 'pg_statistic_ext'::regclass, s.oid,
        'statistics ' || quote_ident(s.stxname)
      FROM root JOIN pg_statistic_ext s ON s.stxrelid = relid
    UNION ALL SELECT relid, 'pg_policy'::regclass, p.oid, 'policy ' || quote_ident(p.polname)
      FROM root JOIN pg_policy p ON p.polrelid = relid
    UNION ALL SELECT root.relid, 'pg_class'::regclass, ancestor,
        'the partitioning of ' || ancestor::regclass::text
      FROM root, pg_partition_ancestors(root.relid) a (ancestor) WHERE ancestor <> root.relid
"""
WRITING = """
    UNION ALL SELECT relid, 'pg_attrdef'::regclass, d.oid, 'a default'
      FROM root JOIN pg_attrdef d ON d.adrelid = relid
    UNION ALL SELECT relid, 'pg_trigger'::regclass, t.oid, 'trigger ' || quote_ident(t.tgname)
      FROM root JOIN pg_trigger t ON t.tgrelid = relid AND NOT t.tgisinternal
    UNION ALL SELECT relid, 'pg_rewrite'::regclass, r.oid, 'rule ' || quote_ident(r.rulename)
      FROM root JOIN pg_rewrite r ON r.ev_class = relid
"""
# The expressions of an object, as they are stored.
TREES = """
    SELECT concat(i.indexprs::text, i.indpred::text) FROM pg_index i
      WHERE {r}.classid = 'pg_class'::regclass AND i.indexrelid = {r}.objid
    UNION ALL SELECT k.partexprs::text FROM pg_partitioned_table k
      WHERE {r}.classid = 'pg_class'::regclass AND k.partrelid = {r}.objid
    UNION ALL SELECT c.conbin::text FROM pg_constraint c
      WHERE {r}.classid = 'pg_constraint'::regclass AND c.oid = {r}.objid
    UNION ALL SELECT d.adbin::text FROM pg_attrdef d
      WHERE {r}.classid = 'pg_attrdef'::regclass AND d.oid = {r}.objid
    UNION ALL SELECT s.stxexprs::text FROM pg_statistic_ext s
      WHERE {r}.classid = 'pg_statistic_ext'::regclass AND s.oid = {r}.objid
    UNION ALL SELECT concat(p.polqual::text, p.polwithcheck::text) FROM pg_policy p
      WHERE {r}.classid = 'pg_policy'::regclass AND p.oid = {r}.objid
    UNION ALL SELECT t.typdefaultbin::text FROM pg_type t
      WHERE {r}.classid = 'pg_type'::regclass AND t.oid = {r}.objid
"""
CALLED = r"regexp_matches(tree, ':(?:funcid|opfuncid|hashfuncid|negfuncid) (\d+)', 'g')"
MADE = (
    r"regexp_matches(tree, ':(?:resulttype|typid|typeId|row_typeid|array_typeid|element_typeid)"
    r" (\d+)', 'g')"
)
# Follows from there what each object depends on. Functions end the search, and so does all that
# comes with an extension.
REACHED = """
WITH RECURSIVE root AS (
    SELECT oid AS relid FROM pg_class
    WHERE relkind IN ('r', 'm', 'p') AND oid >= 16384 AND {which}
),
extension AS (
    SELECT d.classid, d.objid FROM pg_depend d
    LEFT JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
    LEFT JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid
    LEFT JOIN pg_operator o ON d.classid = 'pg_operator'::regclass AND o.oid = d.objid
    LEFT JOIN pg_opclass k ON d.classid = 'pg_opclass'::regclass AND k.oid = d.objid
    LEFT JOIN pg_opfamily f ON d.classid = 'pg_opfamily'::regclass AND f.oid = d.objid
    LEFT JOIN pg_roles r
      ON r.oid = coalesce(p.proowner, t.typowner, o.oprowner, k.opcowner, f.opfowner)
    WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
      AND (r.rolsuper OR p.prolang IN (12, 13))
),
part (relid, classid, objid, what) AS MATERIALIZED ({parts}),
--`made`: of this type values are made, which asks its CHECKs; those of a column are only looked at.
reached (relid, classid, objid, what, made) AS (
    SELECT *, {writing} FROM part
    UNION
    SELECT r.relid, n.classid, n.objid, r.what, r.made OR n.made
    FROM reached r CROSS JOIN LATERAL (
        SELECT 'pg_type'::regclass, m[1]::oid, r.made OR NOT EXISTS (
          SELECT FROM pg_constraint c
          WHERE r.classid = 'pg_constraint'::regclass AND c.oid = r.objid AND c.contypid <> 0)
        FROM ({trees}) t (tree), {made_types} m
        UNION ALL SELECT d.refclassid, d.refobjid, false FROM pg_depend d
        WHERE d.classid = r.classid AND d.objid = r.objid AND r.classid <> 'pg_proc'::regclass
          AND d.refclassid IN (
            'pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass,
            'pg_opclass'::regclass, 'pg_opfamily'::regclass, 'pg_am'::regclass)
        UNION ALL SELECT 'pg_constraint'::regclass, c.oid, false FROM pg_constraint c
        WHERE r.classid = 'pg_type'::regclass AND c.contypid = r.objid
        UNION ALL SELECT 'pg_class'::regclass, t.typrelid, false FROM pg_type t
        WHERE r.classid = 'pg_type'::regclass AND t.oid = r.objid AND t.typrelid <> 0
        UNION ALL SELECT 'pg_proc'::regclass, c.castfunc, false FROM pg_cast c
        WHERE r.classid = 'pg_type'::regclass AND r.objid IN (c.castsource, c.casttarget)
          AND c.castfunc <> 0
        UNION ALL SELECT 'pg_opfamily'::regclass, k.opcfamily, false FROM pg_opclass k
        WHERE r.classid = 'pg_opclass'::regclass AND k.oid = r.objid
        UNION ALL SELECT 'pg_proc'::regclass, a.amproc, false FROM pg_amproc a
        WHERE r.classid = 'pg_opfamily'::regclass AND a.amprocfamily = r.objid
        UNION ALL SELECT 'pg_operator'::regclass, a.amopopr, false FROM pg_amop a
        WHERE r.classid = 'pg_opfamily'::regclass AND a.amopfamily = r.objid
    ) n (classid, objid, made)
    WHERE n.objid >= 16384 AND NOT EXISTS (
        SELECT FROM extension e WHERE e.classid = n.classid AND e.objid = n.objid)
)
SELECT relid::int8, min(why) FROM (
    SELECT r.relid, r.what || ' calls ' || p.oid::regprocedure::text FROM reached r
    JOIN pg_proc p ON r.classid = 'pg_proc'::regclass AND p.oid = r.objid
    JOIN pg_roles o ON o.oid = p.proowner
    WHERE NOT (p.pronamespace = 'pg_catalog'::regnamespace AND o.rolsuper)
    UNION ALL
    SELECT r.relid, r.what || ' calls ' || p.oid::regprocedure::text
    FROM reached r CROSS JOIN LATERAL ({trees}) t (tree), {called} m
    JOIN pg_proc p ON p.oid = m[1]::oid
    WHERE p.provolatile <> 'i' AND {acting}
    UNION ALL {more}
) found (relid, why) GROUP BY 1
"""
# In reading, functions act by the CHECK of a domain that values are made of, and by policies, where
# the reader is not free of them.
ACTS_IN_READING = """
(r.made AND r.classid = 'pg_constraint'::regclass
   AND EXISTS (SELECT FROM pg_constraint c WHERE c.oid = r.objid AND c.contypid <> 0)
 OR r.classid = 'pg_policy'::regclass AND row_security_active(r.relid)
   AND p.proname <> 'current_setting')
"""
ACTS_IN_WRITING = """
(r.classid <> 'pg_policy'::regclass OR row_security_active(r.relid))
AND NOT (p.pronamespace = 'pg_catalog'::regnamespace AND (p.proname = ANY (ARRAY[
    'now', 'clock_timestamp', 'statement_timestamp', 'transaction_timestamp', 'timeofday',
    'nextval', 'gen_random_uuid', 'uuidv4', 'uuidv7', 'random', 'current_setting',
    'current_database', 'pg_backend_pid', 'pg_current_wal_lsn', 'pg_current_wal_insert_lsn',
    'pg_is_in_recovery', 'txid_current', 'pg_current_xact_id', 'inet_server_addr',
    'inet_server_port'])
  OR p.pronargs > 0
     AND p.proargtypes::oid[] <@ ARRAY[
       'date', 'time', 'timetz', 'timestamp', 'timestamptz', 'interval', 'int4', 'text'
     ]::regtype[]::oid[]
     AND p.proargtypes::oid[] && ARRAY[
       'date', 'time', 'timetz', 'timestamp', 'timestamptz', 'interval'
     ]::regtype[]::oid[]))
"""
# Finds namesakes, in the same schema, of what vector indexes call.
NAMESAKES = """
SELECT r.relid, r.what || ' may call ' || q.oid::regprocedure::text
FROM part r JOIN pg_class x ON r.classid = 'pg_class'::regclass AND x.oid = r.objid
JOIN pg_am m ON m.oid = x.relam AND m.amname IN ('hnsw', 'ivfflat')
CROSS JOIN LATERAL ({trees}) t (tree), {called} f JOIN pg_proc p ON p.oid = f[1]::oid
JOIN pg_proc q ON q.proname = p.proname AND q.pronamespace = p.pronamespace
  AND q.oid <> p.oid AND q.oid >= 16384
WHERE NOT EXISTS (
    SELECT FROM extension e WHERE e.classid = 'pg_proc'::regclass AND e.objid = q.oid)
UNION ALL
SELECT r.relid, r.what || ' may call ' || q.oprcode::text
FROM part r JOIN pg_class x ON r.classid = 'pg_class'::regclass AND x.oid = r.objid
JOIN pg_am m ON m.oid = x.relam AND m.amname IN ('hnsw', 'ivfflat')
CROSS JOIN LATERAL ({trees}) t (tree), regexp_matches(tree, ':opno (\\d+)', 'g') f
JOIN pg_operator p ON p.oid = f[1]::oid
JOIN pg_operator q ON q.oprname = p.oprname AND q.oprnamespace = p.oprnamespace
  AND q.oid <> p.oid AND q.oid >= 16384
WHERE NOT EXISTS (
    SELECT FROM extension e WHERE e.classid = 'pg_operator'::regclass AND e.objid = q.oid)
"""
# The statements in a rule write to other tables, whose triggers fire.
RULES = "SELECT relid, what FROM part WHERE classid = 'pg_rewrite'::regclass"
# A session that holds a lock as adding an index or statistics takes it may be about to commit one.
# VACUUM, and a session that makes an index CONCURRENTLY, are not: neither can be part of a longer
# transaction, and the planner opens no index that is not valid yet. When such an index is to become
# valid, it has been in the catalogs for several transactions.
CHANGING = """
SELECT l.relation::int8, 'its definition was being changed'
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_backend_pid()
  AND l.relation = ANY (%(tables)s::oid[])
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                 'AccessExclusiveLock')
  AND a.backend_type <> 'autovacuum worker'
  AND l.pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
  AND l.pid NOT IN (
      SELECT pid FROM pg_stat_progress_create_index WHERE command LIKE '%% CONCURRENTLY')
"""
# Finds columns whose output is a function of the same kind: not even COPY can show them.
OUTPUT = """
WITH RECURSIVE held (attname, typid) AS (
    SELECT attname, atttypid FROM pg_attribute
    WHERE attrelid = %(table)s AND attnum > 0 AND NOT attisdropped
    UNION
    SELECT h.attname, n.typid FROM held h JOIN pg_type t ON t.oid = h.typid CROSS JOIN LATERAL (
        SELECT t.typelem UNION ALL SELECT t.typbasetype
        UNION ALL SELECT rngsubtype FROM pg_range WHERE rngtypid = t.oid
        UNION ALL SELECT rngtypid FROM pg_range
        WHERE to_jsonb(pg_range.*) ->> 'rngmultitypid' = t.oid::text
        UNION ALL SELECT atttypid FROM pg_attribute
        WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped
    ) n (typid) WHERE n.typid >= 16384
)
SELECT DISTINCT h.attname
FROM held h JOIN pg_type t ON t.oid = h.typid JOIN pg_proc p ON p.oid = t.typoutput
JOIN pg_roles o ON o.oid = p.proowner
WHERE p.oid >= 16384 AND NOT (p.pronamespace = 'pg_catalog'::regnamespace AND o.rolsuper)
  AND NOT EXISTS (
    SELECT FROM pg_depend d
    WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
      AND (o.rolsuper OR p.prolang IN (12, 13)))
"""


def foreign_code(
    connection: psycopg.Connection, tables: Sequence[int], *, writing: bool = False
) -> dict[int, str]:
    """Return the tables (by oid) that run somebody's function -> where the first of them stands.

    The place is told in words. Ask on a connection that sees what is committed now, not on one that
    keeps a snapshot: the planner sees the newest catalogs. A table whose definition somebody is
    changing counts, too.
    """
    # This is asked first: what is committed meanwhile is in the catalogs by the next question.
    found = changing(connection, tables)
    trees, called = sql.SQL(TREES).format(r=sql.SQL("r")), sql.SQL(CALLED)
    query = sql.SQL(REACHED).format(
        which=sql.SQL("oid = ANY (%(tables)s::oid[])"),
        parts=sql.SQL(READING + WRITING if writing else READING),
        trees=trees,
        called=called,
        made_types=sql.SQL(MADE),
        writing=sql.Literal(writing),
        acting=sql.SQL(ACTS_IN_WRITING if writing else ACTS_IN_READING),
        more=sql.SQL(RULES) if writing else sql.SQL(NAMESAKES).format(trees=trees, called=called),
    )
    return found | dict(connection.execute(query, {"tables": list(tables)}).fetchall())


def hold(connection: psycopg.Connection, schema: str, table: str) -> None:
    """Lock a table or a materialized view against being altered.

    Preparing a statement locks it and plans nothing.
    """
    query = sql.SQL("PREPARE pgdrill_held AS SELECT FROM ONLY {}").format(
        sql.Identifier(schema, table)
    )
    # in a savepoint, so that waiting in vain spoils nothing else; the lock outlives it
    with connection.transaction():
        connection.execute(query, prepare=False)
        connection.execute("DEALLOCATE pgdrill_held", prepare=False)


def changing(connection: psycopg.Connection, tables: Sequence[int]) -> dict[int, str]:
    """Return the tables on which somebody holds a lock as adding an index takes it."""
    return dict(connection.execute(CHANGING, {"tables": list(tables)}).fetchall())


def not_to_be_output(connection: psycopg.Connection, table: int) -> set[str]:
    """Return the columns that cannot be shown without running somebody's function."""
    return {row[0] for row in connection.execute(OUTPUT, {"table": table}).fetchall()}

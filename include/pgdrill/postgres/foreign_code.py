"""Tables that run somebody's function when they are read: planning a query folds what stands on them, with the reader's rights.

Counted is every function that is neither PostgreSQL's own nor an extension's, wherever reading can reach it: in expressions,
predicates and operator classes of indexes, in CHECKs, extended statistics, generated columns, policies and keys of
partitioning, and behind the types of columns (domains, casts, output), directly or by way of operators and types. An
extension's function counts as its own only if a superuser owns it, or it is C: whoever owns an extension may add his own
function to it. What an extension's function calls in turn is not followed. Column defaults, triggers, rules and the query of
a materialized view count for writing alone: reading evaluates none of them. Constants in all of these are evaluated by the
planner (``eval_const_expressions``), even for a bare ``count(*)``.

Such a table can still be read by ``COPY table (columns) TO STDOUT``: it scans and calls the types' output functions, and
there is no query to be planned (``BeginCopyTo`` in copyto.c; under row security it becomes one, which BYPASSRLS keeps away).
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import sql

# What stands on a table and takes part in reading it, and what in writing to it alone.
READING = """
    SELECT relid, 'pg_class'::regclass::oid, relid, 'a type' FROM root
    UNION ALL SELECT relid, 'pg_type'::regclass, c.reltype, 'a type' FROM root JOIN pg_class c ON c.oid = relid
    UNION ALL SELECT relid, 'pg_class'::regclass, i.indexrelid, 'index ' || quote_ident(c.relname)
      FROM root JOIN pg_index i ON i.indrelid = relid JOIN pg_class c ON c.oid = i.indexrelid
    UNION ALL SELECT relid, 'pg_constraint'::regclass, c.oid, 'constraint ' || quote_ident(c.conname) FROM root JOIN pg_constraint c ON c.conrelid = relid
    UNION ALL SELECT relid, 'pg_attrdef'::regclass, d.oid, 'generated column ' || quote_ident(a.attname)
      FROM root JOIN pg_attrdef d ON d.adrelid = relid
      JOIN pg_attribute a ON a.attrelid = relid AND a.attnum = d.adnum AND a.attgenerated <> ''
    UNION ALL SELECT relid, 'pg_statistic_ext'::regclass, s.oid, 'statistics ' || quote_ident(s.stxname) FROM root JOIN pg_statistic_ext s ON s.stxrelid = relid
    UNION ALL SELECT relid, 'pg_policy'::regclass, p.oid, 'policy ' || quote_ident(p.polname) FROM root JOIN pg_policy p ON p.polrelid = relid
    UNION ALL SELECT root.relid, 'pg_class'::regclass, ancestor, 'the partitioning of ' || ancestor::regclass::text
      FROM root, pg_partition_ancestors(root.relid) a (ancestor) WHERE ancestor <> root.relid
"""
WRITING = """
    UNION ALL SELECT relid, 'pg_attrdef'::regclass, d.oid, 'a default' FROM root JOIN pg_attrdef d ON d.adrelid = relid
    UNION ALL SELECT relid, 'pg_trigger'::regclass, t.oid, 'trigger ' || quote_ident(t.tgname) FROM root JOIN pg_trigger t ON t.tgrelid = relid AND NOT t.tgisinternal
    UNION ALL SELECT relid, 'pg_rewrite'::regclass, r.oid, 'rule ' || quote_ident(r.rulename) FROM root JOIN pg_rewrite r ON r.ev_class = relid
"""
# From there along what each object depends on; functions end it, and so does all that comes with an extension.
REACHED = """
WITH RECURSIVE root AS (SELECT oid AS relid FROM pg_class WHERE relkind IN ('r', 'm', 'p') AND oid >= 16384 AND {which}),
extension AS (
    SELECT d.classid, d.objid FROM pg_depend d
    LEFT JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
    LEFT JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid
    LEFT JOIN pg_operator o ON d.classid = 'pg_operator'::regclass AND o.oid = d.objid
    LEFT JOIN pg_opclass k ON d.classid = 'pg_opclass'::regclass AND k.oid = d.objid
    LEFT JOIN pg_opfamily f ON d.classid = 'pg_opfamily'::regclass AND f.oid = d.objid
    LEFT JOIN pg_roles r ON r.oid = coalesce(p.proowner, t.typowner, o.oprowner, k.opcowner, f.opfowner)
    WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass AND (r.rolsuper OR p.prolang IN (12, 13))
),
part (relid, classid, objid, what) AS ({parts}),
reached AS (
    SELECT * FROM part
    UNION
    SELECT r.relid, n.classid, n.objid, r.what FROM reached r CROSS JOIN LATERAL (
        SELECT d.refclassid, d.refobjid FROM pg_depend d
        WHERE d.classid = r.classid AND d.objid = r.objid AND r.classid <> 'pg_proc'::regclass AND d.refclassid IN
          ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass, 'pg_opclass'::regclass, 'pg_opfamily'::regclass, 'pg_am'::regclass)
        UNION ALL SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint c WHERE r.classid = 'pg_type'::regclass AND c.contypid = r.objid
        UNION ALL SELECT 'pg_class'::regclass, t.typrelid FROM pg_type t WHERE r.classid = 'pg_type'::regclass AND t.oid = r.objid AND t.typrelid <> 0
        UNION ALL SELECT 'pg_proc'::regclass, c.castfunc FROM pg_cast c
                  WHERE r.classid = 'pg_type'::regclass AND r.objid IN (c.castsource, c.casttarget) AND c.castfunc <> 0
        UNION ALL SELECT 'pg_opfamily'::regclass, k.opcfamily FROM pg_opclass k WHERE r.classid = 'pg_opclass'::regclass AND k.oid = r.objid
        UNION ALL SELECT 'pg_proc'::regclass, a.amproc FROM pg_amproc a WHERE r.classid = 'pg_opfamily'::regclass AND a.amprocfamily = r.objid
        UNION ALL SELECT 'pg_operator'::regclass, a.amopopr FROM pg_amop a WHERE r.classid = 'pg_opfamily'::regclass AND a.amopfamily = r.objid
    ) n (classid, objid)
    WHERE n.objid >= 16384 AND NOT EXISTS (SELECT FROM extension e WHERE e.classid = n.classid AND e.objid = n.objid)
)
SELECT r.relid::int8, min(r.what || ' calls ' || p.oid::regprocedure::text) FROM reached r
JOIN pg_proc p ON r.classid = 'pg_proc'::regclass AND p.oid = r.objid
JOIN pg_roles o ON o.oid = p.proowner
WHERE NOT (p.pronamespace = 'pg_catalog'::regnamespace AND o.rolsuper)
GROUP BY 1
"""
# Who holds a lock that adding an index or statistics takes may be about to commit one. Not so VACUUM, and what makes an index
# CONCURRENTLY: neither can be part of a longer transaction, and the planner opens no index that is not valid yet; when it is
# to become valid, it has been in the catalogs for several transactions.
CHANGING = """
SELECT l.relation::int8, 'its definition was being changed' FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_backend_pid() AND l.relation = ANY (%(tables)s::oid[])
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
  AND a.backend_type <> 'autovacuum worker' AND l.pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
  AND l.pid NOT IN (SELECT pid FROM pg_stat_progress_create_index WHERE command LIKE '%% CONCURRENTLY')
"""
# Columns whose output is a function of the same kind: not even COPY can show them.
OUTPUT = """
WITH RECURSIVE held (attname, typid) AS (
    SELECT attname, atttypid FROM pg_attribute WHERE attrelid = %(table)s AND attnum > 0 AND NOT attisdropped
    UNION
    SELECT h.attname, n.typid FROM held h JOIN pg_type t ON t.oid = h.typid CROSS JOIN LATERAL (
        SELECT t.typelem UNION ALL SELECT t.typbasetype
        UNION ALL SELECT rngsubtype FROM pg_range WHERE rngtypid = t.oid
        UNION ALL SELECT rngtypid FROM pg_range WHERE to_jsonb(pg_range.*) ->> 'rngmultitypid' = t.oid::text
        UNION ALL SELECT atttypid FROM pg_attribute WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped
    ) n (typid) WHERE n.typid >= 16384
)
SELECT DISTINCT h.attname FROM held h JOIN pg_type t ON t.oid = h.typid JOIN pg_proc p ON p.oid = t.typoutput
JOIN pg_roles o ON o.oid = p.proowner
WHERE p.oid >= 16384 AND NOT (p.pronamespace = 'pg_catalog'::regnamespace AND o.rolsuper) AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' AND (o.rolsuper OR p.prolang IN (12, 13)))
"""


def foreign_code(connection: psycopg.Connection, tables: Sequence[int], *, writing: bool = False) -> dict[int, str]:
    """Those of the tables (by oid) that run somebody's function -> where the first of them stands, in words.

    Ask on a connection that sees what is committed now, not on one that keeps a snapshot: the planner sees the newest
    catalogs. A table whose definition somebody is changing counts, too.
    """
    found = changing(connection, tables)  # before: what is committed meanwhile is in the catalogs then
    parts = sql.SQL(READING + WRITING if writing else READING)
    query = sql.SQL(REACHED).format(which=sql.SQL("oid = ANY (%(tables)s::oid[])"), parts=parts)
    return found | dict(connection.execute(query, {"tables": list(tables)}).fetchall())


def hold(connection: psycopg.Connection, schema: str, table: str) -> None:
    """Lock a table or a materialized view against being altered. Preparing a statement plans nothing."""
    query = sql.SQL("PREPARE pgdrill_held AS SELECT FROM ONLY {}").format(sql.Identifier(schema, table))
    with connection.transaction():  # a savepoint: waiting in vain spoils nothing else, and the lock outlives it
        connection.execute(query, prepare=False)
        connection.execute("DEALLOCATE pgdrill_held", prepare=False)


def changing(connection: psycopg.Connection, tables: Sequence[int]) -> dict[int, str]:
    """Those of the tables that somebody holds a lock on as adding an index takes it."""
    return dict(connection.execute(CHANGING, {"tables": list(tables)}).fetchall())


def not_to_be_output(connection: psycopg.Connection, table: int) -> set[str]:
    """Columns that cannot be shown without running somebody's function."""
    return {row[0] for row in connection.execute(OUTPUT, {"table": table}).fetchall()}

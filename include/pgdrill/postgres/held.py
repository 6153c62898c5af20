"""Tables that somebody holds, or waits to hold, so that no other session may open them.

Functions that open a table, like those that tell its size, wait for such a session.
"""

from __future__ import annotations

# A common table expression: the tables (oids) of this database that are held, be it by their TOAST
# table or an index of theirs. A prepared transaction holds, too, and has no process.
HELD = """
held (oid) AS MATERIALIZED (
    SELECT coalesce(o.oid, i.indrelid, l.relation)
    FROM pg_catalog.pg_locks l
    LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = l.relation
    LEFT JOIN pg_catalog.pg_class o ON o.reltoastrelid = coalesce(i.indrelid, l.relation)
    WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
      AND l.pid IS DISTINCT FROM pg_backend_pid()
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
)"""

"""The restored data that needs a library which is not loaded there.

It is not judged, and never a failure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgdrill.postgres.libraries import SETTINGS, left_out
from pgdrill.postgres.relation_names import joined

if TYPE_CHECKING:
    import psycopg

    from pgdrill.checks.base import Context

# An extension belongs to a library by its name, or by the file that its functions are in
# (timescaledb's file name ends with a version).
EXTENSIONS = """
SELECT DISTINCT e.oid::int8, e.extname,
       regexp_replace(regexp_replace(coalesce(p.probin, ''), '^.*/', ''), '[.]so$', '')
FROM pg_extension e
LEFT JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
                     AND d.deptype = 'e' AND d.classid = 'pg_proc'::regclass
LEFT JOIN pg_proc p ON p.oid = d.objid
"""
# The relations of extensions, and those that depend on anything of theirs: through a type, an
# access method, an operator class, a trigger, a default, a constraint or a schema, or through an
# ancestor or descendant that does.
NEEDING = """
WITH RECURSIVE needing(classid, objid) AS (
    SELECT d.classid, d.objid FROM pg_depend d
    WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = ANY(%s)
    UNION
    SELECT more.classid, more.objid FROM needing n CROSS JOIN LATERAL (
        SELECT d.classid, d.objid FROM pg_depend d
        WHERE d.refclassid = n.classid AND d.refobjid = n.objid
        UNION ALL SELECT 'pg_class'::regclass, tgrelid FROM pg_trigger t
        WHERE n.classid = 'pg_trigger'::regclass AND t.oid = n.objid
        UNION ALL SELECT 'pg_class'::regclass, conrelid FROM pg_constraint t
        WHERE n.classid = 'pg_constraint'::regclass AND t.oid = n.objid
        UNION ALL SELECT 'pg_class'::regclass, adrelid FROM pg_attrdef t
        WHERE n.classid = 'pg_attrdef'::regclass AND t.oid = n.objid
        UNION ALL SELECT 'pg_class'::regclass, inhrelid FROM pg_inherits t
        WHERE n.classid = 'pg_class'::regclass AND t.inhparent = n.objid
        UNION ALL SELECT 'pg_class'::regclass, inhparent FROM pg_inherits t
        WHERE n.classid = 'pg_class'::regclass AND t.inhrelid = n.objid
    ) more WHERE more.objid <> 0
)
SELECT DISTINCT n.nspname, c.relname, quote_ident(n.nspname), quote_ident(c.relname),
       c.relkind IN ('r', 'p', 'm', 'f')
FROM needing
JOIN pg_class c ON c.oid = needing.objid AND needing.classid = 'pg_class'::regclass
JOIN pg_namespace n ON n.oid = c.relnamespace
"""


def libraries(context: Context) -> list[str]:
    """Return production's libraries that are kept out of the restored server.

    Production has them preloaded.
    """
    known = context.production or context.baseline
    if known is None or context.prepare is None:
        return []
    return left_out(
        (known.settings.get(name, "") for name in SETTINGS), context.cluster.drill.allowed_libraries
    )


@dataclass(slots=True)
class Needing:
    """The relations that need a library which is not loaded."""

    # relations as any check may write them -> the library that they need
    relations: dict[str, str] = field(default_factory=dict)
    # library -> its tables, in order
    tables: dict[str, list[str]] = field(default_factory=dict)


def needing(context: Context) -> Needing:
    """Return what needs a library that is not there, read once."""
    if context.cache.needing is None:
        context.cache.needing = _needing(context)
    return context.cache.needing


def library_of(context: Context, thing: str) -> str:
    """Return the library that a check's thing needs and that is not loaded; else empty."""
    known = needing(context).relations
    if not known:
        return ""
    ends = [at for at, letter in enumerate(thing) if letter in ". "] + [len(thing)]
    return next((known[thing[:end]] for end in ends if thing[:end] in known), "")


def hint(library: str) -> str:
    """Return words for why a library is not loaded, and how to have it loaded."""
    return (
        f"library {library} is not known to do nothing by itself; drill.allowed_libraries ="
        f' ["{library}"] loads it'
    )


def _needing(context: Context) -> Needing:
    found = Needing()
    missing = libraries(context)
    for database in context.databases if missing else ():
        with context.system(database) as connection:
            for library in missing:
                for schema, name, quoted_schema, quoted_name, is_table in sorted(
                    _relations(connection, library)
                ):
                    written = {joined(schema, name), f"{quoted_schema}.{quoted_name}"}
                    written |= {name, quoted_name} if schema in ("public", "pg_catalog") else set()
                    found.relations |= {f"{database}.{one}": library for one in written}
                    if is_table:
                        found.tables.setdefault(library, []).append(
                            f"{database}.{joined(schema, name)}"
                        )
    return found


def _relations(
    connection: psycopg.Connection, library: str
) -> list[tuple[str, str, str, str, bool]]:
    extensions = [
        oid
        for oid, name, file in connection.execute(EXTENSIONS).fetchall()
        if library in (name, file) or file.startswith(f"{library}-")
    ]
    return connection.execute(NEEDING, (extensions,)).fetchall() if extensions else []

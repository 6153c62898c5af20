"""The examination of large objects, which pg_read_all_data does not include.

A dump reads every one of them, as the role that dumps.
"""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from pgdrill.doctor.examination import examination
from pgdrill.doctor.model import Finding, green, red
from pgdrill.doctor.subject import Subject, hurry
from pgdrill.text import count

CLOSED = """
SELECT count(*), min(oid)::text FROM pg_largeobject_metadata m
WHERE current_setting('lo_compat_privileges') = 'off' AND NOT pg_has_role(m.lomowner, 'USAGE')
  AND NOT EXISTS (
    SELECT FROM aclexplode(m.lomacl) a
    WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))
"""
GRANT = (
    "DO $$ DECLARE n oid; BEGIN FOR n IN SELECT oid FROM pg_largeobject_metadata LOOP"
    " EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO %I', n, {}); END LOOP; END $$"
)


@examination(
    "large-objects",
    "rights",
    green="the role that dumps may read every large object",
    needs=("login", "dump-login"),
    after=("databases",),
    jobs=("dump",),
    hint=(
        "run the statement as a superuser, and make it the default with ALTER DEFAULT PRIVILEGES …"
        " GRANT SELECT ON LARGE OBJECTS (PostgreSQL 18)"
    ),
    example="large objects of database agents: pgdrill may not read 12 of them",
)
def large_objects(subject: Subject) -> Iterator[Finding]:
    """Ask for closed large objects in each database that is dumped and lets in."""
    dumped, wrong = subject.access.dumped, 0
    names = [
        name
        for name in subject.access.cluster.dump.databases or subject.wanted
        if name in subject.databases
    ]
    for name in names:
        with dumped.connect(name) as connection:
            hurry(connection)
            closed, first = connection.execute(CLOSED).fetchone() or (0, "")
            user = connection.info.user
            grant = sql.SQL(GRANT).format(sql.Literal(user)).as_string(connection)
        if closed:
            wrong += 1
            yield red(
                f"large objects of database {name}",
                f"{user} may not read {closed} of them (large object {first})",
                "the right to read each: a dump holds them all",
                f"as a superuser, in database {name}: `{grant}`",
            )
    if not wrong:
        yield green("large objects", f"each can be read, in {count(len(names), 'database')}")

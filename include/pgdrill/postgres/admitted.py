"""Checking that the server lets a role into each database that a job is about.

It is asked before the job begins, and not when half is done.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import sql

from pgdrill.errors import Refused

# Connections to one database: two snapshots, its catalogs, and one for questions of the whole
# cluster.
AT_ONCE = 4
DATABASES = """
SELECT d.datname, has_database_privilege(d.oid, 'CONNECT'), d.datconnlimit FROM pg_database d
WHERE d.datname = ANY(%s) AND d.datallowconn ORDER BY 1
"""
ROLE = "SELECT rolconnlimit, rolsuper FROM pg_roles WHERE rolname = session_user"


def at_once(databases: int) -> int:
    """Return how many connections a look at so many databases takes.

    Two snapshots of each are held until it has been read.
    """
    return 2 * databases + AT_ONCE - 2


def check_admitted(connection: psycopg.Connection, cluster: str, databases: Sequence[str]) -> None:
    """Raise :class:`Refused` if the connection's role may not enter one of the databases.

    Raise it, too, if the role may enter too few times at once.
    """
    user = sql.Identifier(connection.info.user).as_string(connection)
    limit, superuser = connection.execute(ROLE).fetchone() or (-1, False)
    if superuser:
        return
    wanted = at_once(len(databases))
    if 0 <= limit < wanted:
        raise Refused(
            "connection-limit",
            f"role {connection.info.user} of cluster {cluster}",
            found=f"CONNECTION LIMIT {limit}",
            expected=(
                f"room for {wanted} connections at once: two to each of {len(databases)} databases,"
                " and others beside them"
            ),
            hint=f"ALTER ROLE {user} CONNECTION LIMIT {max(wanted, 20)} (or -1: without limit)",
        )
    for name, allowed, most in connection.execute(DATABASES, (list(databases),)).fetchall():
        quoted = sql.Identifier(name).as_string(connection)
        if not allowed:
            raise Refused(
                "no-connect-right",
                f"database {name} of cluster {cluster}",
                found=f"role {connection.info.user} may not connect to it",
                expected="the right to connect to every database that is checked",
                hint=(
                    f"GRANT CONNECT ON DATABASE {quoted} TO {user}; or name the databases that are"
                    " to be checked in server.databases"
                ),
            )
        if 0 <= most < AT_ONCE:
            raise Refused(
                "connection-limit",
                f"database {name} of cluster {cluster}",
                found=f"CONNECTION LIMIT {most}",
                expected=f"room for {AT_ONCE} connections of pgdrill's beside the application's",
                hint=(
                    f"ALTER DATABASE {quoted} CONNECTION LIMIT -1; or name the databases that are"
                    " to be checked in server.databases"
                ),
            )

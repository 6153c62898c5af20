"""Examinations of the settings of the role and the databases.

Sessions override some of them, and some would change answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import psycopg
from psycopg import sql

from pgdrill.doctor.examination import examination
from pgdrill.doctor.model import Finding, green, red, warn
from pgdrill.doctor.subject import Subject
from pgdrill.postgres import session

# For this role, for its databases, or both. What is set for all roles in a database comes along in
# a restored copy.
SET_FOR = """
SELECT coalesce(r.rolname, ''), coalesce(d.datname, ''), split_part(e.entry, '=', 1)
FROM pg_db_role_setting s CROSS JOIN LATERAL unnest(s.setconfig) e (entry)
LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase
WHERE (s.setrole = 0 OR r.rolname = current_user) AND (s.setdatabase = 0 OR d.datname = ANY (%s))
ORDER BY 3, 1, 2
"""
PLANNING = re.compile(
    r"enable_|hnsw\.|ivfflat\.|work_mem|jit|plan_|geqo|.*_cost|.*_collapse_limit"
    r"|effective_|max_parallel|default_statistics"
)


@examination(
    "session-settings",
    "settings",
    green="sessions of pgdrill go by its own settings, whatever role and databases set",
    needs=("login",),
    hint=(
        "see what stands between pgdrill and the server (a pooler?): let it pass `options` on, or"
        " connect past it"
    ),
    example="DateStyle: 'SQL, DMY' in a session, wanted 'ISO, MDY'",
)
def session_settings(subject: Subject) -> Iterator[Finding]:
    """Ask a session as every job has it for its settings."""
    with subject.access.connect() as connection:
        wanted = session.settings(connection.info.server_version // 10000, superuser=False)
        found = _current(connection, wanted)
    wrong = {name: value for name, value in found.items() if value != wanted[name]}
    for name, value in wrong.items():
        yield red(name, f"{value!r} in a session", f"{wanted[name]!r}")
    if not wrong:
        yield green("sessions", f"{len(wanted)} settings are pgdrill's own")


@examination(
    "role-settings",
    "settings",
    green="nothing that is set for the role or its databases changes what pgdrill is answered",
    needs=("login",),
    after=("databases",),
    hint="reset it for pgdrill's role",
    example="enable_indexscan of role pgdrill: set for it alone",
)
def role_settings(subject: Subject) -> Iterator[Finding]:
    """Look for settings of the role and its databases, by their names alone.

    A value may be a secret of an application's.
    """
    connection = subject.server
    major = connection.info.server_version // 10000
    overridden = {name.lower() for name in session.settings(major, superuser=False)}
    privileged = {name.lower() for name in session.privileged(major)}
    rows = connection.execute(SET_FOR, ([*subject.wanted, connection.info.dbname],)).fetchall()
    wrong = [
        found
        for role, database, name in rows
        if (found := _judged(connection, role, database, name, privileged))
    ]
    yield from wrong
    if not wrong:
        yield green("ALTER ROLE and ALTER DATABASE … SET", _told(rows, overridden))


def _judged(
    connection: psycopg.Connection, role: str, database: str, name: str, privileged: set[str]
) -> Finding | None:
    where = " in ".join(
        filter(None, (f"role {role}" if role else "", f"database {database}" if database else ""))
    )
    reset = f"as a superuser: `{_reset(connection, role, database, name)}`"
    if name.lower() in privileged:
        # A role that is no superuser cannot set it back.
        judge = red if role else warn
        return judge(
            f"{name} of {where}",
            "set, and a session of pgdrill's cannot override it",
            "not set: it decides whose code runs, or what is read",
            reset,
        )
    if role and PLANNING.match(name):
        return warn(
            f"{name} of {where}",
            "set for pgdrill's role",
            "as the application has it: a drill compares with how production plans",
            reset,
        )
    return None


def _reset(connection: psycopg.Connection, role: str, database: str, name: str) -> str:
    setting = sql.SQL(".").join(map(sql.Identifier, name.split(".")))
    if not role:
        return (
            sql.SQL("ALTER DATABASE {} RESET {}")
            .format(sql.Identifier(database), setting)
            .as_string(connection)
        )
    inside = (
        sql.SQL(" IN DATABASE {}").format(sql.Identifier(database)) if database else sql.SQL("")
    )
    return (
        sql.SQL("ALTER ROLE {}{} RESET {}")
        .format(sql.Identifier(role), inside, setting)
        .as_string(connection)
    )


def _told(rows: list[tuple[str, str, str]], overridden: set[str]) -> str:
    if not rows:
        return "none"
    own = sorted({name for _, _, name in rows if name.lower() in overridden})
    others = sorted({name for _, _, name in rows} - set(own))
    return "; ".join(
        filter(
            None,
            (
                f"overridden in sessions: {', '.join(own)}" if own else "",
                f"left as they are: {', '.join(others)}" if others else "",
            ),
        )
    )


def _current(connection: psycopg.Connection, names: Iterable[str]) -> dict[str, str]:
    """Read settings in one statement.

    Behind a pooler the next statement may be asked in another session.
    """
    rows = connection.execute(
        "SELECT name, current_setting(name) FROM unnest(%s::text[]) wanted (name)", (list(names),)
    ).fetchall()
    return {str(name): str(value) for name, value in rows}

"""The roles that a drill makes in its copy: they ask what a superuser must not.

Planning a query alone runs what users wrote into indexes, CHECKs and statistics. So the role that
asks is no superuser, is a member of nothing that leads to one, and gets nowhere by RESET ROLE;
superusers' tables are read by the same role.

Whoever has a role may end its other sessions (``pg_terminate_backend``), and users' code runs as
the role that asks. So each of the sessions that ask at the same time has a role of its own, and all
of these have the rights of one.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from pgdrill.errors import CouldNotVerify
from pgdrill.postgres import session
from pgdrill.postgres.server import LocalServer

logger = logging.getLogger(__name__)

# Finds what a role may become: a superuser, or a role with a shell, or files, of the host.
POWERS = """
WITH RECURSIVE reached AS (
    SELECT oid FROM pg_roles WHERE rolname = %s
    UNION SELECT m.roleid FROM pg_auth_members m JOIN reached r ON m.member = r.oid
)
SELECT rolname FROM pg_roles JOIN reached USING (oid)
WHERE rolsuper
   OR rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')
   OR rolcreaterole
      AND current_setting('server_version_num')::int < 160000  -- grants itself the others
ORDER BY NOT rolsuper, 1 LIMIT 1
"""
NO_EVENT_TRIGGERS = """
UPDATE pg_event_trigger t SET evtenabled = 'D' FROM pg_event_trigger before
WHERE before.oid = t.oid AND t.evtenabled <> 'D' RETURNING t.oid, before.evtenabled
"""
CLOSED = """
SELECT datname FROM pg_database
WHERE datallowconn AND NOT has_database_privilege(%s, oid, 'CONNECT')
"""
# Finds functions in users' definitions that PUBLIC may not call. Those that act with another's
# rights, or as C code, stay closed.
REVOKED = """
SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.proacl IS NOT NULL AND p.oid >= 16384 AND NOT p.prosecdef
  AND l.lanname NOT IN ('c', 'internal')
  AND NOT has_function_privilege(%s, p.oid, 'EXECUTE')
  AND EXISTS (
    SELECT FROM pg_depend d
    WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid AND d.classid IN (
      'pg_class'::regclass, 'pg_constraint'::regclass, 'pg_attrdef'::regclass,
      'pg_statistic_ext'::regclass, 'pg_policy'::regclass, 'pg_operator'::regclass,
      'pg_cast'::regclass, 'pg_rewrite'::regclass))
"""
SUPERUSERS_TABLES = """
SELECT oid, relowner FROM pg_class
WHERE relkind IN ('r', 'p') AND oid >= 16384
  AND relowner IN (SELECT oid FROM pg_roles WHERE rolsuper)
"""
OWNS = (
    "SELECT FROM pg_shdepend d JOIN pg_roles r ON d.refobjid = r.oid WHERE d.refclassid ="
    " 'pg_authid'::regclass AND d.deptype = 'o' AND r.rolname = %s LIMIT 1"
)
# The roles may run a stranger's code: RAISE LOG would forge the log's words, or fill the disk. The
# roles get their errors themselves.
UNHEARD = "ALTER ROLE {} SET log_min_messages = 'fatal'"
# More than there are sessions at a time: as many checks as cores, and a column's readers.
ASKERS = 16
OWNED_BY = (
    "UPDATE pg_class c SET relowner = o.owner FROM unnest(%s::oid[], %s::oid[]) o (number, owner)"
    " WHERE c.oid = o.number"
)


@dataclass(frozen=True, slots=True)
class Roles:
    """The roles of one drill, by their names."""

    server: LocalServer
    token: str
    _sessions: dict[str, weakref.ref[psycopg.Connection]] = field(
        default_factory=dict, repr=False, compare=False
    )
    _choosing: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def asks(self) -> str:
        """The role whose rights the askers have; it reads everything."""
        return f"pgdrill_asks_{self.token}"

    @property
    def askers(self) -> tuple[str, ...]:
        """The roles that ask the checks: one for each session."""
        return tuple(f"{self.asks}_{number}" for number in range(ASKERS))

    @property
    def application(self) -> str:
        """The role of the application's own test, which writes as well."""
        return f"pgdrill_application_{self.token}"

    @property
    def tenant(self) -> str:
        """The role that searches as an application's role does.

        It may become a tenant's role and else nothing.
        """
        return f"pgdrill_tenant_{self.token}"

    @property
    def names(self) -> tuple[str, ...]:
        """All roles that were made; the application's last."""
        return self.asks, *self.askers, self.tenant, self.application

    def connect(self, database: str) -> psycopg.Connection:
        """Open a connection of a role that asks and has no other session."""
        with self._choosing:
            asker = next(filter(self._is_free, self.askers), self.asks)
            made = self.server.connect(database, user=asker)
            self._sessions[asker] = weakref.ref(made)
        return made

    def _is_free(self, asker: str) -> bool:
        held = self._sessions.get(asker)
        session = held() if held else None
        return session is None or session.closed

    @contextlib.contextmanager
    def tenancy(self, database: str, role: str) -> Iterator[psycopg.Connection]:
        """Yield a connection that may SET ROLE to that role.

        RESET leads to one without any right.
        """
        with self.server.system() as superuser:
            how = "WITH INHERIT FALSE, SET TRUE" if superuser.info.server_version >= 160000 else ""
            names = {
                "role": sql.Identifier(role),
                "tenant": sql.Identifier(self.tenant),
                "how": sql.SQL(how),
            }
            superuser.execute(sql.SQL("GRANT {role} TO {tenant} {how}").format(**names))
            try:
                with self.server.connect(database, user=self.tenant) as connection:
                    yield connection
            finally:
                superuser.execute(sql.SQL("REVOKE {role} FROM {tenant}").format(**names))

    @contextlib.contextmanager
    def standing_in(self, databases: Iterable[str]) -> Iterator[None]:
        """Make superusers' tables the application's role's, inside this block.

        PostgreSQL looks a foreign key up as the owner.
        """
        owners: dict[str, list[tuple[int, int]]] = {}
        try:
            for database in databases:
                with self.server.system(database) as superuser:
                    row = superuser.execute(
                        "SELECT oid FROM pg_roles WHERE rolname = %s", (self.application,)
                    ).fetchone()
                    owners[database] = superuser.execute(SUPERUSERS_TABLES).fetchall()
                    superuser.execute(
                        OWNED_BY,
                        (
                            [oid for oid, _ in owners[database]],
                            [row[0] if row else 0] * len(owners[database]),
                        ),
                    )
            yield
        finally:
            for database, before in owners.items():
                with self.server.system(database) as superuser:
                    superuser.execute(
                        OWNED_BY, ([oid for oid, _ in before], [owner for _, owner in before])
                    )

    def remove(self, databases: Iterable[str]) -> None:
        """Take the roles and what was lent to them away.

        A copy that is kept is then as it came, but for what the application wrote. Nothing that
        they own becomes anybody else's: it may be a stranger's, and a function acts with its
        owner's rights. What the application's test made stays a role's that can do nothing; those
        who ask have nothing to make.
        """
        with self.server.system() as superuser:
            made = superuser.execute(OWNS, (self.application,)).fetchone() is not None
        gone = sql.SQL(", ").join(map(sql.Identifier, self.names[: -1 if made else None]))
        for database in databases:
            with self.server.system(database) as superuser, without_event_triggers(superuser):
                superuser.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(gone))
        with self.server.system() as superuser, superuser.transaction():
            superuser.execute(sql.SQL("DROP ROLE {}").format(gone))
            if made:
                role = sql.Identifier(self.application)
                superuser.execute(
                    sql.SQL("REVOKE pg_read_all_data, pg_write_all_data FROM {}").format(role)
                )
                superuser.execute(sql.SQL("ALTER ROLE {} NOLOGIN NOBYPASSRLS").format(role))
                logger.info(
                    "role %s stays in the copy, without rights: it owns what the application's test"
                    " made",
                    self.application,
                )


def make_roles(server: LocalServer, token_file: Path, databases: Iterable[str]) -> Roles:
    """Make the roles, or find those of an earlier try.

    Their names are nobody's to guess, and are kept in ``token_file``.
    """
    if not token_file.exists():
        token_file.write_text(secrets.token_hex(8))
    roles = Roles(server, token_file.read_text().strip())
    with server.system() as superuser:
        there = superuser.execute(
            "SELECT FROM pg_roles WHERE rolname = %s", (roles.asks,)
        ).fetchone()
        if there is None:
            _create(superuser, roles)
        everyone = sql.SQL(", ").join(map(sql.Identifier, roles.names))
        for (name,) in superuser.execute(CLOSED, (roles.tenant,)).fetchall():
            superuser.execute(
                sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(name), everyone)
            )
        for name in roles.names:
            if power := powers(superuser, name):
                raise CouldNotVerify(
                    "no-harmless-role",
                    f"role {name} made in the copy",
                    found=f"may become {power}",
                    expected="no way to a superuser",
                    hint=(
                        "production granted a superuser to pg_read_all_data or pg_write_all_data:"
                        " REVOKE that"
                    ),
                )
    for database in databases:
        with server.system(database) as superuser, without_event_triggers(superuser):
            for (function,) in superuser.execute(REVOKED, (roles.asks,)).fetchall():
                superuser.execute(
                    sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(
                        sql.SQL(function), sql.Identifier(roles.asks)
                    )
                )
    return roles


@contextlib.contextmanager
def without_event_triggers(superuser: psycopg.Connection) -> Iterator[None]:
    """Open a transaction in which no event trigger fires; they are as before when it ends.

    From PostgreSQL 17 on, a setting does the same.
    """
    with superuser.transaction():
        enabled = (
            superuser.execute(NO_EVENT_TRIGGERS).fetchall()
            if superuser.info.server_version < 170000
            else []
        )
        yield
        for oid, how in enabled:
            superuser.execute(
                "UPDATE pg_event_trigger SET evtenabled = %s WHERE oid = %s", (how, oid)
            )


def powers(connection: psycopg.Connection, role: str) -> str:
    """Return the superuser that a role is or may become, or what else gives it a shell.

    Empty: it is harmless.
    """
    row = connection.execute(POWERS, (role,)).fetchone()
    return str(row[0]) if row else ""


def _create(superuser: psycopg.Connection, roles: Roles) -> None:
    plain = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION"
    askers = sql.SQL(", ").join(map(sql.Identifier, roles.askers))
    names = {
        "asks": sql.Identifier(roles.asks),
        "application": sql.Identifier(roles.application),
        "tenant": sql.Identifier(roles.tenant),
        "askers": askers,
    }
    made = [
        f"CREATE ROLE {{asks}} {plain} BYPASSRLS",
        f"CREATE ROLE {{application}} {plain} BYPASSRLS",
        f"CREATE ROLE {{tenant}} {plain} NOBYPASSRLS NOINHERIT",
        "GRANT pg_read_all_data TO {asks}, {application}",
        "GRANT pg_write_all_data TO {application}",
        "GRANT {asks} TO {askers}",
    ]
    # The roles' startup packets cannot hold what only a superuser may set. A role's own settings
    # outrank its database's.
    settings = session.privileged(superuser.info.server_version // 10000)
    with superuser.transaction():
        for asker in roles.askers:
            superuser.execute(
                sql.SQL("CREATE ROLE {} " + plain + " BYPASSRLS").format(sql.Identifier(asker))
            )
        for statement in made:
            superuser.execute(sql.SQL(statement).format(**names))
        for role in map(sql.Identifier, roles.names):
            superuser.execute(sql.SQL(UNHEARD).format(role))
            for name in settings:
                # The value is taken from this session: spelled out, an empty list of libraries
                # would become one of an empty name.
                superuser.execute(
                    sql.SQL("ALTER ROLE {} SET {} FROM CURRENT").format(role, sql.Identifier(name))
                )

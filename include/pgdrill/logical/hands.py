"""The roles in the throw-away cluster of a dump: who does what.

Nobody's function runs with a superuser's rights.

Restoring evaluates what owners wrote: CHECKs and domains while rows come, constants in keys of
partitions and generated columns while tables are made, expressions while indexes are built (as the
table's owner), joins while foreign keys are checked. So tables are made, loaded and indexed by
``maker``, a member of every role that came with the dump; and while it works none of those is a
superuser, nor may run programs or read files of the host, whatever they were on production. The
cluster's own ``superuser`` has a name of its own and does the rest, which evaluates nothing: see
:mod:`pgdrill.logical.making`.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from pgdrill.postgres import session
from pgdrill.postgres.server import LocalServer

# What leads out of a database: attributes, memberships and parameters that make a role a superuser,
# or give it a shell.
POWERFUL = (
    "SELECT rolname, rolsuper, rolcreaterole FROM pg_roles WHERE (rolsuper OR rolcreaterole) AND"
    " oid >= 16384"
)
LEADING_OUT = """
SELECT DISTINCT r.rolname, m.rolname, g.rolname FROM pg_auth_members a
JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
JOIN pg_roles g ON g.oid = a.grantor
WHERE (r.oid < 16384 AND r.rolname NOT IN (
         'pg_read_all_data', 'pg_write_all_data', 'pg_monitor', 'pg_read_all_settings',
         'pg_read_all_stats', 'pg_stat_scan_tables', 'pg_database_owner')
       OR r.rolsuper) AND m.oid >= 16384
"""
PARAMETERS = """
SELECT DISTINCT p.parname, r.rolname
FROM pg_parameter_acl p, aclexplode(p.paracl) a JOIN pg_roles r ON r.oid = a.grantee
WHERE r.oid >= 16384
"""
DUMPED = "SELECT rolname FROM pg_roles WHERE oid >= 16384 AND right(rolname, %s) <> %s"


Powers = dict[str, tuple[bool, bool]]
"""Roles that had some: whether they were superusers, and could make roles."""


@dataclass(frozen=True, slots=True)
class Hands:
    """The roles that a restore works with.

    Their names are nobody's to guess; the token is kept beside the server's log.
    """

    server: LocalServer
    token: str

    @classmethod
    def of(cls, server: LocalServer) -> Hands:
        """Return the roles of an earlier call, or new ones. The server need not run."""
        file = server.log_file.with_name("roles")
        if not file.exists():
            file.write_text(secrets.token_hex(8))
        token = file.read_text().strip()
        return cls(replace(server, superuser=f"pgdrill_super_{token}"), token)

    @property
    def superuser(self) -> str:
        """The cluster's own superuser, whom initdb makes."""
        return self.server.superuser

    @property
    def maker(self) -> str:
        """The role that makes tables, loads rows and builds indexes."""
        return f"pgdrill_makes_{self.token}"

    @property
    def former(self) -> str:
        """The role that a superuser of the dump is a member of while it is none.

        It may do to tables and functions what others may.
        """
        return f"pgdrill_former_{self.token}"

    def make(self, database: str) -> psycopg.Connection:
        """Open a connection of the maker."""
        return self.server.connect(database, user=self.maker)

    def settings(self, user: str) -> str:
        """Return ``PGOPTIONS`` of programs.

        What databases and roles set for themselves does not count.
        """
        major = int((self.server.data_directory / "PG_VERSION").read_text().partition(".")[0])
        return session.options(
            session.settings(
                major, superuser=user == self.superuser, search_path=session.PUBLIC_PATH
            )
        )

    def begin(self) -> Powers:
        """Take from every dumped role what leads out of its database; return what was taken.

        The maker becomes a member of all of them.
        """
        with self.server.system() as superuser, superuser.transaction():
            if (
                superuser.execute(
                    "SELECT FROM pg_roles WHERE rolname = %s", (self.maker,)
                ).fetchone()
                is None
            ):
                self._create(superuser)
            superuser.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(self.former)))
            for role in (self.maker, self.former):
                _grant(superuser, "pg_read_all_data", role)
                _grant(superuser, "pg_write_all_data", role)
            taken = self._tame(superuser)
            before = [name for name, (is_super, _) in taken.items() if is_super]
            for role in self._dumped(superuser):
                _grant(superuser, role, self.maker)
                if role not in before:
                    _grant(superuser, role, self.former)
            for role in before:
                _grant(superuser, self.former, role)
        return taken

    def end(self, taken: Powers | None = None) -> None:
        """Take the maker out of every role; then give superusers of ``taken`` their powers back."""
        with self.server.system() as superuser, superuser.transaction():
            superuser.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(self.former)))
            for role in (*self._dumped(superuser), "pg_read_all_data", "pg_write_all_data"):
                superuser.execute(
                    sql.SQL("REVOKE {} FROM {}").format(
                        sql.Identifier(role), sql.Identifier(self.maker)
                    )
                )
            for role, (is_super, makes_roles) in (taken or {}).items():
                words = (
                    f"{'SUPERUSER' if is_super else 'NOSUPERUSER'}"
                    f" {'CREATEROLE' if makes_roles else 'NOCREATEROLE'}"
                )
                superuser.execute(
                    sql.SQL("ALTER ROLE {} {}").format(sql.Identifier(role), sql.SQL(words))
                )

    def _dumped(self, superuser: psycopg.Connection) -> list[str]:
        """Return every role but those that a drill makes, whose names end in its token."""
        return [
            row[0] for row in superuser.execute(DUMPED, (len(self.token), self.token)).fetchall()
        ]

    def _create(self, superuser: psycopg.Connection) -> None:
        maker = sql.Identifier(self.maker)
        superuser.execute(
            sql.SQL(
                "CREATE ROLE {} LOGIN NOSUPERUSER CREATEDB NOCREATEROLE BYPASSRLS INHERIT"
            ).format(maker)
        )
        for name in session.privileged(superuser.info.server_version // 10000):
            superuser.execute(
                sql.SQL("ALTER ROLE {} SET {} FROM CURRENT").format(maker, sql.Identifier(name))
            )

    def _tame(self, superuser: psycopg.Connection) -> Powers:
        taken: Powers = {}
        for role, member, grantor in superuser.execute(LEADING_OUT).fetchall():
            superuser.execute(
                sql.SQL("REVOKE {} FROM {} GRANTED BY {} CASCADE").format(
                    *map(sql.Identifier, (role, member, grantor))
                )
            )
            taken[member] = (False, False)
        for role, is_super, makes_roles in superuser.execute(POWERFUL).fetchall():
            superuser.execute(
                sql.SQL("ALTER ROLE {} NOSUPERUSER NOCREATEROLE").format(sql.Identifier(role))
            )
            taken[role] = (is_super, makes_roles)
        if superuser.info.server_version >= 150000:
            for parameter, role in superuser.execute(PARAMETERS).fetchall():
                superuser.execute(
                    sql.SQL("REVOKE ALL ON PARAMETER {} FROM {} CASCADE").format(
                        *map(sql.Identifier, (parameter, role))
                    )
                )
                taken.setdefault(role, (False, False))
        return taken


def _grant(superuser: psycopg.Connection, role: str, to: str) -> None:
    superuser.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(to)))

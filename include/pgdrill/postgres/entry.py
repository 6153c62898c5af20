"""The way into a restored server: the superuser and the database to connect as and to.

Production may not even know a ``postgres``. Where no superuser may log in at all, PostgreSQL's
single-user mode asks for none: there a role of the drill's own is made.
"""

from __future__ import annotations

import json
import re
import secrets
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psycopg

from pgdrill.errors import BackupFault
from pgdrill.postgres.server import LocalServer

DATABASES = ("postgres", "template1")
OWN = "pgdrill_super_"
SECONDS = 60.0
# A value as single-user mode prints it. Names are in hexadecimal, for they may hold anything.
PRINTED = re.compile(r'= "(super|base):([0-9a-f]*)"')
WHO = (
    (
        "SELECT 'super:' || encode(convert_to(rolname, 'UTF8'), 'hex') FROM pg_roles WHERE rolsuper"
        " AND rolcanlogin ORDER BY oid LIMIT 1;"
    ),
    (
        "SELECT 'base:' || encode(convert_to(datname, 'UTF8'), 'hex') FROM pg_database WHERE"
        " datallowconn AND datconnlimit <> -2 ORDER BY datname <> 'postgres', datname <>"
        " 'template1', oid LIMIT 1;"
    ),
)
# The words that refuse a connection which named something that is not there, or may not come in.
# Damage has other words.
REFUSED = re.compile(
    r'(role|database) ".*" does not exist|not permitted to log in|not (currently|yet)'
    r" accepting|permission denied to set",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """The superuser and the database."""

    superuser: str
    database: str
    made: bool = False  # the role is the drill's own
    restarted: bool = False  # the server was: what replay knew is gone

    @classmethod
    def read(cls, file: Path) -> Entry | None:
        """Read what an earlier stage found; None before."""
        return cls(**json.loads(file.read_text())) if file.exists() else None

    def write(self, file: Path) -> None:
        """Keep the entry for later stages."""
        file.write_text(json.dumps(asdict(self)))


def find_entry(server: LocalServer, superusers: Iterable[str], databases: Iterable[str]) -> Entry:
    """Return the first of these superusers that is let in, by the first database that there is.

    If none is, return what single-user mode finds.
    """
    names = dict.fromkeys((*superusers, server.superuser))
    for database in DATABASES:
        for name in names:
            if _enters(replace(server, superuser=name), database):
                return Entry(name, database)
    return _alone(server, dict.fromkeys((*DATABASES, *databases)))


def _enters(server: LocalServer, database: str) -> bool:
    try:
        with server.system(database) as connection:
            row = connection.execute(
                "SELECT rolsuper FROM pg_roles WHERE rolname = session_user"
            ).fetchone()
            return bool(row and row[0])
    except psycopg.OperationalError as error:
        if REFUSED.search(str(error)):
            return False
        raise


def _alone(server: LocalServer, databases: Iterable[str]) -> Entry:
    server.stop()
    said = ""
    for database in databases:
        said = _single_user(server, database, *WHO)
        if found := dict(PRINTED.findall(said)):
            name = bytes.fromhex(found.get("super", "")).decode()
            made = not name
            if made:
                name = f"{OWN}{secrets.token_hex(8)}"
                _single_user(server, database, f"CREATE ROLE {name} SUPERUSER LOGIN;")
            server.start()
            return Entry(name, bytes.fromhex(found["base"]).decode(), made, restarted=True)
    raise BackupFault(
        "server-broken",
        f"restored server in {server.data_directory}",
        found=f"no way in: {said.strip()[-300:]}",
        expected="a database that can be connected to",
        hint="the backup holds damaged catalogs: drill with an older one",
    )


def _single_user(server: LocalServer, database: str, *statements: str) -> str:
    """Run statements in single-user mode and return what they print, one a line."""
    words = server.words("--single", last=database)
    done = subprocess.run(
        words,
        input="\n".join(statements) + "\n",
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS,
        check=False,
        env=server.full_environment,
        cwd="/",
    )
    return done.stdout + done.stderr

"""The access of a job to a cluster: its configuration plus the secrets that open it.

Secrets travel as environment variables (tools) and libpq keywords (connections), never as
arguments.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgdrill.config import Cluster
from pgdrill.errors import CouldNotVerify, Gone, Refused, StandbyUnreachable, Unreachable
from pgdrill.host.process import Runner
from pgdrill.postgres import session
from pgdrill.postgres.answered import answered_within
from pgdrill.postgres.binaries import Binaries
from pgdrill.postgres.client_files import from_the_environment, passed_over
from pgdrill.postgres.presence import PASSING, listens, tried
from pgdrill.postgres.refused import hint_of
from pgdrill.postgres.server_words import words_of
from pgdrill.repository.object_store import Storage
from pgdrill.repository.repository import Repository
from pgdrill.repository.tools import BackupTool, make_tool
from pgdrill.repository.wal_files import WalReader

CONNECT_SECONDS = 10
BRIEF_SECONDS = 10
GRACE_SECONDS = 5  # for the server's own word that it is late
NO_DATABASE = re.compile(r'database ".*" does not exist')
# The words of a server about one database or role, while others may be let in: whose error, reason,
# what was expected, and the hint.
REFUSALS: tuple[tuple[re.Pattern[str], type[CouldNotVerify], str, str, str], ...] = (
    (
        re.compile(r'permission denied for (?P<kind>database) "(?P<name>[^"]*)"'),
        Refused,
        "no-connect-right",
        "the right to connect to it",
        (
            'GRANT CONNECT ON DATABASE "{name}" TO {user}; or name the databases that are to be'
            " checked in server.databases"
        ),
    ),
    (
        re.compile(r'too many connections for (?P<kind>database|role) "(?P<name>[^"]*)"'),
        Unreachable,
        "connection-limit",
        "room for another connection",
        (
            'raise the limit (ALTER {kind} "{name}" CONNECTION LIMIT -1: without one), or try again'
            " when others have ended"
        ),
    ),
    (
        re.compile(
            r'(?P<kind>database) "(?P<name>[^"]*)" is not (currently )?accepting connections'
        ),
        Refused,
        "no-connections-allowed",
        "a database that allows connections",
        "name the databases that are to be checked in server.databases",
    ),
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Secrets and addresses from outside the config: Airflow Connections, or the environment alone.

    ``postgres`` holds libpq keywords, ``standby`` those in which the standby differs, ``dump``
    those for the server that logical dumps are taken from (empty: the same), ``environment``
    variables for tools and storage, ``airflow`` address and login of Airflow's API (``url``,
    ``user``, ``password``). Never shown.
    """

    postgres: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    standby: Mapping[str, str] = field(default_factory=dict, repr=False)
    dump: Mapping[str, str] = field(default_factory=dict, repr=False)
    airflow: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Access:
    """A cluster with its credentials; makes connections, storage and tool from them."""

    cluster: Cluster
    credentials: Credentials = field(default_factory=Credentials, repr=False)

    @cached_property
    def binaries(self) -> Binaries:
        """PostgreSQL's programs."""
        return Binaries(self.cluster.server.bin_dir)

    @cached_property
    def environment(self) -> dict[str, str]:
        """AWS variables for tools and storage: the connection's before the process's own."""
        return {
            **{k: v for k, v in os.environ.items() if k.startswith("AWS_")},
            **self.credentials.environment,
        }

    @property
    def airflow_login(self) -> dict[str, str]:
        """Address, user and password of Airflow's API: the connection's before dr.toml's and the
        environment's own; empty where nothing says them.
        """
        said = self.cluster.airflow
        own = {
            "url": said.url,
            "user": said.user,
            "password": os.environ.get(said.password_variable, ""),
        }
        return {**own, **self.credentials.airflow}

    @cached_property
    def objects(self) -> Storage:
        """The backup repository's objects, read without the tool."""
        where = self.cluster.repository
        return Storage.open(
            where.url, self.environment, endpoint_url=where.endpoint_url, region=where.region
        )

    @cached_property
    def reports(self) -> Storage:
        """The report store."""
        where = self.cluster.repository
        url = self.cluster.reports_url or f"{where.url}/pgdrill"
        return Storage.open(
            url, self.environment, endpoint_url=where.endpoint_url, region=where.region
        )

    @cached_property
    def dumps(self) -> Storage:
        """The store where logical dumps are kept."""
        where = self.cluster.repository
        url = self.cluster.dump.url or f"{where.url}/dumps"
        return Storage.open(
            url, self.environment, endpoint_url=where.endpoint_url, region=where.region
        )

    @cached_property
    def dumped(self) -> Access:
        """The access to the server that logical dumps are taken from.

        It may be a standby or be entered with another role.
        """
        server, dump = self.cluster.server, self.cluster.dump
        if not (dump.dsn or self.credentials.dump):
            return self
        server = server.model_copy(update={"dsn": dump.dsn or server.dsn})
        words = self.credentials.dump or ({} if dump.dsn else self.credentials.postgres)
        return replace(
            self,
            cluster=self.cluster.model_copy(update={"server": server}),
            credentials=replace(self.credentials, postgres=words),
        )

    @cached_property
    def tool(self) -> BackupTool:
        """The backup tool."""
        return make_tool(self.cluster, self.environment)

    @property
    def repository(self) -> Repository:
        """The backup repository, read with the tool."""
        return Repository(self.cluster, self.objects, self.tool)

    def wal_reader(self, runner: Runner, folder: Path) -> WalReader:
        """A reader of archived WAL, which fetches its files into ``folder``."""
        return WalReader(self.repository, self.binaries, runner, folder)

    @property
    def has_standby(self) -> bool:
        """True if a standby is configured to read baselines on."""
        return bool(self.cluster.server.standby_dsn or self.credentials.standby)

    def conninfo(self, database: str | None = None, *, standby: bool = False) -> dict[str, str]:
        """Return libpq keywords for production or its standby.

        The password is among them where one was given.
        """
        words = _keywords(self.cluster.server.dsn) | {
            k: v for k, v in self.credentials.postgres.items() if v
        }
        if standby:
            words.pop("hostaddr", None)
            words |= _keywords(self.cluster.server.standby_dsn) | {
                k: v for k, v in self.credentials.standby.items() if v
            }
        if database:
            words["dbname"] = database
        elif not words.get("dbname") and not in_service(words):
            words["dbname"] = (*self.cluster.server.databases, "postgres")[0]
        return {"application_name": "pgdrill", "connect_timeout": str(CONNECT_SECONDS), **words}

    def connect(
        self,
        database: str | None = None,
        *,
        autocommit: bool = True,
        standby: bool = False,
        search_path: str = session.SYSTEM_PATH,
    ) -> psycopg.Connection:
        """Open a connection to production or its standby.

        The error names host and user, never the password.
        """
        words = self.conninfo(database, standby=standby)
        try:
            return session.connect(words, autocommit=autocommit, search_path=search_path)
        except psycopg.OperationalError as error:
            if not database and (other := self._other_database(words, str(error))):
                return self.connect(
                    other, autocommit=autocommit, standby=standby, search_path=search_path
                )
            shown = " ".join(
                f"{key}={words[key]}" for key in ("host", "port", "user", "dbname") if key in words
            )
            if standby:
                raise StandbyUnreachable(
                    "standby-unreachable",
                    f"standby of cluster {self.cluster.name}, {shown}",
                    found=str(error).strip(),
                    expected="a connection",
                    hint="check that it runs, or empty server.standby_dsn to read on production",
                ) from None
            where = f"server of cluster {self.cluster.name}, {shown}"
            connection = self.cluster.server.conn_id
            raise _not_connected(where, words, str(error).strip(), connection) from None

    @contextlib.contextmanager
    def briefly(self, database: str | None = None) -> Iterator[psycopg.Connection]:
        """Yield a connection to production for a few short statements.

        Neither a lock nor a server that never answers is waited for without end: the server
        cancels a statement after ``BRIEF_SECONDS``, and a little later this side hangs up.
        """
        with self.connect(database) as connection:
            try:
                with answered_within(connection, BRIEF_SECONDS + GRACE_SECONDS):
                    connection.execute(f"SET statement_timeout = '{BRIEF_SECONDS}s'")
                    yield connection
            except psycopg.OperationalError as error:
                raise Unreachable(
                    "server-unreachable",
                    f"server of cluster {self.cluster.name}, database {connection.info.dbname}",
                    found=words_of(error),
                    expected=f"answers within {BRIEF_SECONDS} s",
                    hint=(
                        "see what its sessions wait for (pg_stat_activity, pg_locks), and whether a"
                        " pooler or proxy between lets answers through; try again"
                    ),
                ) from None

    def _other_database(self, words: Mapping[str, str], said: str) -> str:
        """Return another database to try, or an empty string.

        It is for questions of the whole cluster, where nobody named a database and what was tried
        instead does not exist.
        """
        if not NO_DATABASE.search(said):
            return ""
        if "dbname" not in words:  # the service names none either: libpq took the role's name
            return (*self.cluster.server.databases, "postgres")[0]
        return "template1" if words["dbname"] == "postgres" else ""

    def bare(self) -> psycopg.Connection:
        """Open a connection to production that goes by the server's settings.

        Of ours it has none but the safe ones. It is for a question of the catalogs.
        """
        return session.opened(
            make_conninfo(
                "",
                **{**self.conninfo(), **session.ENCODING, "options": session.options(session.SAFE)},
            )
        )


def in_service(words: Mapping[str, str]) -> str:
    """Return the service of libpq's that says the rest, or an empty string."""
    return words.get("service") or os.environ.get("PGSERVICE", "")


def _not_connected(
    where: str, words: Mapping[str, str], found: str, connection: str
) -> CouldNotVerify:
    """Return the error for a server that is gone, does not answer just now, or refuses.

    A drill may go on without one that is gone, and only then.
    """
    if trouble := passed_over(found, words):
        what, hint = trouble
        return Refused(
            "login-refused",
            where,
            found=f"{found}: {what}",
            expected="a file that libpq goes by",
            hint=hint,
        )
    if not listens(words) and tried(words):
        return Gone(
            "server-unreachable",
            where,
            found=found,
            expected="a connection",
            hint=(
                "check that it runs, and server.dsn (or its Airflow connection)"
                f"{from_the_environment(words)}"
            ),
        )
    for pattern, refuses, reason, expected, hint in REFUSALS:
        if said := pattern.search(found):
            thing = f"{said['kind']} {said['name']}, {where}"
            user = (
                f'"{name}"'
                if (name := words.get("user") or os.environ.get("PGUSER"))
                else "pgdrill's role"
            )
            return refuses(
                reason,
                thing,
                found=found,
                expected=expected,
                hint=hint.format(**said.groupdict(), user=user),
            )
    if PASSING.search(found):
        return Unreachable(
            "server-unreachable",
            where,
            found=found,
            expected="a connection",
            hint="try again; check that it runs and has connections to spare",
        )
    return Refused(
        "login-refused",
        where,
        found=found,
        expected="a login",
        hint=hint_of(found, words, connection),
    )


def _keywords(dsn: str) -> dict[str, str]:
    return {key: str(value) for key, value in conninfo_to_dict(dsn).items() if value is not None}

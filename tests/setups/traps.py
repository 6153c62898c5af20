"""What a newcomer leaves half done: each is said beforehand, with the way out."""

from __future__ import annotations

from tests.setups.host import Host
from tests.setups.setup import Answer, Setup
from tests.setups.signing import _pgpass, _with_certificate, dsn

FAMILY = "a newcomer's traps"
TLS = "host={address} dbname=agents user=pgdrill"


def _open_pgpass(made: Host) -> None:
    _pgpass(made)
    (made.user_home / ".pgpass").chmod(0o644)


def _open_key(made: Host) -> None:
    _with_certificate(made)
    (made.user_home / ".postgresql" / "postgresql.key").chmod(0o644)


def _tls_alone(made: Host) -> None:
    _with_certificate(made)
    file = made.home / "primary" / "pg_hba.conf"
    file.write_text(
        "".join(
            line
            for line in file.read_text().splitlines(keepends=True)
            if not line.startswith("host ")
        )
    )


def _without_replication(made: Host) -> None:
    file = made.home / "primary" / "pg_hba.conf"
    file.write_text(
        "".join(
            line for line in file.read_text().splitlines(keepends=True) if "replication" not in line
        )
    )


SETUPS = (
    Setup(
        FAMILY,
        "~/.pgpass that others may read",
        before=_open_pgpass,
        environment={"PGPASSWORD": None},
        red=("login",),
        answer=Answer("backup", "login-refused", ".pgpass has mode 0644", "chmod 0600"),
    ),
    Setup(
        FAMILY,
        "PGPASSFILE that is not there",
        environment={"PGPASSWORD": None, "PGPASSFILE": "{home}/nowhere"},
        red=("login",),
        answer=Answer("backup", "login-refused", "no password supplied", "/nowhere"),
    ),
    Setup(
        FAMILY,
        "a client's key that others may read",
        postgres="15",
        before=_open_key,
        environment={"PGPASSWORD": None},
        config=dsn(f"{TLS} sslmode=require"),
        red=("login",),
        answer=Answer("backup", "login-refused", "postgresql.key has mode 0644", "chmod 0600"),
    ),
    Setup(
        FAMILY,
        "a service that no file has",
        mistakes=dsn("service=prod"),
        red=("login",),
        answer=Answer("backup", "login-refused", "none of that name", "[prod]"),
    ),
    Setup(
        FAMILY,
        "PGSERVICEFILE that is not there",
        mistakes=dsn("service=prod"),
        environment={"PGSERVICEFILE": "{home}/nowhere"},
        red=("login",),
        answer=Answer("backup", "login-refused", "nowhere", "[prod]"),
    ),
    Setup(
        FAMILY,
        "sslmode=disable where pg_hba.conf has hostssl lines alone",
        postgres="15",
        before=_tls_alone,
        config=dsn(f"{TLS} sslmode=disable"),
        red=("login",),
        answer=Answer("backup", "login-refused", "no encryption", "sslmode=require"),
    ),
    Setup(
        FAMILY,
        "a DSN over TCP where the server listens on sockets alone",
        config=dsn("host={address} port=5432 dbname=agents"),
        red=("login",),
        answer=Answer("backup", "server-unreachable", "Connection refused", "server.dsn"),
    ),
    Setup(
        FAMILY,
        "wal_level minimal",
        options={"wal_level": "minimal", "archive_mode": "off", "max_wal_senders": "0"},
        red=("archive-mode",),
        answer=Answer("backup", "archiving-off", "archive_mode=off", "wal_level = replica"),
    ),
    Setup(FAMILY, "max_wal_senders 0", options={"max_wal_senders": "0"}),
    Setup(
        FAMILY,
        "pg_hba.conf without lines for replication",
        "barman-cloud",
        before=_without_replication,
    ),
)

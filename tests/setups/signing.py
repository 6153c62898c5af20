"""Ways to the server: connection strings, and how one signs in."""

from __future__ import annotations

from collections.abc import Callable

from psycopg import sql

from tests.integration.jobs.test_certificates import _with_tls as with_tls
from tests.setups.host import Host
from tests.setups.setup import Answer, Setup

FAMILY = "address and sign-in"
ODD_DATABASE = "o'brien \\ 50% a=b"
ODD_PASSWORD = "'\\\" %25 #?&=:/@ ü"
FUNCTIONS = (
    "pg_backup_start(text, boolean), pg_backup_stop(boolean), pg_switch_wal(),"
    " pg_create_restore_point(text)"
)


def dsn(words: str, **more: object) -> dict[str, dict[str, object]]:
    return {"server": {"dsn": words, **more}}


def _rule(words: str) -> Callable[[Host], None]:
    """Before all others of pg_hba.conf."""

    def put(made: Host) -> None:
        file = made.home / "primary" / "pg_hba.conf"
        file.write_text(f"{words}\n{file.read_text()}")

    return put


def _over_tcp(made: Host) -> None:
    _rule("host all pgdrill 127.0.0.0/8 scram-sha-256")(made)
    made.primary.options["listen_addresses"] = made.address  # type: ignore[index]


def _with_certificate(made: Host) -> None:
    with_tls(made)
    made.primary.options["listen_addresses"] = made.address  # type: ignore[index]
    (made.user_home / ".postgresql").mkdir()
    for name in ("postgresql.crt", "postgresql.key", "root.crt"):
        (made.user_home / ".postgresql" / name).write_bytes((made.home / "tls" / name).read_bytes())
        (made.user_home / ".postgresql" / name).chmod(0o600)


def _service(made: Host) -> None:
    (made.user_home / ".pg_service.conf").write_text(
        f"[prod]\nhost={made.home}\nport=5432\nuser=pgdrill\ndbname=agents\n"
    )
    _pgpass(made)


def _pgpass(made: Host) -> None:
    file = made.user_home / ".pgpass"
    file.touch(mode=0o600)
    file.write_text(f"*:*:*:pgdrill:{made.passwords['pgdrill']}\n")


def _odd_database(made: Host) -> None:
    with made.connect("postgres") as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(ODD_DATABASE)))
    made.superuser(f"GRANT EXECUTE ON FUNCTION {FUNCTIONS} TO pgdrill", database=ODD_DATABASE)


def _odd_password(made: Host) -> None:
    with made.connect() as connection:
        connection.execute(
            sql.SQL("ALTER ROLE pgdrill PASSWORD {}").format(sql.Literal(ODD_PASSWORD))
        )


QUOTED = ODD_DATABASE.replace("\\", "\\\\").replace("'", "\\'")
SOCKET = "host={home} port=5432 dbname=agents"
SETUPS = (
    Setup(
        FAMILY,
        "a DSN as a URL",
        config=dsn("postgresql://pgdrill@/agents?host={home}&port=5432&application_name=it%27s"),
        tool="barman-cloud",
    ),
    Setup(
        FAMILY,
        "a DSN with an escaped apostrophe in an odd database's name",
        after=_odd_database,
        config=dsn(f"host={{home}} dbname='{QUOTED}'"),
    ),
    Setup(FAMILY, "an odd password", after=_odd_password, environment={"PGPASSWORD": ODD_PASSWORD}),
    Setup(
        FAMILY,
        "an odd password",
        "barman-cloud",
        after=_odd_password,
        environment={"PGPASSWORD": ODD_PASSWORD},
    ),
    Setup(
        FAMILY,
        "several hosts, of which the first is down",
        config=dsn(
            "host={home}/gone,{home} port=5432,5432 dbname=agents target_session_attrs=read-write"
        ),
    ),
    Setup(
        FAMILY,
        "a standby first of several hosts, target_session_attrs=read-write",
        after=Host.start_standby,
        config=dsn("host={home}/sb,{home} port=5432 dbname=agents target_session_attrs=read-write"),
    ),
    Setup(
        FAMILY,
        "a standby alone",
        after=Host.start_standby,
        mistakes=dsn("host={home}/sb port=5432 dbname=agents"),
        red=("primary", "same-files"),
        answer=Answer("backup", "standby", "a standby", "primary"),
    ),
    Setup(
        FAMILY,
        "service= and ~/.pgpass",
        before=_service,
        config=dsn("service=prod"),
        environment={"PGPASSWORD": None, "PGUSER": None},
    ),
    Setup(FAMILY, "~/.pgpass", "barman-cloud", before=_pgpass, environment={"PGPASSWORD": None}),
    Setup(
        FAMILY,
        "PGPASSFILE somewhere else",
        before=_pgpass,
        environment={"PGPASSWORD": None, "HOME": "{home}", "PGPASSFILE": "{home}/user/.pgpass"},
    ),
    Setup(
        FAMILY,
        "scram-sha-256 over TCP",
        before=_over_tcp,
        config=dsn("host={address} port=5432 dbname=agents user=pgdrill"),
    ),
    Setup(
        FAMILY,
        "scram-sha-256 over TCP",
        "barman-cloud",
        before=_over_tcp,
        config=dsn("host={address} port=5432 dbname=agents user=pgdrill"),
    ),
    Setup(
        FAMILY,
        "trust over the socket",
        before=_rule("local all pgdrill trust"),
        environment={"PGPASSWORD": None},
    ),
    Setup(
        FAMILY,
        "a client certificate in ~/.postgresql",
        postgres="15",
        before=_with_certificate,
        environment={"PGPASSWORD": None},
        config=dsn("host={address} dbname=agents user=pgdrill sslmode=require"),
    ),
    Setup(
        FAMILY,
        "a client certificate in ~/.postgresql",
        "barman-cloud",
        postgres="15",
        before=_with_certificate,
        environment={"PGPASSWORD": None},
        config=dsn("host={address} dbname=agents user=pgdrill sslmode=require"),
    ),
    Setup(
        FAMILY,
        "peer, as another user of the operating system",
        before=_rule("local all pgdrill peer"),
        red=("login",),
        answer=Answer(
            "backup", "login-refused", "eer authentication failed", "host=localhost user=pgdrill"
        ),
    ),
    Setup(
        FAMILY,
        "no line of pg_hba.conf for the role",
        before=_rule("local all pgdrill reject"),
        red=("login",),
        answer=Answer("backup", "login-refused", "pg_hba.conf", "reject"),
    ),
    Setup(
        FAMILY,
        "a wrong password",
        environment={"PGPASSWORD": "wrong"},
        red=("login",),
        answer=Answer("backup", "login-refused", "password authentication failed", "PGPASSWORD"),
    ),
    Setup(
        FAMILY,
        "no password",
        environment={"PGPASSWORD": None},
        red=("login",),
        answer=Answer("backup", "login-refused", "no password supplied", "~/.pgpass"),
    ),
    Setup(
        FAMILY,
        "nobody listens",
        config=dsn("host={home}/gone dbname=agents"),
        red=("login",),
        answer=Answer("backup", "server-unreachable", "gone", "server.dsn"),
    ),
    Setup(
        FAMILY,
        "a role that does not exist",
        environment={"PGUSER": "nobody"},
        before=_rule("local all nobody trust"),
        red=("login",),
        answer=Answer("backup", "login-refused", 'role "nobody" does not exist', "create it"),
    ),
    Setup(
        FAMILY,
        "a database that does not exist",
        config=dsn("host={home} dbname=agnets"),
        red=("login",),
        answer=Answer("backup", "login-refused", 'database "agnets" does not exist', "dbname"),
    ),
    Setup(
        FAMILY,
        "sslmode=require to a server without TLS",
        before=_over_tcp,
        config=dsn("host={address} dbname=agents sslmode=require"),
        red=("login",),
        answer=Answer("backup", "login-refused", "does not support SSL", "sslmode"),
    ),
    Setup(
        FAMILY,
        "a password in the DSN",
        mistakes=dsn("host={home} dbname=agents password=secret"),
        red=("config-invalid",),
        answer=Answer("backup", "config-invalid", "holds a password", "config check"),
    ),
)

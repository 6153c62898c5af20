"""Examinations of the protected server.

Does it let in, is it the one that is meant, and are all of its databases to be had?
"""

from __future__ import annotations

from collections.abc import Iterator

from pgdrill.baseline.beside import check_directory, check_files, check_primary
from pgdrill.baseline.server_facts import DATABASES, extension_versions
from pgdrill.doctor.examination import examination
from pgdrill.doctor.model import Finding, green, not_asked, red
from pgdrill.doctor.subject import DatabaseFacts, Subject, hurry
from pgdrill.errors import ConfigError, PgdrillError
from pgdrill.postgres.admitted import AT_ONCE, at_once
from pgdrill.repository.archiver import check_server
from pgdrill.vectors.labels import read_comments

PART = "server"
DATABASE_LIMITS = """
SELECT d.datname, d.datconnlimit, coalesce(s.numbackends, 0)
FROM pg_database d LEFT JOIN pg_stat_database s ON s.datid = d.oid
WHERE d.datconnlimit >= 0 AND d.datallowconn ORDER BY 1
"""
LIMITS = """
SELECT current_setting('max_connections')::int
         - current_setting('superuser_reserved_connections')::int
         - coalesce(current_setting('reserved_connections', true), '0')::int,
       (SELECT sum(numbackends) FROM pg_stat_database)::int, r.rolconnlimit,
       (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user)::int, r.rolsuper
FROM pg_roles r WHERE r.rolname = current_user
"""


@examination(
    "login",
    PART,
    green="the server at server.dsn lets in",
    hint="correct server.dsn, or the password (PGPASSWORD, ~/.pgpass, the Connection)",
    example='server of cluster agents: password authentication failed for user "pgdrill"',
)
def login(subject: Subject) -> Iterator[Finding]:
    """Log in. The connection serves all other questions."""
    connection = subject.access.connect()
    hurry(connection)
    subject.connection = connection
    info = connection.info
    tls = "with TLS" if connection.pgconn.ssl_in_use else "without TLS"
    yield green(
        f"{info.host}:{info.port}",
        f"PostgreSQL {info.parameter_status('server_version')}, as {info.user} in {info.dbname},"
        f" {tls}",
    )


@examination(
    "standby-login",
    PART,
    green="the standby at server.standby_dsn lets in, and is one",
    needs=("login",),
    jobs=("backup", "drill"),
    hint="check that it runs, or empty server.standby_dsn to read on production",
    example="standby of cluster agents: connection refused",
)
def standby_login(subject: Subject) -> Iterator[Finding]:
    """Log in to the standby, only where one is configured."""
    if not subject.access.has_standby:
        yield not_asked("server.standby_dsn", "no standby is configured")
        return
    with subject.connected(standby=True) as connection:
        place = f"{connection.info.host}:{connection.info.port}"
        row = connection.execute(
            "SELECT pg_is_in_recovery(), (SELECT system_identifier::text FROM pg_control_system())"
        ).fetchone()
    own = subject.server.execute(
        "SELECT system_identifier::text FROM pg_control_system()"
    ).fetchone()
    if row is None or own is None or row[1] != own[0]:
        yield red(
            place,
            f"system identifier {row and row[1]}",
            f"{own and own[0]}, the primary's",
            "correct server.standby_dsn in dr.toml",
        )
    elif not row[0]:
        yield red(
            place, "a primary", "a standby", "correct server.standby_dsn in dr.toml, or empty it"
        )
    else:
        yield green(place, "a standby of this cluster")


@examination(
    "dump-login",
    PART,
    green="the server at dump.dsn lets in",
    jobs=("dump",),
    hint="correct dump.dsn, or empty it to dump from server.dsn",
    example='server of cluster agents: role "dumper" does not exist',
)
def dump_login(subject: Subject) -> Iterator[Finding]:
    """Log in for dumps, only where they have a server or role of their own."""
    if subject.access.dumped is subject.access:
        yield not_asked("dump.dsn", "dumps are taken from server.dsn")
        return
    with subject.access.dumped.connect() as connection:
        yield green(f"{connection.info.host}:{connection.info.port}", f"as {connection.info.user}")


@examination(
    "system-identifier",
    PART,
    green="the server is the one of server.system_identifier",
    needs=("login",),
    hint="correct server.dsn or server.system_identifier",
    example="server of cluster agents: system identifier 7412…, wanted 7399…",
)
def system_identifier(subject: Subject) -> Iterator[Finding]:
    """Compare the system identifier with the configured one, or tell it where none is."""
    found = check_server(subject.server, subject.access.cluster)
    configured = subject.access.cluster.server.system_identifier
    yield green(
        "system identifier",
        f"{found}, {'as configured' if configured else 'server.system_identifier names none'}",
    )


@examination(
    "same-files",
    PART,
    green="the files of server.data_directory are those of the server that answers",
    needs=("login", "programs", "data-directory"),
    jobs=("backup",),
    hint="correct server.dsn or server.data_directory",
    example="server.data_directory /srv/pg: another checkpoint than the server's",
)
def same_files(subject: Subject) -> Iterator[Finding]:
    """Compare the last checkpoint of the files with the server's."""
    access = subject.access
    directory = check_directory(access)
    check_files(access, subject.server, directory, check_server(subject.server, access.cluster))
    yield green(f"{directory}", "the server's own files, by identifier and last checkpoint")


@examination(
    "primary",
    PART,
    green="the server is the primary",
    needs=("login",),
    jobs=("backup", "drill"),
    hint="let server.dsn lead to the primary (target_session_attrs=read-write)",
    example="server of cluster agents at db2:5432: a standby",
)
def primary(subject: Subject) -> Iterator[Finding]:
    """Ask whether the server is the primary: only it archives what a base backup needs."""
    check_primary(subject.access, subject.server)
    yield green(subject.name, "the primary")


@examination(
    "databases",
    PART,
    green="every database that is protected is there, and lets in",
    needs=("login",),
    hint="correct server.databases in dr.toml, or let the role connect",
    example='database sales: permission denied for database "sales"',
)
def databases(subject: Subject) -> Iterator[Finding]:
    """Enter each database. What its catalogs say serves other questions."""
    there = [name for name, _ in subject.server.execute(DATABASES)]
    wanted = subject.wanted = subject.access.cluster.server.databases or tuple(there)
    named = tuple(column.column for column in subject.access.cluster.vectors)
    trouble = False
    for name in wanted:
        try:
            if name not in there:
                raise ConfigError(
                    "no-such-database",
                    f"database {name}",
                    found="no such database",
                    expected=f"one of {', '.join(there)}",
                    hint="correct server.databases in dr.toml",
                )
            with subject.connected(name) as connection:
                subject.databases[name] = DatabaseFacts(
                    extension_versions(connection), read_comments(connection, named)
                )
        except PgdrillError as error:
            words, trouble = error.problem, True
            yield Finding(
                "red",
                f"database {name}",
                words.found,
                words.expected,
                _let_in(subject, name, words.found) or words.hint,
                words.reason,
            )
    if not trouble:
        yield green("databases", ", ".join(wanted))


def _let_in(subject: Subject, database: str, found: str) -> str:
    if "permission denied for database" not in found:
        return ""
    return (
        f'as a superuser: `GRANT CONNECT ON DATABASE "{database}" TO "{subject.server.info.user}"`'
    )


@examination(
    "connections-left",
    PART,
    green=(
        "server, role and databases have as many connections to spare as a look at all databases"
        " takes"
    ),
    needs=("login",),
    after=("databases",),
    hint="raise the limit, or end what holds them",
    example="role pgdrill: 0 left of its limit of 1",
)
def connections_left(subject: Subject) -> Iterator[Finding]:
    """Count the connections that are left; what is held now counts, this look too.

    No limit of a role or database holds for superusers.
    """
    user, wrong, needed = subject.server.info.user, [], at_once(len(subject.wanted))
    row = subject.server.execute(LIMITS).fetchone()
    most, used, limit, own, superuser = row or (0, 0, -1, 0, False)
    left = most - used
    if left < needed:
        wrong.append(
            red(
                "server",
                f"{left} left of {most}",
                f"{needed} or more",
                "end idle sessions (`SELECT * FROM pg_stat_activity`), or raise max_connections (a"
                " restart)",
            )
        )
    if not superuser and 0 <= limit < own + needed:
        wrong.append(
            red(
                f"role {user}",
                _left(own, limit),
                f"{needed} or more",
                f'as a superuser: `ALTER ROLE "{user}" CONNECTION LIMIT -1`',
            )
        )
    for name, most, used in subject.server.execute(DATABASE_LIMITS) if not superuser else ():
        if (name in subject.wanted or name == subject.server.info.dbname) and most < used + AT_ONCE:
            wrong.append(
                red(
                    f"database {name}",
                    _left(used, most),
                    f"{AT_ONCE} or more",
                    f'as a superuser: `ALTER DATABASE "{name}" CONNECTION LIMIT -1`',
                )
            )
    yield from wrong or [green("connections", f"{left} left of {most}, {needed} needed at once")]


def _left(used: int, most: int) -> str:
    return f"{max(0, most - used)} left of its limit of {most}"

"""Rights and room that lack, of a role or a database."""

from __future__ import annotations

from tests.setups.setup import Answer, Setup

FAMILY = "rights and limits"
SETUPS = (
    Setup(
        FAMILY,
        "CONNECT revoked on one of the databases",
        sql=("CREATE DATABASE closed", "REVOKE CONNECT ON DATABASE closed FROM PUBLIC"),
        red=("databases",),
        answer=Answer(
            "backup", "no-connect-right", "database closed", 'GRANT CONNECT ON DATABASE "closed"'
        ),
    ),
    Setup(
        FAMILY,
        "CONNECT revoked on a database that server.databases leaves out",
        sql=("CREATE DATABASE closed", "REVOKE CONNECT ON DATABASE closed FROM PUBLIC"),
        config={"server": {"databases": ["agents"]}},
    ),
    Setup(
        FAMILY,
        "CONNECT revoked on the DSN's own database",
        sql=("REVOKE CONNECT ON DATABASE agents FROM PUBLIC",),
        red=("login",),
        answer=Answer(
            "backup", "no-connect-right", "database agents", 'GRANT CONNECT ON DATABASE "agents"'
        ),
    ),
    Setup(
        FAMILY,
        "a database with CONNECTION LIMIT 1",
        sql=("CREATE DATABASE narrow CONNECTION LIMIT 1",),
        red=("connections-left",),
        answer=Answer("backup", "connection-limit", "database narrow", "CONNECTION LIMIT"),
    ),
    Setup(
        FAMILY,
        "a database with CONNECTION LIMIT 0",
        sql=("CREATE DATABASE narrow CONNECTION LIMIT 0",),
        red=("databases", "connections-left"),
        answer=Answer("backup", "connection-limit", "database narrow", "CONNECTION LIMIT"),
    ),
    Setup(
        FAMILY,
        "the role with CONNECTION LIMIT 7 where three databases are looked at",
        sql=("ALTER ROLE pgdrill CONNECTION LIMIT 7",),
        red=("connections-left",),
        answer=Answer("backup", "connection-limit", "role pgdrill", "CONNECTION LIMIT"),
    ),
    Setup(
        FAMILY,
        "a template database and one that allows no connections",
        sql=(
            "CREATE DATABASE shut ALLOW_CONNECTIONS false",
            "CREATE DATABASE form IS_TEMPLATE true",
        ),
    ),
    *(
        Setup(
            FAMILY,
            f"without {name}",
            sql=(statement,),
            red=(line,),
            answer=Answer(
                job, "missing-privilege", name, statement.split()[0].replace("REVOKE", "GRANT")
            ),
        )  # type: ignore[arg-type]
        for name, statement, line, job in (
            ("pg_monitor", "REVOKE pg_monitor FROM pgdrill", "rights", "backup"),
            (
                "pg_backup_start",
                "REVOKE EXECUTE ON FUNCTION pg_backup_start(text, boolean) FROM pgdrill",
                "functions",
                "backup",
            ),
            (
                "pg_switch_wal",
                "REVOKE EXECUTE ON FUNCTION pg_switch_wal() FROM pgdrill",
                "functions",
                "backup",
            ),
            (
                "pg_create_restore_point",
                "REVOKE EXECUTE ON FUNCTION pg_create_restore_point(text) FROM pgdrill",
                "functions",
                "backup",
            ),
        )
    ),
    Setup(
        FAMILY,
        "without pg_read_all_data",
        sql=("REVOKE pg_read_all_data FROM pgdrill",),
        red=("rights",),
        foretold="lacks pg_read_all_data",
        answer=Answer("drill", "table-content", "docs", "GRANT SELECT"),
    ),
    Setup(
        FAMILY,
        "without BYPASSRLS, with row security on a table",
        sql=("ALTER ROLE pgdrill NOBYPASSRLS", "ALTER TABLE docs ENABLE ROW LEVEL SECURITY"),
        red=("rights",),
        foretold="lacks BYPASSRLS",
        answer=Answer("drill", "table-content", "docs", "BYPASSRLS"),
    ),
    Setup(
        FAMILY,
        "without BYPASSRLS, where no table has row security",
        sql=("ALTER ROLE pgdrill NOBYPASSRLS",),
        red=("rights",),
        why="it matters with the first policy",
    ),
    Setup(FAMILY, "a superuser in the role's place", sql=("ALTER ROLE pgdrill SUPERUSER",)),
)

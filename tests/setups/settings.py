"""Settings that somebody made for the whole server, a database, or pgdrill's role."""

from __future__ import annotations

from collections.abc import Iterator

from tests.setups.host import Host
from tests.setups.setup import Setup

FAMILY = "settings"
GROUPS: dict[str, dict[str, str]] = {
    (
        "how values look"
        " (DateStyle, IntervalStyle, TimeZone, bytea_output, extra_float_digits, xmlbinary)"
    ): {
        "DateStyle": "'German, DMY'",
        "IntervalStyle": "iso_8601",
        "TimeZone": "'Asia/Kolkata'",
        "bytea_output": "escape",
        "extra_float_digits": "-15",
        "xmlbinary": "hex",
    },
    (
        "limits shorter than any job"
        " (statement, lock, idle session, idle in transaction, transaction)"
    ): {
        "statement_timeout": "'20ms'",
        "lock_timeout": "'20ms'",
        "idle_session_timeout": "'300ms'",
        "idle_in_transaction_session_timeout": "'300ms'",
        "transaction_timeout": "'300ms'",
    },
    "transactions (serializable, read only, deferrable)": {
        "default_transaction_isolation": "serializable",
        "default_transaction_read_only": "on",
        "default_transaction_deferrable": "on",
    },
    (
        "names and words (search_path empty, row_security off, standard_conforming_strings off,"
        " quote_all_identifiers, client_encoding LATIN1)"
    ): {
        "search_path": "''",
        "row_security": "off",
        "standard_conforming_strings": "off",
        "quote_all_identifiers": "on",
        "client_encoding": "LATIN1",
    },
}
PLACES = {
    "the server": "ALTER SYSTEM",
    "the database": "ALTER DATABASE agents",
    "pgdrill's role": "ALTER ROLE pgdrill",
}
RELOAD = "SELECT pg_reload_conf()"


def _each() -> Iterator[Setup]:
    for place, words in PLACES.items():
        for number, (group, settings) in enumerate(GROUPS.items()):
            statements = [f"{words} SET {name} = {value}" for name, value in settings.items()]
            yield Setup(
                FAMILY,
                f"{group} of {place}",
                sql=(*statements, RELOAD),
                dump=number == 1 and place == "pgdrill's role",
                tool="barman-cloud" if place == "the database" else "wal-g",
            )


def _standby(made: Host) -> None:
    made.start_standby()
    made.superuser("ALTER SYSTEM SET default_transaction_isolation = serializable", RELOAD)


SETUPS = (
    *_each(),
    Setup(
        FAMILY,
        "track_commit_timestamp, wal_compression, wal_log_hints, full_page_writes off",
        options={
            "track_commit_timestamp": "on",
            "wal_compression": "on",
            "wal_log_hints": "on",
            "full_page_writes": "off",
        },
    ),
    Setup(
        FAMILY,
        "baselines read on a standby, with serializable as the default of both servers",
        after=_standby,
        config={"server": {"standby_dsn": "host={home}/sb port=5432"}},
    ),
    Setup(
        FAMILY,
        "shared_preload_libraries with pg_stat_statements and auto_explain",
        options={"shared_preload_libraries": "pg_stat_statements,auto_explain"},
        sql=("CREATE EXTENSION pg_stat_statements",),
    ),
    Setup(
        FAMILY,
        "indexes that only pgdrill's role may not use (enable_indexscan off)",
        sql=("ALTER ROLE pgdrill SET enable_indexscan = off",),
        warns=("role-settings",),
    ),
    Setup(
        FAMILY,
        "libpq's own variables (PGOPTIONS, PGTZ, PGDATESTYLE, PGCLIENTENCODING)",
        environment={
            "PGOPTIONS": "-c statement_timeout=20ms",
            "PGTZ": "Asia/Tokyo",
            "PGDATESTYLE": "German",
            "PGCLIENTENCODING": "LATIN1",
        },
    ),
)

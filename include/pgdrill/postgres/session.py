"""The settings of a session, whatever ``ALTER DATABASE``, ``ALTER ROLE`` or a file say.

All of them go into the startup packet, which outranks production's: set afterwards, they would come
too late for login event triggers and preloaded libraries. And they are set afterwards once more,
which outranks libpq's own variables (``PGDATESTYLE``, ``PGTZ``). Settings that decide how a query
is planned are not here: they stay production's.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psycopg
from psycopg.conninfo import make_conninfo

from pgdrill.postgres.answered import answered_within

logger = logging.getLogger(__name__)

# For questions of the catalogs: nothing of a user's is in the way.
SYSTEM_PATH = "pg_catalog, pg_temp"
ANSWER_SECONDS = 20.0  # for what is set right after the login
PUBLIC_PATH = '"$user", public'  # PostgreSQL's default, which keeps pg_catalog first
OLDEST_MAJOR, NEWEST_MAJOR = 15, 17  # versions that know other settings
# A keyword of libpq's, which outranks everything. Text comes in this encoding, whatever a database
# is in. From a database in SQL_ASCII, psycopg would otherwise give bytes, and from one in LATIN1
# text that a server which is asked in UTF-8 does not have.
ENCODING = {"client_encoding": "UTF8"}
SET = """
SELECT pg_catalog.set_config(name, value, false)
FROM ROWS FROM (pg_catalog.unnest(%s::text[]), pg_catalog.unnest(%s::text[])) wanted (name, value)
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of a session."""

    name: str
    value: str
    since: int = 0  # the first major version that knows it
    privileged: bool = False  # a superuser's to set


SETTINGS = (
    # settings that decide whose code runs in the session
    Setting("event_triggers", "off", since=17, privileged=True),
    Setting("session_preload_libraries", "", privileged=True),
    Setting("local_preload_libraries", ""),
    Setting("role", "none"),
    Setting("session_replication_role", "origin", privileged=True),
    Setting("row_security", "on"),
    Setting("ignore_checksum_failure", "off", privileged=True),
    Setting("zero_damaged_pages", "off", privileged=True),
    Setting("default_tablespace", ""),
    Setting("temp_tablespaces", ""),
    # settings that decide how values look and are read
    Setting("DateStyle", "ISO, MDY"),
    Setting("IntervalStyle", "postgres"),
    Setting("TimeZone", "UTC"),
    Setting("bytea_output", "hex"),
    Setting("extra_float_digits", "1"),
    Setting("xmloption", "content"),
    Setting("quote_all_identifiers", "off"),
    Setting("standard_conforming_strings", "on"),
    Setting("backslash_quote", "safe_encoding"),
    Setting("escape_string_warning", "on"),
    Setting("array_nulls", "on"),
    Setting("xmlbinary", "base64"),
    Setting("timezone_abbreviations", "Default"),
    Setting("gin_fuzzy_search_limit", "0"),
    Setting("restrict_nonsystem_relation_kind", "", since=17),
    Setting("exit_on_error", "off"),
    Setting("transform_null_equals", "off"),
    Setting("check_function_bodies", "off"),
    Setting("client_min_messages", "notice"),
    # transactions and their limits
    Setting("default_transaction_isolation", "read committed"),
    Setting("default_transaction_deferrable", "off"),
    Setting("default_transaction_read_only", "off"),
    Setting("statement_timeout", "0"),
    Setting("lock_timeout", "0"),
    Setting("idle_session_timeout", "0"),
    Setting("idle_in_transaction_session_timeout", "0"),
    Setting("transaction_timeout", "0", since=17),
)

# For a session that is to show the server's own settings: no library is loaded into it, and its
# role stays what it is.

SAFE = {"local_preload_libraries": "", "role": "none"}


def settings(major: int, *, superuser: bool, search_path: str = SYSTEM_PATH) -> dict[str, str]:
    """Return the settings that a server of that version knows and that such a role may set."""
    fitting = {
        one.name: one.value
        for one in SETTINGS
        if one.since <= major and (superuser or not one.privileged)
    }
    return {**fitting, "search_path": search_path}


def privileged(major: int) -> dict[str, str]:
    """Return the settings that only a superuser may set.

    They are for ``ALTER ROLE … SET`` of a role that is none.
    """
    return {one.name: one.value for one in SETTINGS if one.since <= major and one.privileged}


def options(values: Mapping[str, str]) -> str:
    """Return libpq's ``options`` (or ``PGOPTIONS``) for these values.

    Spaces and backslashes in values are escaped.
    """
    return " ".join(f"-c {name}={_escaped(value)}" for name, value in values.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def opened(conninfo: str) -> psycopg.Connection:
    """Open a connection in autocommit on which psycopg prepares nothing by itself.

    After a ROLLBACK it would throw away what it prepared, by a statement that takes a snapshot; a
    statement that was prepared gets a plan that fits no question in particular; and poolers mix
    them up.
    """
    return psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)


def connect(
    words: Mapping[str, str],
    *,
    autocommit: bool = True,
    search_path: str = SYSTEM_PATH,
    superuser: bool = False,
) -> psycopg.Connection:
    """Open a connection to a server that is not ours, as the role that ``words`` name.

    ``superuser``: the role is known to be one. The server's version is known only afterwards, and a
    pooler may refuse or swallow ``options``: so all is set once more.
    """
    made = _first(
        {**words, **ENCODING}, NEWEST_MAJOR if superuser else OLDEST_MAJOR, superuser, search_path
    )
    major = made.info.server_version // 10000
    try:
        with answered_within(made, ANSWER_SECONDS):
            pin(made, settings(major, superuser=superuser, search_path=search_path))
        made.autocommit = autocommit
    except BaseException:
        made.close()
        raise
    return made


def pin(connection: psycopg.Connection, values: Mapping[str, str]) -> None:
    """Set what the startup packet held once more, on a connection in autocommit."""
    connection.execute(SET, (list(values), list(values.values())))


def _first(
    words: Mapping[str, str], major: int, superuser: bool, search_path: str
) -> psycopg.Connection:
    packet = options(settings(major, superuser=superuser, search_path=search_path))
    mine = " ".join(filter(None, (words.get("options"), packet)))
    try:
        return opened(make_conninfo("", **{**words, "options": mine}))
    except psycopg.OperationalError as error:
        if "unsupported startup parameter" in str(error):
            logger.debug(
                "a pooler refuses settings in the startup packet, so they are set afterwards: %s",
                str(error).strip(),
            )
            return opened(make_conninfo("", **words))
        if "unrecognized configuration parameter" in str(error) and major > OLDEST_MAJOR:
            return _first(words, OLDEST_MAJOR, superuser, search_path)
        raise


@contextlib.contextmanager
def catalogs_only(connection: psycopg.Connection) -> Iterator[None]:
    """Set the system's search path inside this block, for a question of the catalogs.

    The connection asks other things as well.
    """
    row = connection.execute("SELECT pg_catalog.current_setting('search_path')").fetchone()
    connection.execute(f"SET search_path = {SYSTEM_PATH}")
    yield
    connection.execute("SELECT pg_catalog.set_config('search_path', %s, false)", row)

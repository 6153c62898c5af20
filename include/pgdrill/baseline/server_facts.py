"""Facts about the server itself: settings, databases, installed libraries, and how text sorts."""

from __future__ import annotations

import hashlib
import re

import psycopg
from psycopg import sql

from pgdrill.baseline.model import CollationState

KEPT_SETTINGS = [
    "server_version",
    "shared_preload_libraries",
    "session_preload_libraries",
    "local_preload_libraries",
    "data_checksums",
    "wal_segment_size",
    "archive_timeout",
]
SETTINGS = "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)"
CONFIGURED = """
SELECT name, setting FROM pg_settings
WHERE source NOT IN ('default', 'override', 'client', 'session', 'interactive', 'test')
  AND context <> 'internal'
ORDER BY 1
"""
# Settings that may hold a secret, whatever their name says: commands, connection strings, and text
# that an application made up.
SECRETIVE = re.compile(r"conninfo|command|passphrase|password|secret|token|_key|krb")
KNOWN_PREFIXES = ("hnsw.", "ivfflat.", "auto_explain.", "pg_stat_statements.", "pg_prewarm.")

# A limit of -2 marks a database that is being dropped, or was when the server ended: nobody can
# connect to it any more.
DATABASES = (
    "SELECT datname, datistemplate FROM pg_database WHERE datallowconn AND datconnlimit <> -2 ORDER"
    " BY 1"
)
FORMS = """
SELECT d.datname, concat_ws(
    ', ', pg_encoding_to_char(d.encoding), d.datcollate, d.datctype,
    to_jsonb(d) ->> 'datlocprovider',
    coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'),
    CASE WHEN NOT d.datallowconn THEN 'no connections' END)
FROM pg_database d ORDER BY 1
"""
# Finds tablespaces in folders of their own, outside of the data directory.
TABLESPACES = (
    "SELECT oid::text, pg_tablespace_location(oid) FROM pg_tablespace WHERE"
    " pg_tablespace_location(oid) LIKE '/%'"
)
EXTENSIONS = "SELECT extname, extversion FROM pg_extension ORDER BY 1"
LIBRARIES = """
SELECT a.name, a.default_version
FROM pg_available_extensions a JOIN pg_extension e ON e.extname = a.name
ORDER BY 1
"""
# The database's own collation, and every other one that a column or an index of a user's sorts by.
COLLATIONS = """
SELECT c.oid::int8, n.nspname, c.collname,
       CASE WHEN c.oid = 100 THEN (SELECT to_jsonb(d) ->> 'datcollversion' FROM pg_database d
                                   WHERE datname = current_database())
            ELSE c.collversion END, pg_collation_actual_version(c.oid)
FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
WHERE c.collencoding IN (-1, (SELECT encoding FROM pg_database WHERE datname = current_database()))
  AND (c.oid = 100 OR c.oid IN (
    SELECT attcollation FROM pg_attribute WHERE attrelid >= 16384 AND attcollation <> 0
    UNION SELECT unnest(indcollation::oid[]) FROM pg_index WHERE indexrelid >= 16384))
ORDER BY 2, 3
"""
ASCII_WORDS = [
    a + glue + b
    for a in ("a", "B", "Z", "1", "10", "9")
    for glue in ("", "-", "_", " ", ".", "'", "/", ":", "(")
    for b in ("a", "A", "b", "1", "Z")
]
OTHER_WORDS = [
    a + b
    for a in ("ä", "é", "ß", "ø", "č", "ł", "ñ", "œ", "я", "λ", "中", "日", "🙂", "İ", "ﬁ")
    for b in ("", "a", "Z", "-1")
]


def read_settings(connection: psycopg.Connection) -> tuple[dict[str, str], dict[str, str]]:
    """Read the settings that every drill needs to know, and those that somebody set.

    None of them may hold a secret.
    """
    kept: dict[str, str] = dict(connection.execute(SETTINGS, (KEPT_SETTINGS,)).fetchall())
    configured = {
        name: setting
        for name, setting in connection.execute(CONFIGURED).fetchall()
        if not SECRETIVE.search(name) and ("." not in name or name.startswith(KNOWN_PREFIXES))
    }
    return kept, configured


def superusers(connection: psycopg.Connection) -> list[str]:
    """Read every superuser that may log in, the oldest first."""
    return [
        name
        for (name,) in connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolsuper AND rolcanlogin ORDER BY oid"
        )
    ]


def every_database(connection: psycopg.Connection) -> tuple[str, ...]:
    """Read the databases that allow connections, by name.

    template1 is among them, for every database that is made is a copy of it.
    """
    return tuple(name for name, _ in connection.execute(DATABASES))


def filled_databases(connection: psycopg.Connection) -> tuple[str, ...]:
    """Read the databases that hold somebody's rows.

    These are the ones that allow connections and are no templates.
    """
    return tuple(name for name, template in connection.execute(DATABASES) if not template)


def database_forms(connection: psycopg.Connection) -> dict[str, str]:
    """Read every database of the cluster -> its encoding and locale."""
    return dict(connection.execute(FORMS).fetchall())


def tablespaces(connection: psycopg.Connection) -> dict[str, str]:
    """Read every tablespace that lies outside of the data directory: oid -> its folder."""
    return dict(connection.execute(TABLESPACES).fetchall())


def extension_versions(connection: psycopg.Connection) -> dict[str, str]:
    """Read every installed extension of a database: name -> version."""
    return dict(connection.execute(EXTENSIONS).fetchall())


def library_versions(connection: psycopg.Connection) -> dict[str, str]:
    """Read for the same extensions the version that the server's own packages bring."""
    return dict(connection.execute(LIBRARIES).fetchall())


def read_collations(connection: psycopg.Connection) -> dict[str, CollationState]:
    """Read every collation in use, with its versions and its order.

    The order is that of words which are the same everywhere.
    """
    row = connection.execute("SELECT getdatabaseencoding() = 'UTF8'").fetchone()
    words = ASCII_WORDS + (OTHER_WORDS if row and row[0] else [])
    found = {}
    for oid, schema, name, recorded, actual in connection.execute(COLLATIONS).fetchall():
        rule = (
            sql.SQL("")
            if oid == 100
            else sql.SQL("COLLATE {}").format(sql.Identifier(schema, name))
        )
        query = sql.SQL(
            'SELECT array_agg(w ORDER BY w {}, w COLLATE "C") FROM unnest(%s::text[]) w'
        ).format(rule)
        ordered = (connection.execute(query, (words,)).fetchone() or ([],))[0]
        digest = hashlib.md5("\n".join(ordered).encode(), usedforsecurity=False).hexdigest()[:16]
        found["default" if oid == 100 else f"{schema}.{name}"] = CollationState(
            recorded=recorded, actual=actual, order=digest
        )
    return found

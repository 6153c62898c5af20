"""The fingerprint: a hash of every object in every system catalog, compared whole instead of by a list of known mistakes.

A physical restore has production's catalogs to the byte, object numbers included. So every row of every catalog is
hashed, less the columns that vacuum, analyze or a rewrite change, whatever PostgreSQL's version has in there. What is
not hashed: planner statistics, large objects' content (see :mod:`pgdrill.digests`), temporary objects, and the
dependency catalogs, which follow from the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from pydantic import BaseModel, ConfigDict

# Not schema: statistics, content, and states that replication and recovery move by themselves.
SKIPPED = {
    "pg_statistic", "pg_statistic_ext_data", "pg_largeobject", "pg_depend", "pg_shdepend",
    "pg_subscription_rel", "pg_replication_origin",
}  # fmt: skip
# Columns that VACUUM, ANALYZE, REINDEX, TRUNCATE or a wraparound freeze change without changing an object.
VOLATILE = {
    "pg_class": ["relfilenode", "relpages", "reltuples", "relallvisible", "relallfrozen", "relfrozenxid", "relminmxid",
                 "relhasindex", "relhassubclass"],
    "pg_database": ["datfrozenxid", "datminmxid", "dathasloginevt"],
    "pg_index": ["indcheckxmin"],
}  # fmt: skip
FIRST_USER_OID = 16384  # FirstNormalObjectId: lower numbers came with initdb

CATALOGS = """
SELECT c.relname, c.oid::int8, c.relisshared,
       (SELECT array_agg(a.attname ORDER BY k.n) FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n)
        JOIN pg_attribute a ON a.attnum = k.attnum WHERE i.indrelid = c.oid AND i.indisprimary AND a.attrelid = c.oid),
       (SELECT array_agg(a.attname) FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.atttypid = 'oid'::regtype)
FROM pg_class c WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind = 'r' ORDER BY 1
"""
TEMPORARY = r"""
SELECT coalesce(array_agg(oid::int8), '{}') FROM (
    SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_(toast_)?temp_'
    UNION ALL
    SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname ~ '^pg_(toast_)?temp_'
) t
"""


class Fingerprint(BaseModel):
    """Objects by ``catalog:key`` -> (hash, what a person calls it). Objects that came with PostgreSQL are one per catalog.

    ``later`` holds what a second reading, after the restore point, found different: (hash, name) or None for gone.
    """

    model_config = ConfigDict(extra="forbid")

    objects: dict[str, tuple[str, str]]
    later: dict[str, tuple[str, str] | None] = {}

    def settle(self, again: Fingerprint) -> None:
        """Note what changed since: either state is then right."""
        for key in self.objects.keys() | again.objects.keys():
            if self.objects.get(key) != again.objects.get(key):
                self.later[key] = again.objects.get(key)


@dataclass(frozen=True, slots=True)
class Difference:
    """An object that is not as it was: ``missing``, ``changed`` or ``new``."""

    catalog: str
    name: str
    how: str


def read_fingerprint(connection: psycopg.Connection, *, shared: bool) -> Fingerprint:
    """Hash the catalogs of the connected database, or with ``shared`` those of the whole cluster (roles, databases …)."""
    objects: dict[str, tuple[str, str]] = {}
    row = connection.execute(TEMPORARY).fetchone()
    temporary = row[0] if row else []
    for catalog, oid, is_shared, key, numbers in connection.execute(CATALOGS).fetchall():
        if catalog not in SKIPPED and key and is_shared == shared:
            for name, digest, label in _read(connection, catalog, oid, list(key), list(numbers or []), temporary):
                objects[f"{catalog}:{name}"] = (digest, label)
    return Fingerprint(objects=objects)


def _read(
    connection: psycopg.Connection, catalog: str, oid: int, key: list[str], numbers: list[str], temporary: list[int]
) -> list[tuple[str, str, str]]:
    for label in (_label(oid, key), sql.SQL("t.{}::text").format(sql.Identifier(key[0]))):
        try:
            with connection.transaction():
                query = _query(catalog, key, numbers, label, bool(temporary))
                return connection.execute(query, {"temporary": temporary}).fetchall()
        except psycopg.errors.InternalError_:
            continue  # PostgreSQL has no description for objects of this catalog (pg_enum): its key has to do
    return []


def differences(before: Fingerprint, found: Fingerprint) -> Iterator[Difference]:
    """What the restored catalogs lack, have otherwise or have besides."""
    for key in sorted(before.objects.keys() | found.objects.keys() | before.later.keys()):
        now = found.objects.get(key)
        accepted = [before.objects.get(key)]
        if key in before.later:
            accepted.append(before.later[key])
        if any((now and now[0]) == (state and state[0]) for state in accepted):
            continue
        known = before.objects.get(key) or before.later.get(key)
        how = "missing" if now is None else "changed" if known else "new"
        yield Difference(key.partition(":")[0], (known or now or ("", key))[1], how)


def _query(
    catalog: str, key: list[str], numbers: list[str], label: sql.Composable, temporary: bool
) -> sql.Composed:
    """Key, hash and name of every row; rows that PostgreSQL itself brought are hashed together."""
    # All columns of a relation are one object: a thousand tables would otherwise make tens of thousands.
    grouped = key[:1] if catalog == "pg_attribute" else key
    # An object is a user's if any number in its key is: settings of a role are keyed (0, role).
    mine = [name for name in key if name in numbers] or key[:1]
    first = sql.SQL("greatest({})").format(sql.SQL(", ").join(sql.SQL("t.{}::oid::int8").format(sql.Identifier(n)) for n in mine))
    content = sql.SQL("md5((to_jsonb(t) - {}::text[])::text)").format(sql.Literal(VOLATILE.get(catalog, [])))
    text_key = sql.SQL(" || '.' || ").join(sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in grouped)
    where = sql.SQL("WHERE NOT ARRAY[{}]::int8[] && %(temporary)s::int8[]").format(
        sql.SQL(", ").join(sql.SQL("t.{}::int8").format(sql.Identifier(name)) for name in numbers)
    )
    return sql.SQL(
        "SELECT CASE WHEN o >= {user} THEN k ELSE 'system' END, left(md5(string_agg(h, '' ORDER BY k, h)), 16),"
        " coalesce(min(label), 'objects of PostgreSQL itself')"
        " FROM (SELECT {first} AS o, {key} AS k, {content} AS h,"
        " CASE WHEN {first} >= {user} THEN {label} END AS label FROM pg_catalog.{catalog} t {where}) s"
        " GROUP BY 1"
    ).format(
        user=sql.Literal(FIRST_USER_OID), first=first, key=text_key, content=content, where=where if temporary and numbers
        else sql.SQL(""), label=label, catalog=sql.Identifier(catalog),
    )  # fmt: skip


def _label(catalog_oid: int, key: list[str]) -> sql.Composable:
    """An object's name in PostgreSQL's own words."""
    first = sql.Identifier(key[0])
    if key == ["oid"]:
        described: Any = sql.SQL("pg_describe_object({}, t.oid, 0)").format(sql.Literal(catalog_oid))
    elif key[0] == "objoid":
        part = sql.SQL("t.objsubid") if "objsubid" in key else sql.SQL("0")
        described = sql.SQL("pg_describe_object(t.classoid, t.objoid, {})").format(part)
    elif key == ["setdatabase", "setrole"]:
        described = sql.SQL(
            "concat_ws(' in ', 'settings of ' || pg_describe_object('pg_authid'::regclass, nullif(t.setrole, 0), 0),"
            " pg_describe_object('pg_database'::regclass, nullif(t.setdatabase, 0), 0))"
        )
    elif key[0].endswith("relid"):
        described = sql.SQL("pg_describe_object('pg_class'::regclass, t.{}, 0)").format(first)
    else:
        described = sql.SQL("NULL::text")
    return sql.SQL("coalesce({}, t.{}::text)").format(described, first)

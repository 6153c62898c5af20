"""The fingerprint: a hash of every object in every system catalog.

Catalogs are compared whole instead of by a list of known mistakes. A physical restore has
production's catalogs to the byte, object numbers included. So every row of every catalog is hashed,
less the columns that vacuum, analyze or a rewrite change, whatever PostgreSQL's version has in
there.

These are not hashed: planner statistics, large objects (see :mod:`pgdrill.postgres.row_digests`),
temporary objects, and dependencies that follow from the rest. The other dependencies are
(:data:`OWNERS`): who owns a sequence, and what belongs to or goes with an extension. How far a
replication origin or slot has got stands in no catalog, and is no part of this. Prepared
transactions stand in none either and are hashed: one that is lost was promised to be committed.

Rows are hashed in their binary form: that is three times as fast as JSON, and no name in it depends
on the search path.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import LiteralString

import psycopg
from psycopg import sql
from pydantic import Field

from pgdrill.documents import StrictModel
from pgdrill.postgres.prepared import waiting

# Why a catalog is not hashed.
SKIPPED = {
    "pg_statistic": "ANALYZE writes it anew at any time",
    "pg_statistic_ext_data": "ANALYZE writes it anew at any time",
    "pg_largeobject": "content: compared row by row as a table's",
    "pg_largeobject_metadata": "may have millions of rows: compared as a table's",
    "pg_depend": "follows from the rest, but for what OWNERS reads",
    "pg_shdepend": "follows from owners, rights, policies and tablespaces, which are hashed",
}
# Without a row of PostgreSQL itself, and not read by older versions: a reading says that it looked.
LOOKED_AT = {"pg_replication_origin", "pg_subscription_rel"}
LOOKED = ("", "objects of PostgreSQL itself")
# Its numbers begin with 1, are no object numbers, and are given again.
NUMBERED_ANEW = "pg_replication_origin"
# Columns that VACUUM, ANALYZE, REINDEX, TRUNCATE or a wraparound freeze change without changing an
# object.
VOLATILE = {
    "pg_class": [
        "relfilenode",
        "relpages",
        "reltuples",
        "relallvisible",
        "relallfrozen",
        "relfrozenxid",
        "relminmxid",
        "relhasindex",
        "relhassubclass",
    ],
    "pg_database": ["datfrozenxid", "datminmxid", "dathasloginevt"],
    "pg_index": ["indcheckxmin"],
}
# Where a role without rights on a catalog finds most of it, and what is not there.
PUBLIC_VIEWS = {"pg_authid": ("pg_roles", ["rolpassword"])}
FIRST_USER_OID = 16384  # FirstNormalObjectId: lower numbers came with initdb
# A drill's own roles in the copy, and whatever is theirs: found by number.
LENT_TO = "SELECT coalesce(array_agg(oid::int8), '{}') FROM pg_roles WHERE rolname = ANY (%s)"

# Of rows ``t`` that PostgreSQL describes by number, or not at all.
LABELS = {
    "pg_enum": (
        "'label ' || quote_literal(t.enumlabel) || ' of ' ||"
        " pg_describe_object('pg_type'::regclass, t.enumtypid, 0)"
    ),
    "pg_range": "pg_describe_object('pg_type'::regclass, t.rngtypid, 0)",
    "pg_aggregate": "pg_describe_object('pg_proc'::regclass, t.aggfnoid, 0)",
    "pg_ts_config_map": (
        "'mapping of token type ' || t.maptokentype || ' to ' ||"
        " pg_describe_object('pg_ts_dict'::regclass, t.mapdict, 0) || ' in ' ||"
        " pg_describe_object('pg_ts_config'::regclass, t.mapcfg, 0)"
    ),
    "pg_auth_members": (
        "'membership of ' || pg_describe_object('pg_authid'::regclass, t.member, 0)"
        " || ' in ' || pg_describe_object('pg_authid'::regclass, t.roleid, 0)"
    ),
    "pg_db_role_setting": (
        "concat_ws(' in ', 'settings of ' || pg_describe_object('pg_authid'::regclass,"
        " nullif(t.setrole, 0), 0), pg_describe_object('pg_database'::regclass,"
        " nullif(t.setdatabase, 0), 0))"
    ),
    "pg_subscription_rel": (
        "pg_describe_object('pg_subscription'::regclass, t.srsubid, 0)"
        " || ' of ' || pg_describe_object('pg_class'::regclass, t.srrelid, 0)"
    ),
    "pg_replication_origin": "'replication origin ' || t.roname",
}
OWNERS_OF = "pg_depend"
PREPARED = "pg_prepared_xacts"
OWNERS = """
SELECT CASE WHEN t.objid >= {user} THEN t.classid || '.' || t.objid ELSE 'system' END,
       left(md5(string_agg(
           concat_ws('.', t.classid, t.objid, t.objsubid, t.refclassid, t.refobjid, t.refobjsubid,
                     t.deptype),
           ' '
           ORDER BY t.classid, t.objid, t.objsubid, t.refclassid, t.refobjid, t.refobjsubid)), 16),
       'what owns ' || CASE WHEN min(t.objid) >= {user} THEN min({named})
                            ELSE 'objects of PostgreSQL itself' END,
       bool_or({recent})
FROM pg_depend t
LEFT JOIN pg_class s ON s.oid = t.objid AND t.classid = 'pg_class'::regclass AND s.relkind = 'S'
WHERE (t.deptype IN ('e', 'x')
       OR s.oid IS NOT NULL AND t.deptype IN ('a', 'i') AND t.refclassid = 'pg_class'::regclass)
  AND NOT ARRAY[t.objid, t.refobjid]::int8[] && %(temporary)s::int8[]
GROUP BY 1
"""
# An object's name; asked for only where an earlier reading has none.
DESCRIBED = "pg_describe_object(t.classid, t.objid, 0)"
NUMBERED = "t.classid::regclass || ' ' || t.objid"
CATALOGS = """
SELECT c.relname, c.oid::int8, c.relisshared,
       (SELECT array_agg(a.attname ORDER BY k.n)
        FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n)
        JOIN pg_attribute a ON a.attnum = k.attnum
        WHERE i.indrelid = c.oid AND i.indisprimary AND a.attrelid = c.oid),
       (SELECT json_agg(json_build_array(a.attname, a.atttypid::regtype,
                                         has_column_privilege(c.oid, a.attnum, 'SELECT'))
                        ORDER BY a.attnum)
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0),
       has_table_privilege(c.oid, 'SELECT')
FROM pg_class c WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind = 'r' ORDER BY 1
"""
TEMPORARY = r"""
SELECT coalesce(array_agg(oid::int8), '{}') FROM (
    SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_(toast_)?temp_'
    UNION ALL
    SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname ~ '^pg_(toast_)?temp_'
) t
"""


class Fingerprint(StrictModel, frozen=False):
    """Objects by ``catalog:key`` -> (hash, what a person calls it).

    Objects that came with PostgreSQL are one per catalog.

    ``later`` holds what a second reading, after the restore point, found different: (hash, name) or
    None for gone. ``left_out`` names columns of catalogs that the role must not read (``*``: none
    of them). ``recent`` holds the keys of objects that a transaction between the baseline and its
    restore point wrote, where a reading was asked for them; of ``undated`` catalogs it could not
    tell.
    """

    objects: dict[str, tuple[str, str]]
    later: dict[str, tuple[str, str] | None] = Field(default_factory=dict)
    left_out: dict[str, list[str]] = Field(default_factory=dict)
    recent: set[str] = Field(default_factory=set)
    undated: set[str] = Field(default_factory=set)

    def settle(self, again: Fingerprint) -> None:
        """Note what changed since: either state is then right."""
        for key in self.objects.keys() | again.objects.keys():
            if (self.objects.get(key) or ("",))[0] != (again.objects.get(key) or ("",))[0]:
                self.later[key] = again.objects.get(key)


@dataclass(frozen=True, slots=True)
class Span:
    """Transaction numbers from the first that may not have ended at the baseline, up to the next
    one after its restore point.

    What one of them wrote may be in a state that no reading of production saw: made after the first
    and gone before the second.
    """

    oldest_xid: int
    end_xid: int

    @property
    def holds_writer(self) -> sql.Composed:
        """A condition that is true for a catalog row ``t`` that one of these transactions wrote.

        ``xmin`` has 32 bits and outlives freezing.
        """
        return sql.SQL("mod(t.xmin::text::int8 - {} + 8589934592, 4294967296) < {}").format(
            sql.Literal(self.oldest_xid % 2**32),
            sql.Literal(min(max(self.end_xid - self.oldest_xid, 0), 2**31)),
        )

    def holds(self, xid: int) -> bool:
        """Return True if a number of 32 bits is one of these transactions'."""
        return (xid - self.oldest_xid) % 2**32 < min(max(self.end_xid - self.oldest_xid, 0), 2**31)


NO_SPAN = Span(0, 0)
AS_SENT = sql.SQL("record_send(ROW({}))")
AS_STORED = sql.SQL("ROW({})::text")


@dataclass(frozen=True, slots=True)
class Catalog:
    """A system catalog: its key, and the columns to hash with their types."""

    name: str
    oid: int
    key: list[str]
    columns: dict[str, str]
    source: str
    lent_to: tuple[str, ...] = ()
    any_bytes: bool = False  # the database is in SQL_ASCII, whose text need not be in any encoding

    @property
    def numbers(self) -> list[str]:
        """The columns that hold object numbers."""
        return [name for name, kind in self.columns.items() if kind == "oid"]


@dataclass(frozen=True, slots=True)
class Difference:
    """An object that is not as it was: ``missing``, ``changed`` or ``new``.

    ``key`` is its own in the fingerprint.

    ``proved``: no transaction of the span in which it may have changed wrote it as it is. Of what
    is missing, or of rows that are hashed together, that says nothing: a row that was deleted names
    no writer.
    """

    catalog: str
    name: str
    how: str
    proved: bool = False
    key: str = ""


def read_fingerprint(
    connection: psycopg.Connection,
    *,
    shared: bool,
    like: Fingerprint | None = None,
    written_in: Span = NO_SPAN,
    roles: Sequence[str] = (),
) -> Fingerprint:
    """Hash the catalogs of the connected database.

    With ``shared``, hash those of the whole cluster (roles, databases …). ``like``, an earlier
    reading, says what to leave out, and spares naming the objects that it names. Objects written in
    a span of transactions are noted as ``recent``. ``roles``: made by the drill itself, left out
    with the rights lent to them.
    """
    with _one_instant(connection):
        temporary = _numbers(connection, TEMPORARY)
        if roles:
            temporary += _numbers(connection, LENT_TO, list(roles))
        return _Look(connection, like, written_in, tuple(roles), temporary).at_all(shared=shared)


def _numbers(connection: psycopg.Connection, query: LiteralString, *given: object) -> list[int]:
    row = connection.execute(query, given or None).fetchone()
    return list(row[0]) if row else []


@dataclass(frozen=True, slots=True)
class _Look:
    """One reading. ``temporary``: numbers of what rows are left out for."""

    connection: psycopg.Connection
    like: Fingerprint | None
    written_in: Span
    roles: tuple[str, ...]
    temporary: list[int]
    found: Fingerprint = field(default_factory=lambda: Fingerprint(objects={}))

    def at_all(self, *, shared: bool) -> Fingerprint:
        """Look at every catalog of the database, or of the cluster."""
        for name, oid, is_shared, key, columns, whole in self.connection.execute(
            CATALOGS
        ).fetchall():
            if name in SKIPPED or not key or is_shared != shared:
                continue
            if name in LOOKED_AT:
                if not self._wanted(name):
                    continue
                self.found.objects[f"{name}:system"] = LOOKED
            catalog = self._readable(name, oid, list(key), columns)
            if catalog is not None:
                self._read(catalog, whole=whole)
        # Of PostgreSQL itself there are some in every database.
        if not shared and self._wanted(OWNERS_OF):
            self._read_owners()
        if shared and self._wanted(PREPARED):
            self._read_prepared()
        return self.found

    def _wanted(self, name: str) -> bool:
        """An earlier reading by another version may have none of them."""
        return self.like is None or f"{name}:system" in self.like.objects

    def _readable(
        self, name: str, oid: int, key: list[str], columns: list[tuple[str, str, bool]]
    ) -> Catalog | None:
        """The part of a catalog that this role may read and that is wanted; notes the columns that
        are left out.
        """
        volatile = VOLATILE.get(name, [])
        kinds = {column: kind for column, kind, _ in columns if column not in volatile}
        denied = [column for column, _, allowed in columns if not allowed and column in kinds]
        source = name
        if denied and name in PUBLIC_VIEWS:
            source, denied = PUBLIC_VIEWS[name]
        unwanted = self.like.left_out.get(name, []) if self.like else []
        left_out = sorted({*denied, *unwanted})
        if "*" in left_out or set(key) & set(left_out):
            self.found.left_out[name] = ["*"]
            return None
        if left_out:
            self.found.left_out[name] = left_out
        return Catalog(
            name,
            oid,
            key,
            {c: kind for c, kind in kinds.items() if c not in left_out},
            source,
            self.roles,
            self.connection.info.parameter_status("server_encoding") == "SQL_ASCII",
        )

    def _read(self, catalog: Catalog, *, whole: bool) -> None:
        """``whole``: this role may read every column of it."""
        name, like = catalog.name, self.like
        # A view has no writers, and who may read some columns only may not read xmin.
        span = self.written_in if whole and catalog.source == name else NO_SPAN
        if span != self.written_in:
            self.found.undated.add(name)
        rows = _read(self.connection, catalog, self.temporary, span, named=like is None)
        if like and any(f"{name}:{row[0]}" not in like.objects for row in rows):
            rows = _read(self.connection, catalog, self.temporary, span, named=True)
        self._note(name, rows)

    def _note(self, name: str, rows: Iterable[tuple[str, str, str, bool]]) -> None:
        """Note objects: key, hash and name of each, and whether a transaction of the span wrote
        it.
        """
        for key, digest, label, recent in rows:
            self.found.objects[f"{name}:{key}"] = (digest, label)
            if recent:
                self.found.recent.add(f"{name}:{key}")

    def _read_prepared(self) -> None:
        """Note prepared transactions by their numbers, which no other one ever has.

        In recovery nothing is said against an earlier reading.
        """
        rows = waiting(self.connection)
        if rows is None:
            earlier = self.like.objects if self.like else {}
            self.found.objects |= {
                key: known for key, known in earlier.items() if key.startswith(f"{PREPARED}:")
            }
            return
        self.found.objects[f"{PREPARED}:system"] = LOOKED
        holds = self.written_in.holds
        self._note(PREPARED, ((str(xid), digest, label, holds(xid)) for xid, label, digest in rows))

    def _read_owners(self) -> None:
        like, written_in = self.like, self.written_in
        recent = written_in.holds_writer if written_in != NO_SPAN else sql.SQL("false")
        self.found.undated.add(OWNERS_OF)  # one that went leaves the others as they were
        rows: list[tuple[str, str, str, bool]] = []
        for named in (DESCRIBED, NUMBERED) if like is None else (NUMBERED, DESCRIBED, NUMBERED):
            query = sql.SQL(OWNERS).format(
                user=sql.Literal(FIRST_USER_OID), recent=recent, named=sql.SQL(named)
            )
            # of what lost its catalog's row there is no description
            with contextlib.suppress(psycopg.errors.InternalError_), self.connection.transaction():
                rows = self.connection.execute(query, {"temporary": self.temporary}).fetchall()
                if named == DESCRIBED or (
                    like and all(f"{OWNERS_OF}:{key}" in like.objects for key, *_ in rows)
                ):
                    break
        self._note(OWNERS_OF, rows)


@contextlib.contextmanager
def _one_instant(connection: psycopg.Connection) -> Iterator[None]:
    """Show all catalogs as they are at one moment, inside this block.

    Others make temporary objects meanwhile. A transaction that runs stays as it is.
    """
    if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        yield
        return
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield


def _read(
    connection: psycopg.Connection,
    catalog: Catalog,
    temporary: list[int],
    written_in: Span,
    *,
    named: bool,
) -> list[tuple[str, str, str, bool]]:
    """Read key, hash and name of every object, and whether a transaction of the span wrote it."""
    if not named:
        query = _query(catalog, sql.SQL("''::text"), bool(temporary), written_in)
        return connection.execute(query, {"temporary": temporary}).fetchall()
    for label in (_label(catalog), sql.SQL("t.{}::text").format(sql.Identifier(catalog.key[0]))):
        try:
            with connection.transaction():
                query = _query(catalog, label, bool(temporary), written_in)
                return connection.execute(query, {"temporary": temporary}).fetchall()
        except psycopg.errors.InternalError_:
            # PostgreSQL has no description for objects of this catalog (pg_enum): its key has to do
            continue
    return []


def differences(before: Fingerprint, found: Fingerprint) -> Iterator[Difference]:
    """Yield what the restored catalogs lack, have otherwise or have besides.

    Left out are catalogs of which less could be read, and objects in a state of the time between
    the baseline and its restore point.
    """
    unread = {
        name for name, columns in found.left_out.items() if before.left_out.get(name) != columns
    }
    for key in sorted(before.objects.keys() | found.objects.keys() | before.later.keys()):
        catalog = key.partition(":")[0]
        now = found.objects.get(key)
        accepted = [before.objects.get(key)]
        if key in before.later:
            accepted.append(before.later[key])
        if (
            catalog in unread
            or key in found.recent
            or any((now and now[0]) == (state and state[0]) for state in accepted)
        ):
            continue
        if now is None and catalog == NUMBERED_ANEW and key in before.later:
            continue  # given to another one since: between the two it was nobody's
        known = before.objects.get(key) or before.later.get(key)
        how = "missing" if now is None else "changed" if known else "new"
        dated = (
            how in ("changed", "new")
            and catalog not in found.undated
            and not key.endswith(":system")
        )
        # VACUUM takes relhastriggers and relhasrules back in place, whoever wrote the row.
        yield Difference(
            catalog,
            (known or now or ("", key))[1],
            how,
            key=key,
            proved=dated and (catalog, how) != ("pg_class", "changed"),
        )


def _query(
    catalog: Catalog, label: sql.Composable, temporary: bool, written_in: Span
) -> sql.Composed:
    """Return a query for key, hash, name and age of every row.

    Rows that PostgreSQL itself brought are hashed together.
    """
    key, numbers = catalog.key, catalog.numbers
    # All columns of a relation are one object: a thousand tables would otherwise make tens of
    # thousands.
    grouped = key[:1] if catalog.name == "pg_attribute" else key
    # An object is a user's if any number in its key is: settings of a role are keyed (0, role).
    mine = [name for name in key if name in numbers] or key[:1]
    first: sql.Composable = sql.SQL("greatest({})").format(
        sql.SQL(", ").join(sql.SQL("t.{}::oid::int8").format(sql.Identifier(n)) for n in mine)
    )
    if catalog.name == NUMBERED_ANEW:
        first, numbers = sql.Literal(FIRST_USER_OID), []
    text_key = sql.SQL(" || '.' || ").join(
        sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in grouped
    )
    where = sql.SQL("WHERE NOT ARRAY[{}]::int8[] && %(temporary)s::int8[]").format(
        sql.SQL(", ").join(sql.SQL("t.{}::int8").format(sql.Identifier(name)) for name in numbers)
    )
    return sql.SQL(
        "SELECT CASE WHEN o >= {user} THEN k ELSE 'system' END, left(md5(string_agg(h, '' ORDER BY"
        ' k COLLATE "C", h COLLATE "C")), 16), coalesce(min(label), \'objects of PostgreSQL'
        " itself'), bool_or(recent) FROM (SELECT {first} AS o, {key} AS k, {recent} AS recent,"
        " md5({row}) AS h, CASE WHEN {first} >= {user} THEN {label} END AS label FROM"
        " pg_catalog.{source} t {where}) s GROUP BY 1"
    ).format(
        user=sql.Literal(FIRST_USER_OID),
        first=first,
        key=text_key,
        label=label,
        source=sql.Identifier(catalog.source),
        row=(AS_STORED if catalog.any_bytes else AS_SENT).format(
            sql.SQL(", ").join(
                _column(name, kind, catalog.lent_to) for name, kind in catalog.columns.items()
            )
        ),
        where=where if temporary and numbers else sql.SQL(""),
        recent=written_in.holds_writer if written_in != NO_SPAN else sql.SQL("false"),
    )


def _column(name: str, kind: str, lent_to: Sequence[str]) -> sql.Composed:
    """Return SQL for a column's value.

    Access rights have no binary form, and those lent to a drill's own roles are none of
    production's.
    """
    cell = sql.SQL("t.{}").format(sql.Identifier(name))
    if kind != "aclitem[]":
        return cell
    if not lent_to:
        return sql.SQL("{}::text").format(cell)
    return sql.SQL(
        "CASE WHEN {c}::text ~ {lent} THEN (SELECT array_agg(i ORDER BY n)::text FROM unnest({c})"
        " WITH ORDINALITY u(i, n) WHERE i::text !~ {lent}) ELSE {c}::text END"
    ).format(c=cell, lent=sql.Literal(f"({'|'.join(lent_to)})="))


def _label(catalog: Catalog) -> sql.Composable:
    """Return SQL for an object's name in PostgreSQL's own words; in ours where it has none."""
    key, first = catalog.key, sql.Identifier(catalog.key[0])
    if catalog.name in LABELS:
        described: sql.Composable = sql.SQL(LABELS[catalog.name])
    elif key == ["oid"]:
        described = sql.SQL("pg_describe_object({}, t.oid, 0)").format(sql.Literal(catalog.oid))
    elif key[0] == "objoid":
        part = sql.SQL("t.objsubid") if "objsubid" in key else sql.SQL("0")
        described = sql.SQL("pg_describe_object(t.classoid, t.objoid, {})").format(part)
    elif key[0].endswith("relid"):
        described = sql.SQL("pg_describe_object('pg_class'::regclass, t.{}, 0)").format(first)
    else:
        described = sql.SQL("NULL::text")
    # As a person says it, whatever is in the search path.
    return sql.SQL("coalesce(regexp_replace({}, '(^| )public\\.', '\\1', 'g'), t.{}::text)").format(
        described, first
    )

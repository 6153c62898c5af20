"""Searching: indexes, settings and plans as on production, and tenants that find their own rows and no others'."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from pgdrill.baseline import DatabaseState
from pgdrill.checks.base import Context, Outcome, check
from pgdrill.checks.looking import Look, not_seen, seen
from pgdrill.checks.vectors import judged, recall_loss, thing_of
from pgdrill.vectors.columns import SearchIndex, use_pgvector
from pgdrill.vectors.observe import FILTERED_PROBES, Searched
from pgdrill.vectors.probes import Probe
from pgdrill.vectors.remember import has_row_security, search_settings
from pgdrill.vectors.search import K, distance_to, plan
from pgdrill.vectors.state import SearchState, VectorState
from pgdrill.vectors.stream import Field


@check(
    "vector-indexes", "vectors",
    passing="every vector index of production is there and valid, of the same operator class and options, and no other has come",
    mend="make the index again as the baseline's definition says; find out why production's differs",
    example="fail: items.embedding (items_hnsw): no such index; expected CREATE INDEX items_hnsw ON …",
)  # fmt: skip
def vector_indexes(context: Context) -> Iterator[Outcome]:
    """By the definition that PostgreSQL gives, options and predicate included."""
    yield from not_seen(context)
    for look, column in seen(context):
        if look.state is None:
            yield Outcome("skip" if look.database is None else "warn", look.name, message="no baseline to compare with")
            continue
        found = {index.name: index for index in column.column.indexes}
        wrong = list(_other_indexes(look, found, look.state))
        yield from wrong or [Outcome("pass", look.name, len(found), "indexes as recorded")]


def _other_indexes(look: Look, found: dict[str, SearchIndex], before: VectorState) -> Iterator[Outcome]:
    recorded = {index.name: index for index in before.indexes}
    for name in sorted(recorded.keys() | found.keys()):
        then, now = recorded.get(name), found.get(name)
        if then and now and (then.definition, then.valid) == (now.definition, now.valid):
            continue
        altered = any(one and look.altered(one.oid) for one in (then, now))
        what = "no such index" if now is None else "invalid index" if then and then.valid and not now.valid else now.definition
        yield Outcome("warn" if altered else "fail", f"{look.name} ({name})", what, then.definition if then else "no such index",
                      "changed on production since the baseline" if altered else "")  # fmt: skip


@check(
    "search-settings", "vectors",
    passing="hnsw.* and ivfflat.* settings, and those of roles and databases that decide how searches are planned, are production's",
    mend="ALTER DATABASE or ALTER ROLE … SET as on production; what stands in a file outside the data directory is in no backup",
    example="fail: agents: hnsw.ef_search: default: 40; expected database: 200",
)  # fmt: skip
def search_settings_as_recorded(context: Context) -> Iterator[Outcome]:
    """The effective ones of a new session. They decide recall and speed, and are not in any table."""
    for name in context.databases:
        recorded = context.baseline.databases.get(name) if context.baseline else None
        with context.connect(name) as connection:
            if not use_pgvector(connection):
                continue
            found = search_settings(connection)
        if recorded is None or not recorded.search_settings:
            yield Outcome("skip", name, message="no baseline to compare with")
        else:
            wrong = list(_other_settings(context, name, found, recorded))
            yield from wrong or [Outcome("pass", name, len(found), "settings as recorded")]


def _other_settings(context: Context, name: str, found: dict[str, str], recorded: DatabaseState) -> Iterator[Outcome]:
    before = recorded.search_settings
    for setting in sorted(before.keys() | found.keys()):
        then, now = before.get(setting, "not set"), found.get(setting, "not set")
        if then == now:
            continue
        thing = f"{name}: {setting}"
        if {then.partition(":")[0], now.partition(":")[0]} <= {"default", "configuration file", "command line", "not set"} and (
            "," not in setting
        ):
            yield Outcome("warn", thing, now, then, "from a file or the version, which the backup need not hold")
        elif _settings_altered(context):
            yield Outcome("warn", thing, now, then, "changed on production since the baseline")
        else:
            yield Outcome("fail", thing, now, then)


def _settings_altered(context: Context) -> bool:
    context.settle()
    later = context.baseline.shared_objects.later if context.baseline else {}
    return any(key.startswith("pg_db_role_setting:") for key in later)


@check(
    "index-used", "vectors",
    passing="a nearest-neighbour query of the application's shape is planned through the vector index",
    mend="compare the index's operator class with the query's operator; ANALYZE; look at the planner's settings",
    example="fail: items.embedding (items_hnsw): index not usable; expected index scan",
)  # fmt: skip
def index_used(context: Context) -> Iterator[Outcome]:
    """EXPLAIN with the server's own settings; an index that only a forbidden sequential scan brings out is a warning."""
    yield from not_seen(context)
    for look, column in seen(context):
        wanted = column.column.wanted
        if not column.column.indexes:
            threshold = "an HNSW or IVFFlat index" if wanted.index_required else ""
            yield Outcome("warn" if threshold else "pass", look.name, "no vector index", threshold, "every search is a scan")
        states = {one.index: one for one in look.state.searches} if look.state else {}
        for one in column.searches:
            if not one.search.index or not one.probes:
                continue
            before = states.get(one.search.name)
            if one.used:
                yield Outcome("pass", thing_of(look, one), "index scan", "index scan")
            elif one.usable:
                message = "production's planner takes it" if before and before.used else "the planner prefers another plan at this size"
                yield Outcome("warn", thing_of(look, one), "another plan", "index scan", message)
            else:
                yield Outcome("fail", thing_of(look, one), "index not usable", "index scan")
        if wanted.query and (probe := next((one.probes[0] for one in column.searches if one.probes), None)):
            yield _own_query(look, wanted.query, probe)


def _own_query(look: Look, query: str, probe: Probe) -> Outcome:
    """The application's own words, as it would send them: prepared, with the vector as parameter."""
    thing = f"{look.name} (query in dr.toml)"
    with look.context.connect(look.column.database) as connection:
        try:
            connection.execute(sql.SQL("PREPARE pgdrill_search ({}) AS {}").format(sql.SQL(look.column.kind), sql.SQL(query)))
            found, _ = plan(connection, sql.SQL("EXECUTE pgdrill_search ({})").format(sql.Literal(probe.text)))
        except psycopg.Error as error:
            return Outcome("fail", thing, type(error).__name__, "a plan", str(error).strip()[:300])
    used = found & {index.name for index in look.column.indexes}
    return Outcome("pass" if used else "fail", thing, ", ".join(sorted(found)) or "no index", "a vector index")


@check(
    "filtered-search", "vectors",
    passing="searches limited to a tenant find what they found on production, and row security shows a tenant its own rows only",
    mend="look at the table's policies and at the column they use (pg_policies); compare the named rows' tenants with production",
    example="fail: items.embedding (as agents_app): 7 of 10 rows are another tenant's; expected 0",
)  # fmt: skip
def filtered_search(context: Context) -> Iterator[Outcome]:
    """By the column that policies use, with the tenants of stored rows; then as the application's role, where policies ask a setting."""
    yield from not_seen(context)
    for look, column in seen(context):
        lost = look.state.filter_column if look.state and not column.column.filter else ""
        if lost:
            yield Outcome("fail", look.name, "no policy", f"row security by {lost}", "a search sees every tenant's rows")
        states = {one.index: one for one in look.state.searches} if look.state else {}
        for one in column.searches:
            if one.filtered and one.filtered.found:
                yield _filtered(look, one, states.get(one.search.name))
        first = next((one for one in column.searches if one.probes), None)
        if first and look.state and look.state.row_security and look.state.tenant_roles and look.state.filter_settings:
            yield _as_tenant(look, first, look.state)
        elif not lost and (not first or not first.filtered or not first.filtered.found):
            yield Outcome("pass", look.name, "not filtered", message="no column limits its searches, or no index serves them")


def _filtered(look: Look, one: Searched, before: SearchState | None) -> Outcome:
    asked, allowed = one.filtered, look.column.wanted.max_recall_loss
    assert asked is not None  # noqa: S101 - the caller has looked
    wanted = sum(len(asked.wanted(number)) for number in range(len(asked.found)))
    found = sum(map(asked.hits, range(len(asked.found))))
    share = round(found / wanted, 4) if wanted else "empty"
    loss = recall_loss(one, asked, before, before.filtered) if before and before.filtered else None
    column = look.column.filter.column if look.column.filter else ""
    if loss is None:
        return Outcome("pass", thing_of(look, one), share, "", f"of each tenant's nearest rows, by {column}")
    return Outcome(judged(loss, allowed), thing_of(look, one), share, f"loss <= {allowed:g}", f"by {column}; {loss}")


def _as_tenant(look: Look, one: Searched, before: VectorState) -> Outcome:
    """Search as an application's role would, each probe's tenant set; every row found has to be that tenant's."""
    role, column = before.tenant_roles[0], before.filter_column
    thing = f"{look.name} (as {role})"
    searched = others = 0
    blind = ""
    with look.context.connect(look.column.database) as connection:
        if not has_row_security(connection, look.column):
            return Outcome("fail", thing, "row security is off", "on, as on production", "a search sees every tenant's rows")
        try:
            for probe, tenant in _tenants(connection, look, one.probes[:FILTERED_PROBES], column):
                rows = _seen_as(connection, look, one, probe, role, dict.fromkeys(before.filter_settings, tenant), column)
                searched += len(rows)
                others += sum(1 for row in rows if row != tenant)
                blind = blind or ("" if rows else probe.place)
        except psycopg.errors.InsufficientPrivilege as error:
            return Outcome("skip", thing, message=f"cannot be tried: {str(error).strip()[:200]}")
        except psycopg.Error as error:
            return Outcome("fail", thing, type(error).__name__, "rows of the tenant", str(error).strip()[:300])
    if others:
        return Outcome("fail", thing, f"{others} of {searched} rows are another tenant's", "0 rows of another tenant")
    if blind:
        return Outcome("fail", thing, "nothing found", "rows of the tenant", f"searching with the vector at {blind}")
    if not searched:
        return Outcome("warn", thing, "not tried", "rows of the tenant alone", "no probe's row has a tenant")
    return Outcome("pass", thing, searched, "rows of the tenant alone")


def _tenants(connection: psycopg.Connection, look: Look, probes: list[Probe], column: str) -> list[tuple[Probe, str]]:
    """The probes whose rows have a tenant, with it. Asked anew: where the policies are gone, nothing names the column."""
    query = sql.SQL("SELECT ctid::text, {c}::text FROM ONLY {t} WHERE ctid = ANY ({p}::tid[]) AND {c} IS NOT NULL").format(
        c=sql.Identifier(column), t=look.column.relation, p=sql.Literal([probe.ctid for probe in probes])
    )
    tenants = dict(connection.execute(query).fetchall())
    return [(probe, tenants[probe.ctid]) for probe in probes if probe.ctid in tenants]


def _seen_as(
    connection: psycopg.Connection, look: Look, one: Searched, probe: Probe, role: str, settings: dict[str, str], column: str
) -> list[str]:
    root = connection.execute(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid = coalesce(pg_partition_root(%(table)s::oid::regclass), %(table)s::oid::regclass)", {"table": look.column.oid}
    ).fetchone()  # fmt: skip
    assert root is not None  # noqa: S101 - the column is of that table
    field: Field = one.search.field
    where = sql.SQL("WHERE {}").format(sql.SQL(field.predicate)) if field.predicate else sql.SQL("")
    asked = sql.SQL("SELECT {}::text FROM {} {} ORDER BY {} LIMIT {}").format(
        sql.Identifier(column), sql.Identifier(*root), where, distance_to(one.search, probe), sql.Literal(K),
    )  # fmt: skip
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL row_security = on")
        for setting in settings.items():
            connection.execute("SELECT set_config(%s, %s, true)", setting)
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        return [row[0] for row in connection.execute(asked).fetchall()]

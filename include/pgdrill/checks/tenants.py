"""Searches limited to a tenant: they find the tenant's rows as on production, and no others'."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

import psycopg
from psycopg import sql

from pgdrill.checks.base import Context, Outcome, check, not_asked
from pgdrill.checks.looking import Look, not_seen, seen
from pgdrill.checks.vectors import judged, recall_loss, thing_of
from pgdrill.postgres.roles import powers
from pgdrill.vectors.observe import Searched
from pgdrill.vectors.probes import Probe
from pgdrill.vectors.remember import has_row_security
from pgdrill.vectors.search import K, distance_to
from pgdrill.vectors.state import SearchState, VectorState
from pgdrill.vectors.stream import Field

TENANTS_TRIED = 3  # each with ten rows: whoever sees too much or nothing does so at once


@check(
    "filtered-search", "vectors",
    passing="searches limited to a tenant find what they found on production, and row security shows a tenant its own rows only",
    mend="look at the table's policies and at the column they use (pg_policies); compare the named rows' tenants with production",
    example="items.embedding (as agents_app): 7 of 10 rows are another tenant's, wanted 0",
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
            if power := _power(context, look.state.tenant_roles[0]):
                why = f"it is or may become {power}, with whose rights users' code in the table would run"
                yield not_asked(f"{look.name} (as {look.state.tenant_roles[0]})", why)
            else:
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
    context, database = look.context, look.column.database
    with context.connect(database) as connection, _tenancy(context, database, role) as tenancy:
        if not has_row_security(connection, look.column):
            return Outcome("fail", thing, "row security is off", "on, as on production", "a search sees every tenant's rows")
        try:
            for probe, tenant in _tenants(connection, look, one.probes[:TENANTS_TRIED], column):
                rows = _seen_as(tenancy, look, one, probe, role, dict.fromkeys(before.filter_settings, tenant), column)
                searched += len(rows)
                others += sum(1 for row in rows if row != tenant)
                blind = blind or ("" if rows else probe.place)
        except psycopg.errors.InsufficientPrivilege as error:
            mend = f"in the restored cluster, GRANT {role} TO {connection.info.user}, the role that verifies"
            return Outcome("skip", thing, message=f"cannot be tried: {str(error).strip()[:200]}", mend=mend)
        except psycopg.Error as error:
            return Outcome("fail", thing, type(error).__name__, "rows of the tenant", str(error).strip()[:300])
    if others:
        return Outcome("fail", thing, f"{others} of {searched} rows are another tenant's", "0 rows of another tenant")
    if blind:
        return Outcome("fail", thing, "nothing found", "rows of the tenant", f"searching with the vector at {blind}")
    return Outcome("pass" if searched else "warn", thing, searched, "rows of the tenant alone",
                   "" if searched else "no probe's row has a tenant")  # fmt: skip


def _power(context: Context, role: str) -> str:
    with context.system() as connection:
        return powers(connection, role)


def _tenancy(context: Context, database: str, role: str) -> AbstractContextManager[psycopg.Connection]:
    """A connection that may SET ROLE to that role."""
    return context.tenancy(database, role) if context.tenancy else context.connect(database)


def _tenants(connection: psycopg.Connection, look: Look, probes: list[Probe], column: str) -> list[tuple[Probe, str]]:
    """The probes whose rows have a tenant, with it. Asked anew: where the policies are gone, nothing names the column."""
    query = sql.SQL("SELECT ctid::text, {c}::text FROM ONLY {t} WHERE ctid = ANY ({p}::tid[]) AND {c} IS NOT NULL").format(
        c=sql.Identifier(column), t=look.column.relation, p=sql.Literal([probe.ctid for probe in probes])
    )
    tenants: dict[str, str] = dict(connection.execute(query).fetchall())
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

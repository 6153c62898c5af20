"""Searches limited to a tenant: they find its rows as on production, and no others'."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import psycopg
from psycopg import sql

from pgdrill.checks.base import Context, Outcome, check, not_asked
from pgdrill.checks.columns import Look, not_seen, seen
from pgdrill.checks.outlived import ENDED, asked_once
from pgdrill.checks.vacuumed import searched_when_vacuumed, was_tidied
from pgdrill.checks.vectors import judged, recall_loss, thing_of
from pgdrill.postgres.roles import powers
from pgdrill.postgres.server_words import words_of
from pgdrill.reports.model import CheckStatus
from pgdrill.vectors.index_search import K, distance_to
from pgdrill.vectors.model import SearchState
from pgdrill.vectors.observation import FILTERED_PROBES, Searched
from pgdrill.vectors.probes import Probe
from pgdrill.vectors.snapshot import has_row_security, tenant_roles

BEHIND = "the index finds its nearest rows first, and the filter then leaves none of them"
TELL = (
    "tell the application's owner: searches limited to a tenant miss rows that it has. With"
    " pgvector 0.8 or newer `ALTER ROLE … SET hnsw.iterative_scan = strict_order`"
    " (ivfflat.iterative_scan) lets the search go on; or partition the table, or make a partial"
    " index, by tenant"
)


@check(
    "filtered-search",
    "vectors",
    passing=(
        "searches limited to a tenant find what they found on production, and row security shows a"
        " tenant its own rows and no others"
    ),
    hint=(
        "look at the table's policies and at the column they use (pg_policies); compare the named"
        " rows' tenants with production"
    ),
    example="items.embedding (as agents_app): 7 of 10 rows are another tenant's, wanted 0",
)
def filtered_search(context: Context) -> Iterator[Outcome]:
    """Search by the column that policies use, with the tenants of stored rows.

    Where policies ask a setting, the searches are then made as the application's role. A search
    that finds nothing because its filter stands behind the index does so on production, too, and is
    a warning.
    """
    yield from not_seen(context)
    for look, column in seen(context):
        lost = look.state.filter_column if look.state and not column.column.filter else ""
        if lost:
            yield Outcome(
                "fail",
                look.name,
                "no policy",
                f"row security by {lost}",
                "a search sees every tenant's rows",
            )
        states = {one.index: one for one in look.state.searches} if look.state else {}
        for one in column.searches:
            if one.filtered and one.filtered.found:
                yield _at_best(look, one, states.get(one.search.name))
        first = next((one for one in column.searches if one.probes), None)
        tenancy = tenancy_of(look) if first else None
        if first and tenancy:
            if power := _power(context, tenancy.role):
                why = (
                    f"it is or may become {power}, with whose rights users' code in the table"
                    " would run"
                )
                yield not_asked(f"{look.name} (as {tenancy.role})", why)
            else:
                yield _as_tenant(look, first, tenancy, states.get(first.search.name))
        elif not lost and (not first or not first.filtered or not first.filtered.found):
            yield Outcome(
                "pass",
                look.name,
                "not filtered",
                message="no column limits its searches, or no index serves them",
            )


@dataclass(frozen=True, slots=True)
class Tenancy:
    """The way an application's role is limited to a tenant: by a column, from settings."""

    role: str
    column: str
    settings: Sequence[str]
    recorded: bool  # as on production


def tenancy_of(look: Look) -> Tenancy | None:
    """Return the tenancy as production had it.

    Where that is not recorded, it is as the restored catalogs have it. None where no role is
    limited.
    """
    if look.state:
        known = look.state
        if known.row_security and known.tenant_roles and known.filter_settings:
            return Tenancy(
                known.tenant_roles[0], known.filter_column, known.filter_settings, recorded=True
            )
        return None
    limited = look.column.filter
    if limited is None or not limited.settings:
        return None
    with look.context.connect(look.column.database) as connection:
        roles = (
            tenant_roles(connection, look.column)
            if has_row_security(connection, look.column)
            else []
        )
    return Tenancy(roles[0], limited.column, limited.settings, recorded=False) if roles else None


def _at_best(look: Look, one: Searched, before: SearchState | None) -> Outcome:
    """Judge a filtered search; once more when the index is vacuumed, where production's was."""
    first = _filtered(look, one, before)
    if first.status != "fail" or before is None or not was_tidied(look, before):
        return first
    again = searched_when_vacuumed(look, one)
    outcome = _filtered(look, again, before) if again else first
    if outcome.status == "fail" and before.made_anew:
        outcome = replace(outcome, status="warn")
    return outcome


def _filtered(look: Look, one: Searched, before: SearchState | None) -> Outcome:
    asked, allowed = one.filtered, look.column.wanted.max_recall_loss
    assert asked is not None  # noqa: S101 - the caller has looked
    numbers = range(len(asked.found))
    wanted, found = (
        sum(map(count, numbers)) for count in (lambda number: len(asked.wanted(number)), asked.hits)
    )
    share = round(found / wanted, 4) if wanted else "empty"
    loss = recall_loss(one, asked, before, before.filtered) if before and before.filtered else None
    blind = sum(bool(asked.wanted(number)) and not asked.found[number] for number in numbers)
    by = (
        f"of each tenant's nearest rows, by {look.column.filter.column}"
        if look.column.filter
        else ""
    )
    threshold, hint = (f"loss <= {allowed:g}" if loss else ""), ""
    status: CheckStatus = judged(look, loss, allowed) if loss else "pass"
    message = f"{by}; {loss}" if loss else by
    if blind and status != "fail":
        status, hint = "warn", TELL
        message += (
            f"; {blind} of {len(asked.found)} searches found nothing ({_on_production(before)}):"
            f" {BEHIND}"
        )
    return Outcome(status, thing_of(look, one), share, threshold, message, hint)


def _on_production(before: SearchState | None) -> str:
    """Return words for how many of production's own searches found nothing."""
    if before is None or before.filtered is None:
        return "production's own are not recorded for that instant"
    answers = before.filtered
    empty = [
        not found for found, wanted in zip(answers.hits, answers.wanted, strict=True) if wanted
    ] or [not found for found in answers.found]
    return (
        f"{sum(empty)} of {len(empty)} on production"
        if empty
        else "production's own are not recorded"
    )


@dataclass
class _Seen:
    """The results of searches as a tenant."""

    rows: int = 0
    others: int = 0  # rows of other tenants
    # probes that found nothing, though the tenant may see rows
    blind: list[str] = field(default_factory=list)
    # probes that found nothing, because the tenant is shown no row at all
    hidden: list[str] = field(default_factory=list)
    searches: int = 0


def _as_tenant(look: Look, one: Searched, tenancy: Tenancy, before: SearchState | None) -> Outcome:
    """Search as an application's role would, with each probe's tenant set.

    Every row found has to be that tenant's.
    """
    thing = f"{look.name} (as {tenancy.role})"
    context, database = look.context, look.column.database
    with (
        context.connect(database) as connection,
        _tenancy(context, database, tenancy.role) as tenant,
    ):
        if not has_row_security(connection, look.column):
            return Outcome(
                "fail",
                thing,
                "row security is off",
                "on, as on production",
                "a search sees every tenant's rows",
            )
        try:
            with asked_once(context, database, look.column.oid):
                found = _searched(connection, tenant, look, one, tenancy)
        except psycopg.errors.InsufficientPrivilege as error:
            hint = (
                f"in the restored cluster, GRANT {tenancy.role} TO {connection.info.user}, the role"
                " that verifies"
            )
            return Outcome(
                "skip",
                thing,
                message=f"cannot be tried: {str(error).strip()[:200]}",
                hint=hint,
                required=tenancy.recorded,
            )
        except ENDED as error:
            return Outcome(
                "skip",
                thing,
                message=f"cannot be tried: {words_of(error)}",
                required=tenancy.recorded,
            )
        except psycopg.Error as error:
            return Outcome(
                "fail", thing, type(error).__name__, "rows of the tenant", str(error).strip()[:300]
            )
    return _told(look, thing, found, before)


def _told(look: Look, thing: str, found: _Seen, before: SearchState | None) -> Outcome:
    if found.others:
        return Outcome(
            "fail",
            thing,
            f"{found.others} of {found.rows} rows are another tenant's",
            "0 rows of another tenant",
        )
    if (
        found.hidden
        and not (found.rows or found.blind)
        and (look.column.filter is None or look.column.filter.alone)
    ):
        return Outcome(
            "fail",
            thing,
            "nothing found",
            "rows of the tenant",
            f"row security hides every row, first at {found.hidden[0]}",
        )
    if found.blind:
        words = (
            f"first with the vector at {found.blind[0]}, though its tenant has rows: {BEHIND};"
            f" {_on_production(before)} by the same filter"
        )
        return Outcome(
            "warn",
            thing,
            f"{len(found.blind)} of {found.searches} searches found nothing",
            "rows of the tenant",
            words,
            TELL,
        )
    if found.hidden:
        words = (
            f"first at {found.hidden[0]}: the policies ask more than the tenant, and may mean it"
        )
        return Outcome(
            "warn",
            thing,
            f"{len(found.hidden)} of {found.searches} tenants are shown none of their rows",
            "rows of the tenant",
            words,
        )
    return Outcome(
        "pass" if found.rows else "warn",
        thing,
        found.rows,
        "rows of the tenant alone",
        "" if found.rows else "no probe's row has a tenant",
    )


def _searched(
    connection: psycopg.Connection,
    tenant: psycopg.Connection,
    look: Look,
    one: Searched,
    tenancy: Tenancy,
) -> _Seen:
    """Search for each probe as its row's tenant.

    Where that finds nothing, it asks whether the tenant may see that row, or any other.
    """
    found, table, predicate = _Seen(), _root(connection, look), one.search.field.predicate
    where = sql.SQL("WHERE {}").format(sql.SQL(predicate)) if predicate else sql.SQL("")
    for probe, owner in _tenants(connection, look, one.probes[:FILTERED_PROBES], tenancy.column):
        asked = sql.SQL("{} {} ORDER BY {} LIMIT {}").format(
            table, where, distance_to(one.search, probe), sql.Literal(K)
        )
        rows = _seen_as(tenant, asked, tenancy, owner)
        found.searches += 1
        found.rows += len(rows)
        found.others += sum(1 for row in rows if row != owner)
        if not rows:
            itself = sql.SQL("{} WHERE tableoid = {} AND ctid = {}::tid").format(
                table, sql.Literal(look.column.oid), sql.Literal(probe.ctid)
            )
            sees = _seen_as(tenant, itself, tenancy, owner) or _seen_as(
                tenant, sql.SQL("{} LIMIT 1").format(table), tenancy, owner
            )
            (found.blind if sees else found.hidden).append(probe.place)
    return found


def _power(context: Context, role: str) -> str:
    with context.system() as connection:
        return powers(connection, role)


def _tenancy(
    context: Context, database: str, role: str
) -> AbstractContextManager[psycopg.Connection]:
    """Open a connection that may SET ROLE to that role."""
    return context.tenancy(database, role) if context.tenancy else context.connect(database)


def _tenants(
    connection: psycopg.Connection, look: Look, probes: list[Probe], column: str
) -> list[tuple[Probe, str]]:
    """Return the probes whose rows have a tenant, each with its tenant.

    This is asked anew: where the policies are gone, nothing names the column.
    """
    query = sql.SQL(
        "SELECT ctid::text, {c}::text FROM ONLY {t} WHERE ctid = ANY ({p}::tid[]) AND {c} IS NOT"
        " NULL"
    ).format(
        c=sql.Identifier(column),
        t=look.column.relation,
        p=sql.Literal([probe.ctid for probe in probes]),
    )
    tenants: dict[str, str] = dict(connection.execute(query).fetchall())
    return [(probe, tenants[probe.ctid]) for probe in probes if probe.ctid in tenants]


def _root(connection: psycopg.Connection, look: Look) -> sql.Identifier:
    """Return the table that applications search: for a partition, the whole table."""
    row = connection.execute(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid = coalesce(pg_partition_root(%(table)s::oid::regclass),"
        " %(table)s::oid::regclass)",
        {"table": look.column.oid},
    ).fetchone()
    assert row is not None  # noqa: S101 - the column is of that table
    return sql.Identifier(*row)


def _seen_as(
    connection: psycopg.Connection, asked: sql.Composable, tenancy: Tenancy, owner: str
) -> list[str]:
    """Return the tenants of the rows that a tenant is shown of what is ``asked``."""
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL row_security = on")
        for setting in tenancy.settings:
            connection.execute("SELECT set_config(%s, %s, true)", (setting, owner))
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(tenancy.role)))
        return [
            row[0]
            for row in connection.execute(
                sql.SQL("SELECT {}::text FROM {}").format(sql.Identifier(tenancy.column), asked)
            ).fetchall()
        ]

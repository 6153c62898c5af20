"""State tables: are they exactly as they were at the restore point?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psycopg

from pgdrill.baseline import DatabaseState, StateTable
from pgdrill.baseline.copied import hashed_rows
from pgdrill.baseline.state_tables import digest_of, numbered
from pgdrill.checks.base import Context, Outcome, check, not_asked
from pgdrill.checks.comparison import comparable, each_database
from pgdrill.postgres.relation_names import apart, joined
from pgdrill.postgres.row_digests import horizon_on, read_rows


@check(
    "state-tables",
    "rows",
    compares=True,
    passing=(
        "every table of drill.state_tables holds exactly the rows of the restore point: those that"
        " two snapshots around it saw, none that had been changed or deleted before, and besides"
        " only what was being written at that very instant"
    ),
    hint=(
        "the application would go on from another state than it left: compare the table with"
        " production by key; the backup or its WAL is not of that instant"
    ),
    example="agents.public.hc_agent_state: 3 rows stale, 2 missing (first at (7,1)), wanted 0",
)
def state_tables(context: Context) -> Iterator[Outcome]:
    """Yield an answer for each configured table; one that no database has is a failure."""
    if not context.cluster.drill.state_tables:
        yield Outcome("pass", "state tables", 0, "", "drill.state_tables names none")
        return
    seen: set[str] = set()

    def ask(connection: psycopg.Connection, name: str, state: DatabaseState) -> Iterator[Outcome]:
        connection.execute("SET row_security = off")
        for table, recorded in state.state_tables.items():
            seen.add(table)
            yield _compared(connection, name, table, recorded)

    yield from each_database(context, "state tables", ask, rows=True)
    if baseline := comparable(context):
        for wanted in context.cluster.drill.state_tables:
            if joined(*apart(wanted)) not in seen:
                yield _unrecorded(
                    wanted,
                    taken_at_restore_point=bool(baseline.restore_point),
                    gone=context.older_baseline,
                )


def _unrecorded(wanted: str, *, taken_at_restore_point: bool, gone: bool) -> Outcome:
    if gone:
        return not_asked(
            wanted, "production is gone, and what the table held at the end of WAL is not recorded"
        )
    if taken_at_restore_point:
        return Outcome(
            "fail",
            wanted,
            "no such table",
            "configured in drill.state_tables",
            "production has none of that name",
        )
    return Outcome(
        "skip",
        wanted,
        message="the baseline was taken without a restore point: its state is not known",
    )


def _compared(
    connection: psycopg.Connection, database: str, table: str, recorded: StateTable
) -> Outcome:
    thing = f"{database}.{table}"
    if recorded.unread:
        return Outcome("skip", thing, message=f"not recorded: {recorded.unread}")
    schema, plain = apart(table)
    try:
        if recorded.code:
            return _by_hashes(connection, thing, schema, plain, recorded)
        found = read_rows(
            connection,
            schema,
            plain,
            horizon_on(connection, recorded.horizon),
            recorded.columns or None,
        )
    except psycopg.errors.UndefinedTable:
        return Outcome("fail", thing, "no such table", f"{recorded.rows} rows")
    except psycopg.errors.UndefinedColumn as error:
        return Outcome(
            "fail",
            thing,
            error.diag.message_primary or "no such column",
            f"{recorded.rows} rows with their columns",
        )
    except psycopg.errors.InsufficientPrivilege as error:
        return Outcome(
            "skip",
            thing,
            message=(
                f"{error.diag.message_primary}: GRANT SELECT ON {table} TO {connection.info.user}"
            ),
        )
    return compare(thing, recorded, {place: (row[0], row[1]) for place, row in found.items()})


def _by_hashes(
    connection: psycopg.Connection, thing: str, schema: str, table: str, recorded: StateTable
) -> Outcome:
    """Compare a table by the hashes of its rows, where no writer of a row is known.

    A row that neither snapshot saw is old, or came and went just while the restore point was made.
    """
    rows = hashed_rows(connection, schema, table, recorded.horizon.key, recorded.columns)
    if recorded.firm is None:
        same = digest_of({place: place for place in numbered(rows)}) == recorded.digest
        answer = Outcome(
            "pass" if same else "fail",
            thing,
            rows.total(),
            f"{recorded.rows} rows, unchanged",
            "" if same else "other content",
        )
    else:
        found = numbered(rows)
        answer = compare(thing, recorded, {place: (place, False) for place in found})
        others = sum(place not in recorded.firm and place not in recorded.either for place in found)
        if others and answer.status == "pass":
            answer = Outcome(
                "warn",
                thing,
                others,
                "0 rows that neither snapshot saw",
                "stale, or written and gone at that very instant",
            )
    return replace(
        answer,
        message=f"{answer.message}; rows by their hashes alone, for {recorded.code} on production",
    )


def compare(thing: str, recorded: StateTable, found: dict[str, tuple[str, bool]]) -> Outcome:
    """Compare the found rows of a state table with the recorded ones.

    ``found``: rows by place and writer -> (hash, older than the first snapshot).
    """
    if recorded.firm is None:
        older = {place: digest for place, (digest, stable) in found.items() if stable}
        same = digest_of(older) == recorded.digest
        return Outcome(
            "pass" if same else "fail",
            thing,
            len(older),
            f"{recorded.rows} rows, unchanged",
            "" if same else "other content",
        )
    known = recorded.firm | recorded.either
    changed = [
        place for place, (digest, _) in found.items() if place in known and known[place] != digest
    ]
    missing = [place for place in recorded.firm if place not in found]
    stale = [place for place, (_, stable) in found.items() if place not in known and stable]
    if changed or missing or stale:
        words = ", ".join(
            f"{len(places)} {what}"
            for places, what in ((changed, "changed"), (missing, "missing"), (stale, "stale"))
            if places
        )
        first = min((*changed, *missing, *stale)).partition("/")[0]
        return Outcome(
            "fail",
            thing,
            f"rows: {words}",
            f"the {recorded.rows} rows of the restore point",
            f"first at {first}",
        )
    open_rows = len(recorded.either)
    return Outcome(
        "pass",
        thing,
        len(found),
        "exactly as at the restore point",
        f"rows; {open_rows} were being written at that instant" if open_rows else "rows",
    )

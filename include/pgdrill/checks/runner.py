"""The order of the checks of a restored cluster on the clock: vectors before what takes long."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import psycopg
from psycopg import sql

from pgdrill.access import Access
from pgdrill.baseline import Baseline, backup_record, every_database, settle, settle_catalogs
from pgdrill.baseline.habits import Habits
from pgdrill.baseline.production import Production
from pgdrill.checks import FAMILIES, Context, run_checks
from pgdrill.checks.base import CHECKS, COULD_NOT_RUN
from pgdrill.checks.columns import Look, seen
from pgdrill.checks.prewarm import prewarm
from pgdrill.errors import CouldNotVerify
from pgdrill.host.fence.watch import Watch
from pgdrill.host.process import Runner
from pgdrill.postgres.entry import Entry
from pgdrill.postgres.reading_only import read_only
from pgdrill.postgres.roles import Roles, make_roles
from pgdrill.postgres.server import answering
from pgdrill.recovery import presence
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports import store
from pgdrill.reports.deviations import accept, noted
from pgdrill.reports.model import (
    NOT_ASKED,
    CheckResult,
    CheckStatus,
    ColumnChecked,
    Report,
    Timings,
)
from pgdrill.text import one_line
from pgdrill.vectors.observation import Observed

logger = logging.getLogger(__name__)

VECTOR_FAMILIES = ("recovery", "vectors")
LONG = ("integrity", "search", "embeddings")
WRITING = "own"  # comes last: what an application's test writes would be taken for damage


def context_of(
    access: Access, workspace: Workspace, report: Report, runner: Runner, watch: Watch | None = None
) -> Context:
    """Return what the checks of a drill look at.

    This is its running server, its files, and what production held.
    """
    server = workspace.server(access)
    production = store.load_baseline(access, report.drill_id)
    baseline, older = None if report.not_compared else production, False
    kept = backup_record.read(access.reports, report.backup)
    if production is None and not report.not_compared and kept:
        baseline, older = _of_the_backup(
            kept.baseline, report.restored.next_xid if report.restored else 0
        )
    settling = threading.RLock()  # both write to the baseline
    limit = access.cluster.drill.statement_timeout_seconds
    databases = _databases(access, server.system)
    with answering("its roles"):
        roles = make_roles(server, workspace.directory / "roles", databases)

    return Context(
        cluster=access.cluster,
        connect=checking(roles.connect, limit),
        made_roles=roles,
        tenancy=tenancy_of(roles, limit),
        databases=databases,
        baseline=baseline,
        older_baseline=older,
        production=production,
        report=report,
        settle=once(lambda: settled(access, baseline, runner=runner, report=report), settling),
        settle_catalogs=once(
            lambda: settled(access, baseline, only=settle_catalogs, runner=runner, report=report),
            settling,
        ),
        habits=Habits(
            access,
            runner,
            report.backup,
            identifier=report.restored.system_identifier if report.restored else None,
        ).of,
        production_now=Production(access, runner).catalogs,
        prepare=server.system,
        home=server.database,
        entered_as=_own(workspace),
        built=kept.built if kept else {},
        recorded=kept.baseline if kept else None,
        log_file=workspace.log_file,
        data_directory=workspace.data_directory,
        configuration=workspace.configuration,
        watch=watch,
        runner=runner,
    )


def _of_the_backup(baseline: Baseline, next_xid: int) -> tuple[Baseline, bool]:
    """Return the baseline of the backup's record, and whether it is older than what was restored.

    Where production is gone this record is the best there is.
    """
    if baseline.nothing_since(next_xid):
        return baseline, False
    return baseline.as_of_before(next_xid), True


def _own(workspace: Workspace) -> tuple[str, ...]:
    """Return the superuser that the drill itself had to make; empty if none."""
    entry = Entry.read(workspace.entry_file)
    return (entry.superuser,) if entry and entry.made else ()


def forget_roles(roles: Roles | None, databases: Sequence[str]) -> None:
    """Remove the drill's own roles from a copy that is kept.

    It then shows nothing that production does not have. If damage prevents this it is logged; by
    now the checks have told of it.
    """
    if roles:
        try:
            roles.remove(databases)
        except psycopg.Error as error:
            logger.warning("the drill's own roles stay in the copy: %s", type(error).__name__)


def tenancy_of(
    roles: Roles, limit_seconds: float
) -> Callable[[str, str], AbstractContextManager[psycopg.Connection]]:
    """Return the function by which a check becomes an application's role."""

    @contextlib.contextmanager
    def tenancy(database: str, role: str) -> Iterator[psycopg.Connection]:
        with roles.tenancy(database, role) as connection:
            yield checking(lambda _: connection, limit_seconds)(database)

    return tenancy


def once(ask: Callable[[], bool], lock: threading.RLock) -> Callable[[], bool]:
    """Return a function that asks when it is first called, and only then.

    Several may call it at the same time.
    """
    answer = functools.cache(ask)

    def asked() -> bool:
        with lock:
            return answer()

    return asked


def checking(
    connect: Callable[[str], psycopg.Connection], timeout_seconds: float
) -> Callable[[str], psycopg.Connection]:
    """Return a function that opens connections for checks.

    They are read-only and bounded, with pgvector's schema in the search path. No statement leaves
    anything to the next.
    """

    def connection(database: str) -> psycopg.Connection:
        made = connect(database)
        read_only(made)
        made.execute("SET default_transaction_read_only = on")
        made.execute(
            sql.SQL("SET statement_timeout = {}").format(sql.Literal(int(timeout_seconds * 1000)))
        )
        row = made.execute(
            "SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON"
            " n.oid = e.extnamespace WHERE extname = 'vector'"
        ).fetchone()
        made.execute(
            sql.SQL("SET search_path = {}").format(
                sql.SQL(", ").join(map(sql.Identifier, dict.fromkeys(["public", *(row or ())])))
            )
        )
        return made

    return connection


def ask(
    context: Context,
    report: Report,
    families: Sequence[str],
    before_writing: Callable[[], None] = lambda: None,
) -> None:
    """Ask the checks of these families and keep their answers in the report.

    The time to correct vector search is kept there, too. ``before_writing`` is called when
    everything is compared, and before the application's own test, which may write.
    """
    report.results.clear()
    report.families_left_out = [family for family in FAMILIES if family not in families]
    ordered = [family for family in FAMILIES if family in families]
    early = [family for family in ordered if family in VECTOR_FAMILIES]
    timings = report.timings
    if "vectors" in early:
        _prewarm(context, timings)
    started = time.monotonic()
    report.results.extend(run_checks(context, early))
    timings.vector_checks_seconds = time.monotonic() - started
    try:
        timings.vector_bytes = _vector_bytes(context)
        if "vectors" in early:
            timings.columns = [_column(look, column) for look, column in seen(context)]
            timings.looking_seconds = context.cache.looking_seconds
    except (psycopg.Error, CouldNotVerify) as error:  # the checks say what is broken there
        logger.warning("how large the tables with vectors are cannot be read: %s", error)
    if timings.time_to_running_seconds is not None and _all_answered(report.results):
        timings.time_to_correct_vector_search_seconds = (
            timings.time_to_running_seconds
            + (timings.prewarm_seconds or 0.0)
            + timings.vector_checks_seconds
        )
    report.results.append(accept(_rto(report), context.cluster.deviations))
    if absent := presence.answer(report, context.cluster.drill.without_production):
        report.results.append(absent)
    with context.closing:
        report.results.extend(
            _beside_each_other(
                context, [family for family in ordered if family not in (*early, WRITING)]
            )
        )
    before_writing()
    ask_the_rest(context, report, families)


def ask_the_rest(context: Context, report: Report, families: Sequence[str]) -> None:
    """Ask the checks that come when nothing is compared any more.

    These are the application's own test, which may write, and what went on meanwhile.
    """
    ordered = [family for family in FAMILIES if family in families]
    afterwards = {one.name for one in CHECKS.values() if one.last or one.family == WRITING}
    report.results[:] = [result for result in report.results if result.name not in afterwards]
    report.results.extend(run_checks(context, [family for family in ordered if family == WRITING]))
    report.results.extend(run_checks(context, ordered, last=True))
    # as before, where it was not asked again
    report.compared = context.cache.compared or report.compared
    report.deviations = noted(context.cluster.deviations, report.results)


def _prewarm(context: Context, timings: Timings) -> None:
    """Warm up the vector indexes, and note the time of that by itself.

    The checks then take what searches in memory take.
    """
    done = prewarm(context)
    timings.prewarm_seconds = done.seconds
    timings.prewarm_reading_seconds = done.reading_seconds
    timings.prewarmed_bytes = done.bytes
    context.cache.cold_ms = done.cold_ms
    if done.left_bytes:
        logger.info(
            "%.0f MB of vector indexes do not fit into memory and were not warmed up",
            done.left_bytes / 1e6,
        )


def _column(look: Look, column: Observed) -> ColumnChecked:
    methods = {one.search.index.method for one in column.searches if one.search.index}
    return ColumnChecked(
        column=look.name,
        method="ivfflat" if "ivfflat" in methods else "hnsw" if methods else "",
        rows=column.reading.rows if column.reading else 0,
        dimensions=column.cell.dimensions,
        table_bytes=look.column.table_bytes,
        seconds=look.seconds,
        read_seconds=column.read_seconds,
        search_seconds=column.search_seconds,
    )


def _beside_each_other(context: Context, families: Sequence[str]) -> Iterator[CheckResult]:
    """Run as many families at a time as keep the cores busy, and yield the answers in their order.

    The families that take long begin first. What damage does to the server in one family, crashing
    it, others feel: a family in which a check could not run is asked again afterwards, alone.
    """
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)) + 1, "checks")
    try:
        asked = {
            family: pool.submit(_answers, context, family)
            for family in sorted(families, key=lambda it: it not in LONG)
        }
        answers = {family: asked[family].result() for family in families}
    finally:
        # a stopped job does not wait for queries; their server ends them
        pool.shutdown(wait=False, cancel_futures=True)
    for family in families:
        disturbed = len(families) > 1 and any(
            answer.message.startswith(COULD_NOT_RUN) for answer in answers[family]
        )
        yield from _answers(context, family) if disturbed else answers[family]


def _answers(context: Context, family: str) -> list[CheckResult]:
    return list(run_checks(context, [family]))


def _vector_bytes(context: Context) -> int:
    """Return the size in bytes of the tables that hold vectors, their indexes included.

    The vector checks' time grows with it.
    """
    total = 0
    for database in context.databases:
        with context.system(database) as connection:
            row = connection.execute(
                "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::int8 FROM pg_class c WHERE"
                " c.relkind IN ('r', 'm') AND EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON"
                " t.oid = a.atttypid WHERE a.attrelid = c.oid AND a.attnum > 0 AND t.typname IN"
                " ('vector', 'halfvec', 'sparsevec'))"
            ).fetchone()
            total += int(row[0]) if row else 0
    return total


def _all_answered(results: list[CheckResult]) -> bool:
    vectors = [result for result in results if result.family == "vectors"]
    asked = [result for result in vectors if result.value != NOT_ASKED]
    return bool(asked) and all(result.status in ("pass", "warn") for result in asked)


def _rto(report: Report) -> CheckResult:
    value = report.timings.time_to_correct_vector_search_seconds
    status: CheckStatus = (
        "skip" if value is None else "pass" if value <= report.rto_seconds else "fail"
    )
    if value is None and "vectors" in report.families_left_out:
        return CheckResult(
            name="rto",
            family="recovery",
            status="skip",
            thing="time to correct vector search",
            value=NOT_ASKED,
            message="vectors were left out, by choice",
            required=False,
        )
    return CheckResult(
        name="rto",
        family="recovery",
        status=status,
        thing="time to correct vector search",
        value=None if value is None else round(value, 1),
        threshold=f"<= {report.rto_seconds:g} s",
        required=False,
        message=(
            "" if value is not None else "vector search was not correct, so there is no time to it"
        ),
        hint=(
            "see `fetch`, `replay` and `vector checks` for where the time goes"
            if status == "fail"
            else ""
        ),
    )


def _databases(access: Access, connect: Callable[[str], psycopg.Connection]) -> tuple[str, ...]:
    if access.cluster.server.databases:
        return access.cluster.server.databases
    with answering("its list of databases"), connect("") as connection:
        return every_database(connection)


def settled(
    access: Access,
    baseline: Baseline | None,
    *,
    only: Callable[..., None] = settle,
    runner: Runner | None = None,
    report: Report | None = None,
) -> bool:
    """Complete the baseline with what was written since, and return True if that is done.

    False where production does not answer any more; ``report`` then says why.
    """
    if baseline is None or not baseline.restore_point:
        return False
    if baseline.settled_at:
        return True
    try:
        only(access, baseline, runner=runner)
    except (CouldNotVerify, psycopg.Error) as error:
        logger.warning("what was written since the baseline stays unknown: %s", error)
        if report:
            report.production_lost = (
                error.problem.found if isinstance(error, CouldNotVerify) else one_line(str(error))
            )
        return False
    return True

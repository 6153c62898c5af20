"""Retention as a job: look, plan, refuse or do it step by step, look again.

A run that was killed at any point can be started again: it plans afresh from what is there, and
goes on. At every point in between all promises hold, for protecting comes first and only what no
promise needs is ever touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pgdrill.access import Access
from pgdrill.errors import (
    BackupFault,
    Busy,
    ConfigError,
    CouldNotVerify,
    Problem,
    as_could_not_verify,
)
from pgdrill.host.lock import ClusterLock, lease_for, this_process
from pgdrill.host.process import Runner
from pgdrill.recovery.sweep import sweep_first
from pgdrill.repository import prune_runs
from pgdrill.repository.leases import HeldLease, board_of, exclusive
from pgdrill.repository.leases.model import Kind
from pgdrill.repository.ledger import forget
from pgdrill.repository.prune_runs import RunRecord
from pgdrill.retention import journal
from pgdrill.retention.collect import take_inventory
from pgdrill.retention.execute import Progress, account, carry_out
from pgdrill.retention.inventory import Inventory
from pgdrill.retention.keeping import Keeping
from pgdrill.retention.plan import Plan, make_plan
from pgdrill.retention.refusals import broken_holds, clock_refusal, refusals

OWNER = "retention"
LOCK_WAIT_SECONDS = 5.0
# what the local locks that a run takes keep away
OURS: frozenset[Kind] = frozenset({"backup", "drill", "prune"})


@dataclass(frozen=True)
class Outlook:
    """What a run would do: the plan, what it was made from, why it would be refused, and what else
    would be but for a person's word.
    """

    now: datetime
    inventory: Inventory
    plan: Plan
    refusals: tuple[Problem, ...]
    let_pass: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class PruneResult:
    """What a run did. ``left``: planned and still there; ``locked``: not let go by the store's
    object lock; ``kept``: what came since the plan was made keeps it, in words.
    """

    cluster: str
    applied: bool
    digest: str
    backups_kept: int
    backups_deleted: int
    dumps_deleted: int
    wal_segments_deleted: int
    freed_bytes: int
    promises: list[dict[str, Any]]
    locked: list[str]
    left: list[str]
    kept: list[str]
    next_deletion_at: datetime | None
    journal: str


def look(
    access: Access,
    runner: Runner,
    *,
    now: datetime | None = None,
    named: Iterable[str] = (),
    allowed: Collection[str] = (),
) -> Outlook:
    """Plan and write nothing: the dry run."""
    now = now or datetime.now(UTC)
    policy = access.cluster.retention
    inventory = take_inventory(access, runner)
    _known_names(access, inventory, named := frozenset(named))
    plan = make_plan(inventory, policy, now, named)
    refused = refusals(inventory, plan, policy, now, allowed)
    let_pass = tuple(
        problem for problem in refusals(inventory, plan, policy, now) if problem not in refused
    )
    return Outlook(now, inventory, plan, (*broken_holds(inventory), *refused), let_pass)


def prune(
    access: Access,
    runner: Runner,
    *,
    now: datetime | None = None,
    named: Iterable[str] = (),
    allowed: Collection[str] = (),
    approved: str = "",
    progress: Progress = lambda *_: None,
) -> PruneResult:
    """Carry the plan out.

    ``approved``: the digest somebody agreed to; another plan is refused, but for what is left of
    that one.

    Raises the first refusal, also where another job would have to be waited for first; a step that
    fails ends the run, with the journal saying how far it came.
    """
    sweep_first(access)
    with contextlib.ExitStack() as held:
        try:
            lease = held.enter_context(_alone(access))
        except Busy:
            _refuse(look(access, runner, now=now, named=named, allowed=allowed))
            raise
        outlook = look(access, runner, now=now, named=named, allowed=allowed)
        _refuse(outlook)
        _as_approved(access, outlook.plan, approved)
        if outlook.inventory.forgotten:  # allowed, or it had been refused
            forget(access.reports, outlook.inventory.forgotten)
        if not outlook.plan.steps:
            return result_of(access, outlook, None)
        return _carry_out(access, runner, outlook, lease, real_clock=now is None, progress=progress)


def _known_names(access: Access, inventory: Inventory, named: frozenset[str]) -> None:
    """Raise unless what a person names is there, or an earlier run took it away."""
    there = {*inventory.names, *(f"{run.timeline:08X}" for run in inventory.wal.runs)}
    if not (lacking := named - there) or not (
        lacking := lacking
        - {step.name for run in prune_runs.runs(access.reports) for step in run.steps}
    ):
        return
    raise ConfigError(
        "no-such-name",
        f"{', '.join(sorted(lacking))}, to be removed by name",
        found=f"nothing of that name in {access.repository.url}",
        expected="the full name of a leftover, a timeline (eight digits) or a backup",
        hint=f"copy it from what `pgdrill prune {access.cluster.name}` shows",
    )


def _refuse(outlook: Outlook) -> None:
    if outlook.refusals:
        raise as_could_not_verify(outlook.refusals[0])


def _as_approved(access: Access, plan: Plan, approved: str) -> None:
    """Raise unless this is the approved plan, or what is left of it.

    A run that was killed, or that did it all, leaves such a rest.
    """
    if not approved or approved == plan.digest:
        return
    steps = {(step.kind, step.name) for step in plan.steps}
    if any(
        run.digest == approved and steps <= {(step.kind, step.name) for step in run.steps}
        for run in prune_runs.runs(access.reports)
    ):
        return
    raise CouldNotVerify(
        "plan-changed",
        f"retention plan of {access.cluster.name}",
        found=f"plan {plan.digest}" if steps else "a plan by which nothing goes",
        expected=f"plan {approved}, which was approved",
        hint="look at the new plan and approve it",
    )


@contextlib.contextmanager
def _alone(access: Access) -> Iterator[HeldLease]:
    """Keep every backup and drill of the cluster off this host meanwhile.

    On other hosts no backup and no prune runs. A drill elsewhere is no hindrance: its lease is read
    again before each deletion.
    """
    state = access.cluster.state_directory
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        for name in ("backup", "drill"):
            lock = ClusterLock(state / f"{name}.lock")
            lease = lease_for(
                OWNER, state, 6 * access.cluster.retention.timeout_seconds, this_process()
            )
            held.enter_context(lock.hold(lease, wait_seconds=LOCK_WAIT_SECONDS))
            held.callback(lock.release, OWNER)
        yield held.enter_context(_lease(access))


@contextlib.contextmanager
def _lease(access: Access) -> Iterator[HeldLease]:
    """Hold the lease in the store: without permission to write one nothing is deleted."""
    life = access.cluster.repository.lease_seconds
    with exclusive(
        board_of(access),
        "prune",
        OWNER,
        life_seconds=life,
        wait_seconds=LOCK_WAIT_SECONDS,
        over=OURS,
    ) as lease:
        yield lease


def _carry_out(
    access: Access,
    runner: Runner,
    outlook: Outlook,
    lease: HeldLease,
    *,
    real_clock: bool,
    progress: Progress,
) -> PruneResult:
    run = journal.begin(access, outlook.plan, outlook.now)
    dead = frozenset(lease.board.key(kind) for kind in OURS)
    keeping = Keeping(access, lease, outlook.inventory, outlook.plan, outlook.now, dead)
    try:
        if real_clock:
            _clock(access, run)
        carry_out(access, runner, outlook.inventory, outlook.plan, run, keeping, progress)
        after = look(access, runner, now=outlook.now)
        account(access, outlook.inventory, outlook.plan, run, after.inventory, after.plan.before)
        _holds_kept(after)
    except BaseException as error:
        run.state, run.reason = "failed", str(error)[:500] or type(error).__name__
        run.ended_at = datetime.now(UTC)
        prune_runs.write(access.reports, run)
        raise
    run.state, run.ended_at = "done", datetime.now(UTC)
    prune_runs.write(access.reports, run)
    return result_of(access, outlook, run)


def _holds_kept(after: Outlook) -> None:
    for problem in broken_holds(after.inventory):
        raise BackupFault(
            problem.reason,
            problem.thing,
            found=problem.found,
            expected=problem.expected,
            hint=problem.hint,
        )


def _clock(access: Access, run: RunRecord) -> None:
    written = access.reports.written(prune_runs.RUNS)[prune_runs.key(run)]
    problem = clock_refusal(datetime.now(UTC), written)
    if problem:
        raise as_could_not_verify(problem)


def result_of(access: Access, outlook: Outlook, run: RunRecord | None) -> PruneResult:
    """Return what was done, or with ``run`` None what would be."""
    plan = outlook.plan
    states = {(step.kind, step.name): step.state for step in run.steps} if run else {}

    def count(kind: str) -> int:
        return sum(
            1
            for step in plan.steps
            if step.kind == kind
            and (run is None or states[kind, step.name] in ("done", "was done"))
        )

    promises = run.promises if run else journal.promise_records(plan.before, plan.after)
    deleted = count("delete-backup")
    return PruneResult(
        cluster=access.cluster.name,
        applied=run is not None,
        digest=plan.digest,
        backups_kept=len(outlook.inventory.backups) - deleted,
        backups_deleted=deleted,
        dumps_deleted=count("delete-dump"),
        wal_segments_deleted=run.wal_segments if run else plan.segments,
        freed_bytes=run.freed_bytes if run else plan.freed_bytes,
        promises=[promise.model_dump() for promise in promises],
        locked=[name for (_, name), state in states.items() if state == "locked"],
        left=[name for (_, name), state in states.items() if state == "left"],
        kept=[f"{step.name}: {step.detail}" for step in run.steps if step.state == "kept"]
        if run
        else [],
        next_deletion_at=plan.next_deletion_at,
        journal=f"{access.reports.url}/{prune_runs.key(run)}" if run else "",
    )

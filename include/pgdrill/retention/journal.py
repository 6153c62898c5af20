"""The journal of a run of retention: what it is going to do, and what the promises were."""

from __future__ import annotations

from datetime import UTC, datetime

from pgdrill.access import Access
from pgdrill.repository.prune_runs import PromiseRecord, RunRecord, StepRecord, write
from pgdrill.retention.plan import Plan
from pgdrill.retention.promises import Promise


def begin(access: Access, plan: Plan, now: datetime) -> RunRecord:
    """Write down what is going to be done, before it is."""
    why = {decision.name: "; ".join(decision.why) for decision in plan.goes}
    run = RunRecord(
        run_id=f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{plan.digest[:6]}",
        cluster=access.cluster.name,
        started_at=now,
        digest=plan.digest,
        planned_bytes=plan.freed_bytes,
        promises=promise_records(plan.before, plan.after),
        steps=[
            StepRecord(
                kind=step.kind,
                name=step.name,
                why=plan.wal_words if step.kind == "delete-wal" else why.get(step.name, ""),
            )
            for step in plan.steps
        ],
    )
    write(access.reports, run)
    return run


def promise_records(before: tuple[Promise, ...], after: tuple[Promise, ...]) -> list[PromiseRecord]:
    """Return the promises for the journal and XCom."""
    later = {promise.name: promise.found for promise in after}
    return [
        PromiseRecord(
            name=p.name, promised=p.promised, before=p.found, after=later[p.name], unit=p.unit
        )
        for p in before
    ]

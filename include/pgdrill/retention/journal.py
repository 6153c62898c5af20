"""The journal of a run of retention: step by step, kept beside the backups while it works."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pgdrill.access import Access
from pgdrill.documents import Bytes, Instant, read_model
from pgdrill.errors import BackupFault
from pgdrill.retention.plan import Plan
from pgdrill.retention.promises import Promise

RUNS = "retention/runs/"
StepState = Literal["to do", "done", "was done", "locked", "left", "kept"]


class Part(BaseModel):
    """A part of the journal."""

    model_config = ConfigDict(extra="forbid")


class StepRecord(Part):
    """One step of a run.

    ``locked``: the store did not let it; ``left``: the tool reported success and objects are still
    there; ``kept``: something that came since it was planned keeps it, ``detail`` says what.
    """

    kind: str
    name: str
    why: str = ""
    state: StepState = "to do"
    detail: str = ""


class PromiseRecord(Part):
    """A promise before and after a run."""

    name: str
    promised: float
    before: float
    after: float
    unit: str


class RunRecord(Part):
    """One run.

    ``state`` stays ``running`` if it was killed; the next one plans afresh from what is there.
    """

    version: int = 1
    run_id: str
    cluster: str
    started_at: Instant
    ended_at: Instant | None = None
    state: Literal["running", "done", "failed"] = "running"
    reason: str = ""
    digest: str
    planned_bytes: Bytes
    freed_bytes: Bytes = 0
    wal_segments: int = 0
    promises: list[PromiseRecord]
    steps: list[StepRecord] = Field(default_factory=list)


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
    write(access, run)
    return run


def key(run: RunRecord) -> str:
    """Return where a run's journal is kept."""
    return f"{RUNS}{run.run_id}.json"


def write(access: Access, run: RunRecord) -> None:
    """Keep the journal as it now is."""
    access.reports.write(key(run), run.model_dump_json(indent=1).encode())


def runs(access: Access) -> list[RunRecord]:
    """Read every run, oldest first.

    A run that cannot be read is left out: then what it deleted is missed, and somebody is asked.
    """
    found = []
    for name in sorted(access.reports.sizes(RUNS)):
        try:
            found.append(read_model(RunRecord, access.reports.read(name)))
        except (ValueError, BackupFault):
            continue
    return found


def promise_records(before: tuple[Promise, ...], after: tuple[Promise, ...]) -> list[PromiseRecord]:
    """Return the promises for the journal and XCom."""
    later = {promise.name: promise.found for promise in after}
    return [
        PromiseRecord(
            name=p.name, promised=p.promised, before=p.found, after=later[p.name], unit=p.unit
        )
        for p in before
    ]

"""What retention's runs did, step by step, kept beside the backups while they do it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pgdrill.documents import Bytes, Instant, StrictModel, read_model
from pgdrill.errors import BackupFault
from pgdrill.repository.object_store import Storage

RUNS = "retention/runs/"
StepState = Literal["to do", "done", "was done", "locked", "left", "kept"]


class StepRecord(StrictModel, frozen=False):
    """One step.

    ``locked``: the store did not let it. ``left``: the tool reported success and objects are still
    there. ``kept``: something that came since it was planned keeps it; ``detail`` says what.
    """

    kind: str
    name: str
    why: str = ""
    state: StepState = "to do"
    detail: str = ""


class PromiseRecord(StrictModel):
    """A promise before and after."""

    name: str
    promised: float
    before: float
    after: float
    unit: str


class RunRecord(StrictModel, frozen=False):
    """One run.

    ``state`` stays ``running`` if it was killed. The next one plans afresh from what is there.
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


def key(run: RunRecord) -> str:
    """Return where a run's journal is kept."""
    return f"{RUNS}{run.run_id}.json"


def write(reports: Storage, run: RunRecord) -> None:
    """Keep the journal as it now is."""
    reports.write(key(run), run.model_dump_json(indent=1).encode())


def runs(reports: Storage) -> list[RunRecord]:
    """Return every run, oldest first.

    A run that cannot be read is left out: then what it deleted is missed, and somebody is asked.
    """
    found = []
    for name in sorted(reports.sizes(RUNS)):
        try:
            found.append(read_model(RunRecord, reports.read(name)))
        except (ValueError, BackupFault):
            continue
    return found


def deleted(reports: Storage, kind: str) -> set[str]:
    """Return the names of what the runs deleted by steps of a kind, or perhaps did.

    A run that was killed did not write down its last step.
    """
    return {
        step.name
        for run in runs(reports)
        for step in run.steps
        if step.kind == kind
        and (step.state in ("done", "was done") or (step.state == "to do" and run.state != "done"))
    }

"""Every job that talks to a store, and what came of it, as far as that says itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pgdrill.access import Access

LIVE = ("backup", "baseline")  # need production's own repository, for what they wait to be archived
JOBS = (
    "backup",
    "drill",
    "dump",
    "dump-drill",
    "plan",
    "prune",
    "window",
    "baseline",
    "hold",
    "report",
)


@dataclass(frozen=True)
class Work:
    """What a job is given."""

    access: Access
    target: str
    later: Any
    held: str
    spare: str  # a backup that is not held
    dump: str
    look: bool = True  # at the restored cluster, which is kept for it


def backup(work: Work) -> Any:
    from pgdrill.backup import take_backup

    return take_backup(work.access).name


def drill(work: Work) -> Any:
    from pgdrill.drill import destroy_stage, new_drill_id
    from pgdrill.drill import drill as whole_drill
    from pgdrill.recovery.workspace import Workspace
    from tests.faults.site import CONTENT

    drill_id, content = new_drill_id(), None
    report = whole_drill(work.access, target=work.target, drill_id=drill_id, keep=work.look)
    if not work.look:
        return judged(report)
    if report.restore.status == "ok":
        with (
            Workspace.of(work.access, drill_id).server(work.access).connect("agents") as connection
        ):
            content = connection.execute(CONTENT).fetchone()
    report = destroy_stage(work.access, drill_id) or report
    return judged(report, content=content)


def dump(work: Work) -> Any:
    from pgdrill.logical.take import take_dump

    return take_dump(work.access).dump_id


def dump_drill(work: Work) -> Any:
    from pgdrill.logical.drill import Options, drill_dump

    return judged(drill_dump(work.access, Options(dump=work.dump)))


def judged(report: Any, **more: Any) -> dict[str, Any]:
    """A report's verdict. What it could not do, and whose fault it was, is in the report, not an
    exception.
    """
    return {
        "verdict": report.verdict,
        "reason": report.reason,
        "drill_id": report.drill_id,
        "kept_at": report.kept_at,
        **more,
    }


def plan(work: Work) -> Any:
    from pgdrill.host.process import Runner
    from pgdrill.retention.prune import look

    outlook = look(work.access, Runner(), now=work.later)
    return {
        "goes": sorted(decision.name for decision in outlook.plan.goes),
        "refused": [problem.reason for problem in outlook.refusals],
    }


def prune(work: Work) -> Any:
    from pgdrill.host.process import Runner
    from pgdrill.retention.prune import prune as whole_prune

    result = whole_prune(work.access, Runner(), now=work.later)
    return {"deleted": result.backups_deleted, "left": result.left}


def window(work: Work) -> Any:
    from pgdrill.host.process import Runner
    from pgdrill.retention.collect import take_inventory
    from pgdrill.retention.window import window_of

    found = window_of(
        "agents", take_inventory(work.access, Runner()), work.access.cluster.retention, work.later
    )
    return {
        "spans": [[one.start_lsn, one.end_lsn, list(one.backups)] for one in found.spans],
        "backups": found.backups,
        "dumps": found.dumps,
        "segments": found.wal_segments,
    }


def baseline(work: Work) -> Any:
    from pgdrill.baseline import settle, take_baseline
    from pgdrill.drill import new_drill_id
    from pgdrill.reports import store

    name = new_drill_id()
    taken = take_baseline(work.access, restore_point=f"pgdrill-{name}")
    settle(work.access, taken)
    return {"kept_at": store.keep_baseline(work.access, name, taken), "name": name}


def hold(work: Work) -> Any:
    from pgdrill.retention import holds

    return holds.add_hold(
        work.access, work.spare, why="audit", until=work.later + timedelta(days=1)
    ).name


def report(work: Work) -> Any:
    from pgdrill.logical import store as keep
    from pgdrill.reports import store

    return {
        "reports": store.list_reports(work.access),
        "dumps": [[one.dump_id, one.counts] for one in keep.listed(work.access)],
    }


ENTRIES: Mapping[str, Callable[[Work], Any]] = {
    "backup": backup,
    "drill": drill,
    "dump": dump,
    "dump-drill": dump_drill,
    "plan": plan,
    "prune": prune,
    "window": window,
    "baseline": baseline,
    "hold": hold,
    "report": report,
}


def impatient() -> None:
    """Limits of seconds instead of minutes: what is tried is that there are limits."""
    from pgdrill.host import lock, process
    from pgdrill.repository import object_store, wal_files
    from pgdrill.retention import holds

    object_store.REQUEST_TIMEOUT = "3s"
    object_store.PATIENT_TIMEOUT = "4s"
    object_store.SILENCE_TIMEOUT = "4s"
    object_store.PATIENT_RETRIES = object_store.RETRIES
    process.CONSUMER_SECONDS, wal_files.QUICK_SECONDS = 4.0, 8
    holds.add_hold.__kwdefaults__["wait_seconds"] = 5.0
    lock.ClusterLock.hold.__wrapped__.__kwdefaults__["wait_seconds"] = 2.0  # type: ignore[attr-defined]


def run(name: str, work: Work) -> dict[str, Any]:
    """How it ended: ``done``, ``failed`` (a backup's fault), ``could not verify``, ``config`` or
    ``crash``; with what and how long.
    """
    from pgdrill.errors import BackupFault, ConfigError, CouldNotVerify

    started = time.monotonic()
    try:
        said = ENTRIES[name](work)
    except BackupFault as error:
        end, said = "failed", error.problem.reason
    except CouldNotVerify as error:
        end, said = "could not verify", error.problem.reason
    except ConfigError as error:
        end, said = "config", error.problem.reason
    except BaseException as error:  # what nobody foresaw is what these cases look for
        end, said = "crash", f"{type(error).__name__}: {error}"[:500]
    else:
        end = (
            {"passed": "done"}.get(said["verdict"], said["verdict"])
            if isinstance(said, dict) and "verdict" in said
            else "done"
        )
    return {"end": end, "said": said, "seconds": round(time.monotonic() - started, 1)}

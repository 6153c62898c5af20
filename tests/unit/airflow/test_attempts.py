"""Which drill a run's restore begins: its first, the one that it did not finish, or a new one
beside what is evidence.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pgdrill.access import Access
from pgdrill.airflow.attempts import Attempt, left_behind, next_attempt, next_dump_attempt
from pgdrill.config import Cluster, Drill, RepositorySettings, Server
from pgdrill.errors import BackupFault, Unreachable
from pgdrill.logical import store as keep
from pgdrill.logical.report import DumpReport
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports import store
from pgdrill.reports.model import Stage
from tests.reports import passed_report

RUN = "20261127T110000Z-scheduled-1f0c2a9b"
TRIGGER = "airflow: scheduled__2026-11-27T11:00:00+00:00"
WORDS = {"found": "nothing", "expected": "an answer", "hint": "wait"}


@pytest.fixture
def access(tmp_path: Path) -> Access:
    return Access(
        Cluster(
            name="agents",
            server=Server(data_directory=tmp_path),
            repository=RepositorySettings(url=f"file://{tmp_path}/store"),
            drill=Drill(work_directory=tmp_path / "work"),
        )
    )


def begun(
    access: Access, drill_id: str, error: Exception | None = None, trigger: str = TRIGGER
) -> None:
    """A drill whose restore ended so, or did not end."""
    report = passed_report(drill_id, trigger=trigger).model_copy(
        update={
            "restore": Stage(status="running"),
            "checks": Stage(),
            "results": [],
            "restored": None,
        }
    )
    if error:
        report.restore.fail(error)
    report.judge()
    store.save_report(access, report)


def test_a_run_without_a_drill_begins_its_first(access: Access) -> None:
    assert next_attempt(access, RUN, TRIGGER) == Attempt(RUN)


@pytest.mark.parametrize("error", [None, Unreachable("storage-unreachable", "s3", **WORDS)])
def test_what_did_not_come_to_an_end_is_begun_again(
    access: Access, error: Exception | None
) -> None:
    begun(access, RUN, error)
    assert next_attempt(access, RUN, TRIGGER) == Attempt(RUN)


def test_what_was_found_damaged_is_evidence(access: Access) -> None:
    begun(access, RUN, BackupFault("wal-gap", "segment 12", **WORDS))
    assert next_attempt(access, RUN, TRIGGER) == Attempt(f"{RUN}-2", RUN)


def test_each_clear_of_a_run_that_passed_is_another_drill(access: Access) -> None:
    for number in range(1, 12):
        drill_id = RUN if number == 1 else f"{RUN}-{number}"
        store.save_report(access, passed_report(drill_id, trigger=TRIGGER))
        assert next_attempt(access, RUN, TRIGGER) == Attempt(f"{RUN}-{number + 1}", drill_id)
        assert Workspace.of(access, f"{RUN}-{number + 1}")


def test_a_report_that_only_the_store_has_counts_for_workers_come_and_go(access: Access) -> None:
    store.save_report(access, passed_report(RUN, trigger=TRIGGER))
    store.report_file(access, RUN).unlink()
    assert next_attempt(access, RUN, TRIGGER) == Attempt(f"{RUN}-2", RUN)


def test_another_runs_report_of_such_a_name_is_neither_continued_nor_overwritten(
    access: Access,
) -> None:
    store.save_report(access, passed_report("nightly-2", trigger="airflow: nightly-2"))
    assert next_attempt(access, "nightly", "airflow: nightly") == Attempt("nightly-3")
    begun(access, "nightly", trigger="airflow: nightly")
    assert next_attempt(access, "nightly", "airflow: nightly") == Attempt("nightly")
    assert next_attempt(access, "night", "airflow: night") == Attempt("night")


def test_each_restore_of_a_dump_has_a_report_of_its_own(access: Access) -> None:
    assert next_dump_attempt(access, RUN) == Attempt(RUN)
    report = DumpReport(
        drill_id=RUN,
        dump_id="20261127T040000Z-abcdef",
        cluster="agents",
        started_at=passed_report("x").started_at,
    )
    keep.save_report(access, report)
    assert next_dump_attempt(access, RUN) == Attempt(f"{RUN}-2", RUN)
    (access.cluster.state_directory / "dump-reports" / f"{RUN}.json").unlink()
    assert next_dump_attempt(access, RUN) == Attempt(f"{RUN}-2", RUN)


def test_folders_of_every_drill_of_a_run_are_found_and_of_no_other(access: Access) -> None:
    assert left_behind(access, RUN) == []
    for name in (RUN, f"{RUN}-2", f"{RUN}-10", f"{RUN}x", "another"):
        Workspace.of(access, name).directory.mkdir(parents=True)
    assert left_behind(access, RUN) == [RUN, f"{RUN}-2", f"{RUN}-10"]

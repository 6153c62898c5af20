"""Fourteen weeks of history made with the real tools, pruned, and restored from by each tool alone.

The rivals, the tools' own ways to delete, are given the same history.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pgdrill.access import Access
from pgdrill.errors import CouldNotVerify
from pgdrill.host.process import Runner
from pgdrill.repository import prune_runs
from pgdrill.retention.prune import look, prune
from pgdrill_demo.stack import Stack
from tests.conftest import TOOLS, need, thorough
from tests.integration.retention.fourteen_weeks import (
    DAY,
    WINDOW,
    History,
    Repository,
    live_through,
)
from tests.reports import passed_report

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", params=TOOLS)
def history(request: pytest.FixtureRequest) -> Iterator[History]:
    """Made once for a tool; tests work on copies."""
    if need(request.param) == "barman-cloud" and not thorough():
        pytest.skip(
            "fourteen weeks by barman-cloud take minutes: `make histories`, which `make thorough`"
            " runs"
        )
    stack = Stack(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool=request.param)
    today = datetime.now(UTC).replace(hour=14, minute=0, second=0, microsecond=0)
    try:
        stack.create(sample=False)
        stack.start()
        made = History(stack, now=today - DAY * ((today.weekday() - 5) % 7 or 7))
        live_through(made)
        yield made
    finally:
        stack.remove()


def passed_drill(access: Access, backup: str, at: datetime) -> None:
    """A report that says so, as a drill leaves it."""
    report = passed_report(
        f"d-{backup[-6:].lower()}", cluster=access.cluster.name, started_at=at, backup=backup
    )
    access.reports.write(f"reports/{report.drill_id}.json", report.model_dump_json().encode())


@pytest.fixture(scope="module")
def pruned(history: History) -> Repository:
    """A copy after pgdrill has pruned it."""
    copy = history.copy("pruned")
    access = copy.access()
    passed_drill(access, history.weekly[3], history.now - DAY * 60)
    before = copy.files()
    outlook = look(access, Runner(), now=history.now)
    assert copy.files() == before, "a dry run changes nothing"
    assert outlook.refusals == ()
    result = prune(access, Runner(), now=history.now, approved=outlook.plan.digest)
    assert result.applied
    assert result.backups_deleted == len(outlook.plan.going("backup")) == 2
    assert result.wal_segments_deleted == sum(run.count for run in outlook.plan.wal) >= 4
    assert result.freed_bytes > 5_000_000
    assert (result.locked, result.left) == ([], [])
    assert all(
        promise["after"] >= min(promise["promised"], promise["before"])
        for promise in result.promises
    )
    return copy


def test_the_repository_then_holds_exactly_what_the_promises_need(
    history: History, pruned: Repository
) -> None:
    listed = pruned.listed()
    assert [backup.name for backup in listed] == list(history.bases)[2:]
    # The anchor is the last Sunday before the window. What is older wal-g keeps as permanent, with
    # its own WAL; barman-cloud frees WAL only together with the oldest backup, so all since that
    # one stays.
    alone = history.stack.tool == "wal-g"
    assert [backup.name for backup in listed if backup.permanent] == (
        history.weekly[2:8] if alone else []
    )
    first = history.weekly[8] if alone else history.weekly[2]
    backups = {backup.name: backup for backup in pruned.access().repository.backups()}
    size = backups[first].first_segment().size_bytes
    own = {
        f"{1:08X}{0:08X}{lsn // size:08X}"
        for b in backups.values()
        for lsn in (b.start_lsn, b.finish_lsn - 1)
    }
    since = {
        name for name in history.whole.segments() if name >= backups[first].first_segment().name
    }
    assert pruned.segments() == since | own
    assert history.whole.segments() > since | own
    kept = {Path(key).stem for key in pruned.access().reports.sizes("backups/")}
    assert kept == set(history.bases) - set(history.weekly[:2]), (
        "records go with their backups, and no others do"
    )


def test_planning_again_changes_nothing(history: History, pruned: Repository) -> None:
    before = pruned.files()
    outlook = look(pruned.access(), Runner(), now=history.now)
    assert outlook.plan.steps == ()
    assert not prune(pruned.access(), Runner(), now=history.now).applied
    assert pruned.files() == before
    (run,) = prune_runs.runs(pruned.access().reports)
    assert run.state == "done"
    assert all(step.state == "done" for step in run.steps)


def test_every_promise_is_restored_by_the_tool_alone(history: History, pruned: Repository) -> None:
    """The oldest kept base, the window's first and last instant, and five between."""
    oldest = history.weekly[2]
    assert pruned.restored_rows(oldest) == history.rows[oldest] > 0
    promised = history.promised()
    chosen = [promised[0], promised[-1], *random.Random(8).sample(promised[1:-1], 5)]
    for instant in chosen:
        base = pruned.newest_before(instant)
        assert base
        assert pruned.restored_rows(base, instant.lsn) == instant.rows, instant


RIVALS = {
    "wal-g": [
        ("retain", "FULL", "13"),  # 13 backups are not 13 weeks once somebody takes some by hand
        # keeps the first backup after that moment; one before it is needed
        ("retain", "FULL", "4", "--after", "WINDOW"),
        ("before", "WINDOW"),
    ],
    # five weekly backups are not 35 days, and still less once one is taken by hand
    "barman-cloud": [("REDUNDANCY 5",)],
}


def test_a_rival_plan_loses_the_windows_first_instant(history: History) -> None:
    for words in RIVALS[history.stack.tool]:
        rival = history.copy("-".join(("rival", *words)).replace(" ", "-"))
        if history.stack.tool == "wal-g":
            since = f"{history.now - WINDOW:%Y-%m-%dT%H:%M:%SZ}"
            rival.run(
                "wal-g",
                "delete",
                *(since if word == "WINDOW" else word for word in words),
                "--confirm",
            )
        else:
            rival.run(
                "barman-cloud-backup-delete",
                *rival.words,
                "--retention-policy",
                *words,
                *rival.where,
            )
        first = history.promised()[0]
        assert history.whole.newest_before(first), "there was one"
        assert rival.newest_before(first) is None, (
            "no base backup is left from before the window's first instant"
        )
        # one cannot go back from a later one
        with pytest.raises(CouldNotVerify, match="before consistent recovery point"):
            rival.restored_rows(rival.listed()[0].name, first.lsn)
        shutil.rmtree(rival.folder)


def test_the_dates_are_seen_by_the_tool(history: History) -> None:
    assert {backup.name: backup.ended for backup in history.whole.listed()} == history.bases

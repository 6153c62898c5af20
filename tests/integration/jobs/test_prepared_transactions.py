"""A prepared transaction that nobody ended: what it has locked is in the copy, too, and is told by
its name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from pgdrill.backup import take_backup
from pgdrill.drill import check_stage, destroy_stage, drill, new_drill_id, restore_stage
from pgdrill.errors import CouldNotVerify
from pgdrill.logical.take import take_dump
from pgdrill.postgres import prepared
from pgdrill.recovery.workspace import Workspace
from pgdrill_demo.stack import preferred_tool
from tests.conftest import need
from tests.damage.small import SmallStack
from tests.integration.jobs.test_other_productions import run
from tests.integration.worlds import healthy, production


@pytest.fixture(scope="module")
def stack() -> Iterator[SmallStack]:
    with production(need(preferred_tool()), options={"max_prepared_transactions": "10"}) as made:
        take_backup(made.access)
        yield made


def test_one_that_wrote_a_row_keeps_no_drill_from_green(stack: SmallStack) -> None:
    run(
        stack,
        "BEGIN",
        "UPDATE docs SET body = 'x' WHERE id = 1",
        "PREPARE TRANSACTION 'left ''behind'",
    )
    try:
        started = time.monotonic()
        report = drill(stack.access)
        healthy(report)
        waited = stack.cluster.drill.statement_timeout_seconds
        assert time.monotonic() - started < waited, "nothing waited for its locks"
        [told] = [one for one in report.results if one.name == "amcheck" and one.status == "warn"]
        assert told.thing.startswith("agents.public.docs")
        assert "ROLLBACK PREPARED 'left ''behind'" in str(told.message)
    finally:
        run(stack, "ROLLBACK PREPARED 'left ''behind'")


def test_one_that_is_lost_on_the_copy_is_named_and_one_that_production_has_ended_since_is_not(
    stack: SmallStack,
) -> None:
    """What one has written is in no row that anybody reads, and in no catalog."""
    run(
        stack,
        *(
            words
            for gid in ("promised", "ended")
            for words in ("BEGIN", f"CREATE TABLE {gid} (n int)", f"PREPARE TRANSACTION '{gid}'")
        ),
    )
    drill_id = new_drill_id()
    try:
        assert restore_stage(stack.access, drill_id).restore.status == "ok"
        run(stack, "ROLLBACK PREPARED 'ended'")
        with Workspace.of(stack.access, drill_id).server(stack.access).connect("agents") as copy:
            copy.execute("ROLLBACK PREPARED 'promised'")
        report = check_stage(stack.access, drill_id)
        red = [(one.name, one.thing, one.value) for one in report.results if one.status == "fail"]
        assert red == [
            ("catalogs", "cluster: prepared transaction 'promised' in database agents", "missing")
        ]
    finally:
        destroy_stage(stack.access, drill_id)
        run(stack, "ROLLBACK PREPARED 'promised'")


def test_one_that_locked_a_table_against_readers_is_named_before_anything_is_done(
    stack: SmallStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(stack, "BEGIN", "LOCK TABLE docs IN ACCESS EXCLUSIVE MODE", "PREPARE TRANSACTION 'lock'")
    monkeypatch.setattr(prepared, "WAITED_SECONDS", 0)
    try:
        before = stack.access.objects.sizes()
        jobs: tuple[Callable[[], object], ...] = (
            lambda: take_backup(stack.access),
            lambda: take_dump(stack.access),
        )
        for job in jobs:
            with pytest.raises(CouldNotVerify) as caught:
                job()
            names_it(caught.value.problem)
        report = drill(stack.access)
        assert report.verdict == "could not verify"
        names_it(report.restore.trouble)
        kept = ("basebackups_005/", f"{stack.cluster_name}/base/", "dumps/")
        assert not [
            key for key in set(stack.access.objects.sizes()) - set(before) if key.startswith(kept)
        ]
    finally:
        run(stack, "ROLLBACK PREPARED 'lock'")
    healthy(drill(stack.access))


def names_it(problem: object) -> None:
    assert getattr(problem, "reason", "") == "prepared-transaction", problem
    assert "'lock' of postgres" in getattr(problem, "thing", "")
    assert "docs" in getattr(problem, "found", "")
    assert "ROLLBACK PREPARED 'lock'" in getattr(problem, "hint", "")


def test_one_that_only_made_a_table_locks_nobody_out(
    stack: SmallStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(stack, "BEGIN", "CREATE TABLE made (n int PRIMARY KEY)", "PREPARE TRANSACTION 'made'")
    monkeypatch.setattr(prepared, "WAITED_SECONDS", 0)
    try:
        take_backup(stack.access)
        healthy(drill(stack.access))
    finally:
        run(stack, "ROLLBACK PREPARED 'made'")

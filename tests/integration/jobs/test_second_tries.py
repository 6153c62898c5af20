"""A drill that is tried again says what its first try would have said, though production has gone
on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from pgdrill.access import Access
from pgdrill.backup import take_backup
from pgdrill.drill import check_stage, destroy_stage, new_drill_id, restore_stage
from pgdrill.recovery.planning import new_restore_point
from pgdrill.reports import store
from pgdrill.reports.model import Report
from pgdrill_demo.stack import Stack
from tests.integration.conftest import Relay, nothing_left

WRITTEN = "INSERT INTO written_between SELECT i FROM generate_series(1, 500) i"


@pytest.fixture
def living(stack: Stack) -> Iterator[Stack]:
    """Production with a base backup and a table that grows between the tries."""
    with stack.connect() as connection:
        connection.execute("CREATE TABLE written_between (n int)")
        connection.execute(WRITTEN)
    take_backup(stack.access)
    yield stack
    with stack.connect() as connection:
        connection.execute("DROP TABLE written_between")


def through(relay: Relay, access: Access) -> Access:
    """The same cluster, its store behind the relay; what hangs is given up soon."""
    repository = access.cluster.repository.model_copy(update={"endpoint_url": relay.endpoint_url})
    drill = access.cluster.drill.model_copy(update={"stall_seconds": 8.0})
    return dataclasses.replace(
        access, cluster=access.cluster.model_copy(update={"repository": repository, "drill": drill})
    )


def write_on(stack: Stack) -> None:
    """What every living database does between two tries."""
    with stack.connect() as connection:
        connection.execute(WRITTEN)
        connection.execute("DELETE FROM written_between WHERE n < 100")


def not_well(report: Report) -> list[str]:
    return [
        f"{r.name} {r.thing}: {r.status} {r.value} {r.threshold} {r.message}"
        for r in report.results
        if r.status == "fail" or (r.status == "skip" and r.required)
    ]


def test_a_restore_that_the_store_let_down_once_and_one_after_it_end_as_a_first_one(
    living: Stack,
) -> None:
    access, drill_id = living.access, new_drill_id()
    relay = Relay(living.s3.endpoint_url)
    try:
        # its backup; production was looked at by then
        relay.misbehave(r"GET \S*(part_|data)\S*tar", "hang")
        first = restore_stage(through(relay, access), drill_id)
        assert relay.matched.is_set()
        assert first.restore.status == "could not verify", first.restore.trouble
        tried = [first.target]
        for _ in range(2):  # the task's retry, and a clear of a run that had passed
            write_on(living)
            report = restore_stage(access, drill_id)
            assert report.restore.status == "ok", report.restore.trouble
            tried.append(report.target)
            write_on(living)
            report = check_stage(access, drill_id)
            assert not not_well(report)
            assert report.verdict == "passed", report.reason
        report = check_stage(access, drill_id)
        assert not not_well(report), "asked again, of the same copy"
        assert len({target.value for target in tried if target}) == 3, (
            "no two tries have a restore point of one name"
        )
    finally:
        relay.close()
        destroy_stage(access, drill_id)
    nothing_left(access, drill_id)


def test_a_try_that_finds_production_gone_compares_with_nothing_that_an_earlier_try_saw(
    living: Stack,
) -> None:
    access, drill_id = living.access, new_drill_id()
    server = access.cluster.server.model_copy(update={"dsn": f"host={living.home}/gone"})
    gone = dataclasses.replace(access, cluster=access.cluster.model_copy(update={"server": server}))
    try:
        assert restore_stage(access, drill_id).restore.status == "ok"
        assert store.load_baseline(access, drill_id)
        assert restore_stage(gone, drill_id).restore.status == "ok"
        assert store.load_baseline(access, drill_id) is None
    finally:
        destroy_stage(access, drill_id)


def test_a_restore_points_name_fits_however_long_the_drills_is() -> None:
    names = {new_restore_point("d" * 55) for _ in range(100)}
    assert len(names) == 100
    assert {len(name) for name in names} == {63}

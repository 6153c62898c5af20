"""A snapshot is taken, loaded and asked; what is wrong with either is told."""

from __future__ import annotations

from pgdrill.queues.record import list_snapshots
from pgdrill.queues.take import take_snapshot
from pgdrill.queues.verify import verify
from tests.integration.queues.conftest import PASSWORD, PAYLOAD, World


def test_a_snapshot_is_taken_loaded_and_found_right(world: World) -> None:
    access = world.access()
    record = take_snapshot(access)
    assert record.method == "replication"
    assert record.at is not None
    assert list_snapshots(access) == [record.snapshot_id]
    report = verify(access)
    assert report.verdict == "passed", report.model_dump_json(indent=1)
    assert report.live > 60
    text = report.model_dump_json() + record.model_dump_json()
    assert PAYLOAD not in text
    assert PASSWORD not in text

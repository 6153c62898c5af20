"""A snapshot is taken, loaded and asked; each way of copying says what it is of."""

from __future__ import annotations

import dataclasses
import json

import pytest

from pgdrill.queues import record as records
from pgdrill.queues.listing import listed
from pgdrill.queues.prune import prune
from pgdrill.queues.record import list_snapshots
from pgdrill.queues.take import take_snapshot
from pgdrill.queues.verify import verify
from tests.integration.queues.conftest import PASSWORD, PAYLOAD, World


def test_a_snapshot_is_taken_loaded_and_found_right_and_kept_by_prune(world: World) -> None:
    access = world.access()
    record = take_snapshot(access)
    assert record.method == "replication"
    assert record.at is not None
    assert record.no_postgres, "PostgreSQL is down here, and keeps no queue from its copy"
    assert list_snapshots(access) == [record.snapshot_id]
    assert not listed(access)[0].counts, "it counts once it was loaded"
    report = verify(access)
    assert report.verdict == "passed", report.model_dump_json(indent=1)
    assert (report.live, report.history) == (78, 0)
    assert listed(access)[0].counts
    text = report.model_dump_json() + record.model_dump_json()
    assert PAYLOAD not in text
    assert PASSWORD not in text
    done = prune(access, apply=True)
    assert (done.kept, done.deleted) == (1, [])
    folder = access.cluster.state_directory / "snapshots"
    assert not list(folder.iterdir()), "nothing is left on this host"


@pytest.mark.parametrize(
    ("rights", "method"),
    [
        ("+@all -sync -psync -replconf", "file"),
        ("+@read +info +ping +select +client +auth +hello", "keys"),
    ],
)
def test_a_server_that_does_not_let_itself_be_replicated_is_copied_in_another_way(
    world: World, rights: str, method: str
) -> None:
    client = world.server.client()
    client.execute_command(
        "ACL", "SETUSER", "copier", "reset", "on", f">{PASSWORD}", "~*", "&*", *rights.split()
    )
    try:
        access = world.access(username="copier")
        record = take_snapshot(access)
        assert record.method == method
        report = verify(access)
    finally:
        client.execute_command("ACL", "DELUSER", "copier")
    assert report.verdict == "passed", report.model_dump_json(indent=1)
    assert report.live == 78
    told = {one.name: one.status for one in report.results}
    assert told["queue-instant"] == ("warn" if method == "keys" else "pass")


def test_a_record_that_somebody_rewrote_is_no_record(world: World) -> None:
    access = world.access()
    taken = take_snapshot(access)
    key = records.key(taken.snapshot_id)
    data = json.loads(access.snapshots.read(key) or b"")
    access.snapshots.write(key, json.dumps({**data, "evicted_keys": 1}).encode())
    report = verify(access)
    assert (report.verdict, report.reason) == ("failed", "restore: record-changed")
    assert not listed(dataclasses.replace(access))[0].counts

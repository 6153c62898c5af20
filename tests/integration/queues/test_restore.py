"""A snapshot goes back into an empty server, and BullMQ's own workers go on with it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from pgdrill.errors import PgdrillError
from pgdrill.queues.access import QueueAccess
from pgdrill.queues.address import Address
from pgdrill.queues.by_file import restore_files
from pgdrill.queues.record import SnapshotRecord
from pgdrill.queues.restore import MARK, Into, restore
from pgdrill.queues.take import take_snapshot
from tests.integration.queues.conftest import PASSWORD, Server, World

FUNCTION = "#!lua name=ours\nredis.register_function('answer', function() return 42 end)"


@pytest.fixture(scope="module")
def taken(world: World) -> Iterator[tuple[QueueAccess, SnapshotRecord]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUEUE_TEST_PASSWORD", PASSWORD)
        access = world.access()
        yield access, take_snapshot(access)


@pytest.fixture
def target(world: World, tmp_path: Path) -> Iterator[Server]:
    folder = world.home / tmp_path.name
    folder.mkdir()
    made = Server(folder, {"appendonly": "yes"}).start()
    yield made
    made.stop()


async def work(socket: Path, name: str, wanted: int) -> list[str]:
    """Work until so many jobs are done; their ids."""
    from bullmq import Worker

    done: list[str] = []
    enough = asyncio.Event()

    async def process(job: Any, token: str) -> None:
        done.append(job.id)
        if len(done) >= wanted:
            enough.set()

    connection = redis.asyncio.Redis(
        unix_socket_path=str(socket), password=PASSWORD, decode_responses=True
    )
    worker = Worker(name, process, {"connection": connection})
    try:
        await asyncio.wait_for(enough.wait(), 120)
    finally:
        await worker.close()
        await connection.aclose()
    return done


def test_all_jobs_come_back_and_each_is_worked_on_once(
    taken: tuple[QueueAccess, SnapshotRecord], target: Server, world: World
) -> None:
    access, record = taken
    done = restore(access, record.snapshot_id, Into(Address(str(target.socket))))
    assert (done.live, done.paused) == (78, False)
    restored, source = target.client(), world.server.client()
    assert not restored.exists(MARK)
    assert restored.dbsize() == source.dbsize()
    for key in source.scan_iter():
        assert restored.type(key) == source.type(key), key
    waiting = {one.decode() for one in source.lrange("bull:mail:wait", 0, -1)}
    worked = asyncio.run(work(target.socket, "mail", 71))
    assert len(worked) == len(set(worked))
    assert waiting <= set(worked)
    assert not restored.llen("bull:mail:wait")
    assert restored.zcard("bull:mail:delayed") >= 5


def test_a_server_that_is_not_empty_is_not_touched_and_half_a_restore_goes_on_a_word(
    taken: tuple[QueueAccess, SnapshotRecord], target: Server
) -> None:
    access, record = taken
    client, into = target.client(), Into(Address(str(target.socket)))

    def refused(wanted: Into = into) -> str:
        with pytest.raises(PgdrillError) as caught:
            restore(access, record.snapshot_id, wanted)
        return f"{caught.value.problem.reason}: {caught.value.problem.found}"

    target.client(3).set("somebody", "else's")
    assert refused().startswith("not-empty: 1 key")
    assert refused(Into(into.address, empty_half_restored=True)).startswith("not-empty: 1 key")
    client.flushall()
    if int(client.info("server")["redis_version"].partition(".")[0]) >= 7:
        client.execute_command("FUNCTION", "LOAD", FUNCTION)
        assert refused().startswith("not-empty: 0 keys and 1 libraries")
        client.execute_command("FUNCTION", "FLUSH")
    client.set(MARK, f"{record.snapshot_id} since yesterday")
    client.set("bull:mail:1", "half")
    assert refused().startswith(f"not-empty: half a restore of {record.snapshot_id}")
    assert client.dbsize() == 2
    done = restore(
        access, record.snapshot_id, Into(into.address, "paused", empty_half_restored=True)
    )
    assert done.paused
    assert client.hget("bull:mail:meta", "paused") == b"1"
    assert not client.exists("bull:mail:wait")
    assert client.llen("bull:mail:paused") == 61


@pytest.mark.parametrize("appendonly", ["yes", "no"])
def test_a_stopped_servers_directory_is_filled_so_that_it_starts_with_aof_or_without(
    taken: tuple[QueueAccess, SnapshotRecord], world: World, tmp_path: Path, appendonly: str
) -> None:
    access, record = taken
    folder = world.home / f"{tmp_path.name}-{appendonly}"
    folder.mkdir()
    (folder / "somebody").touch()
    with pytest.raises(PgdrillError, match="somebody"):
        restore_files(access, record.snapshot_id, folder)
    (folder / "somebody").unlink()
    (folder / "pgdrill-restoring").write_text("killed")
    with pytest.raises(PgdrillError, match="half a restore"):
        restore_files(access, record.snapshot_id, folder)
    keys = restore_files(access, record.snapshot_id, folder, empty_half_restored=True)
    assert keys == world.server.client().dbsize()
    server = Server(folder, {"appendonly": appendonly}).start()
    try:
        server.until(lambda: server.client().dbsize() == keys)
    finally:
        server.stop()

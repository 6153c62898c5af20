"""A hundred thousand jobs over five queues, copied while workers work: each is accounted for."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from pgdrill.queues.address import Address
from pgdrill.queues.layout import LIVE, STATES, ids
from pgdrill.queues.restore import Into, restore
from pgdrill.queues.take import take_snapshot
from pgdrill.queues.verify import verify
from tests.conftest import thorough
from tests.integration.queues.conftest import PASSWORD, Server, World, programs

QUEUES = [f"q{number}" for number in range(5)]
JOBS = int(os.environ.get("PGDRILL_MANY_JOBS") or (100_000 if thorough() else 5_000))
BATCH = 1000
SPECIAL = 40  # delayed, prioritized and flows of each queue
Ids = dict[str, set[bytes]]


def client(server: Server) -> redis.asyncio.Redis:
    return redis.asyncio.Redis(
        unix_socket_path=str(server.socket), password=PASSWORD, decode_responses=True
    )


async def fill(server: Server) -> None:
    from bullmq import FlowProducer, Queue

    connection = client(server)
    flows = FlowProducer(connection)
    for name in QUEUES:
        queue = Queue(name, {"connection": connection})
        for start in range(0, JOBS // len(QUEUES), BATCH):
            await queue.addBulk(
                [
                    {"name": "step", "data": {"n": start + number}, "opts": {}}
                    for number in range(min(BATCH, JOBS // len(QUEUES) - start))
                ]
            )
        for number in range(SPECIAL):
            await queue.add("later", {}, {"delay": 3_600_000 + number})
            await queue.add("first", {}, {"priority": number + 1})
            child = {"name": "child", "queueName": QUEUES[0], "data": {}}
            await flows.add({"name": "parent", "queueName": name, "data": {}, "children": [child]})
        await queue.upsertJobScheduler("nightly", {"every": 3_600_000}, "night", {})
    await connection.aclose()


class Workers:
    """A worker for each queue, in a thread of their own; ``done`` are the ids in their order."""

    def __init__(self, server: Server, seconds: float) -> None:
        self.server, self.seconds = server, seconds
        self.done: dict[str, list[str]] = {name: [] for name in QUEUES}
        self.over = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._work()))

    def __enter__(self) -> Workers:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def until(self, count: int, seconds: float = 200) -> None:
        ends = time.monotonic() + seconds
        while min(map(len, self.done.values())) < count:
            assert time.monotonic() < ends, {name: len(done) for name, done in self.done.items()}
            time.sleep(0.05)

    async def _work(self) -> None:
        from bullmq import Worker

        connections = [client(self.server) for _ in QUEUES]
        workers = [
            Worker(name, self._one(name), {"connection": connection, "concurrency": 4})
            for name, connection in zip(QUEUES, connections, strict=True)
        ]
        while not self.over.is_set():
            await asyncio.sleep(0.05)
        for worker in workers:
            await worker.close(True)
        for connection in connections:
            await connection.aclose()

    def _one(self, name: str) -> Any:
        async def process(job: Any, token: str) -> None:
            await asyncio.sleep(self.seconds)
            self.done[name].append(job.id)

        return process


def by_state(server: Server, states: Any = STATES) -> Ids:
    return {
        f"{name} {state}": {job for job, _ in ids(server.client(), "bull", name, state)}
        for name in QUEUES
        for state in states
    }


def all_of(found: Ids, name: str) -> set[bytes]:
    return set().union(*(ids for place, ids in found.items() if place.startswith(f"{name} ")))


@pytest.fixture
def servers(world: World, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    made = []
    for name in ("source", "target"):
        folder = world.home / f"{tmp_path.name}-{name}"
        folder.mkdir()
        made.append(Server(folder).start())
    yield made[0], made[1]
    for one in made:
        one.stop()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_job_is_lost_and_which_run_twice_is_told(
    world: World, servers: tuple[Server, Server]
) -> None:
    source, target = servers
    began = time.monotonic()
    asyncio.run(fill(source))
    print(f"filled in {time.monotonic() - began:.1f} s")
    added = by_state(source)
    access = world.access(host=str(source.socket), timeout_seconds=600)
    with Workers(source, 0.05) as before:
        before.until(20)
        record = take_snapshot(access)
        seen = {name: set(done) for name, done in before.done.items()}
        before.until(max(map(len, before.done.values())) + 1)
    began = time.monotonic()
    alone = source.home / "alone.rdb"
    subprocess.run(
        [programs() / "redis-cli", "-s", source.socket, "--rdb", alone],
        env={"REDISCLI_AUTH": PASSWORD},
        check=True,
        capture_output=True,
    )
    print(f"redis-cli --rdb alone: {time.monotonic() - began:.2f} s, {alone.stat().st_size} bytes")
    report = verify(access)
    assert report.verdict == "passed", report.model_dump_json(indent=1)
    assert report.active > 0, "workers were at work"
    print(
        f"snapshot {record.seconds:.2f} s, fetched {report.fetch_seconds} s, loaded"
        f" {report.load_seconds} s, asked {report.check_seconds} s, {report.keys} keys,"
        f" {report.active} will run twice"
    )
    began = time.monotonic()
    done = restore(access, record.snapshot_id, Into(Address(str(target.socket))))
    print(f"restored in {time.monotonic() - began:.2f} s")
    assert done.will_run_twice == report.active
    restored = by_state(target)
    for name in QUEUES:
        assert all_of(added, name) <= all_of(restored, name), "no id is lost"
        over = {job.decode() for job in restored[f"{name} completed"]}
        assert over <= {*before.done[name]}
        assert over <= seen[name] | over
        new = all_of(restored, name) - all_of(added, name)
        assert all(job.startswith(b"repeat:") or b"-" in job or len(job) > 20 for job in new), new
    active = {name: {job.decode() for job in restored[f"{name} active"]} for name in QUEUES}
    over_before = {name: restored[f"{name} completed"] for name in QUEUES}
    with Workers(target, 0) as after:
        ends = time.monotonic() + 300
        while any(active[name] - set(after.done[name]) for name in QUEUES):
            assert time.monotonic() < ends, "jobs that had a worker have to run again"
            time.sleep(0.2)
    final = by_state(target)
    for name in QUEUES:
        assert len(after.done[name]) == len(set(after.done[name])), "each once, from now on"
        assert not {job.decode() for job in over_before[name]} & set(after.done[name])
        assert all_of(restored, name) <= all_of(final, name)
    twice = sum(len(set(before.done[n]) & set(after.done[n])) for n in QUEUES)
    live = sum(len(jobs) for place, jobs in final.items() if place.split(" ")[1] in LIVE)
    print(f"{twice} ran twice, {live} still wait")

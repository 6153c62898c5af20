"""What a server's own words say about jobs that it might lose."""

from __future__ import annotations

from typing import Any

import pytest

from pgdrill.health.queues import judge_server
from pgdrill.queues.server import ServerFacts, behind

GOOD: dict[str, Any] = {
    "maxmemory_policy": "noeviction",
    "rdb_last_bgsave_status": "ok",
    "aof_last_write_status": "ok",
    "used_memory": 10**9,
    "maxmemory": 0,
    "total_system_memory": 8 * 10**9,
}
REPLICA: dict[str, Any] = {
    "master_link_status": "up",
    "master_sync_in_progress": 0,
    "master_last_io_seconds_ago": 1,
}


def facts(role: str = "master", **more: Any) -> ServerFacts:
    return ServerFacts("redis", "7.0.15", "standalone", role, more)


def test_a_good_server_is_ok() -> None:
    assert list(judge_server("jobs", facts(**GOOD))) == []


@pytest.mark.parametrize(
    ("more", "reason", "status"),
    [
        ({"maxmemory_policy": "allkeys-lru", "evicted_keys": 3}, "queue-evicts", "critical"),
        ({"rdb_last_bgsave_status": "err"}, "queue-persistence", "critical"),
        ({"aof_last_write_status": "err"}, "queue-persistence", "critical"),
        ({"maxmemory": 10**9 + 1}, "queue-memory", "warning"),
        ({"total_system_memory": 1.5 * 10**9}, "queue-fork-memory", "warning"),
    ],
)
def test_what_loses_jobs_is_told(more: dict[str, Any], reason: str, status: str) -> None:
    (told,) = judge_server("jobs", facts(**{**GOOD, **more}))
    assert (told.reason, told.status, told.thing) == (reason, status, "jobs")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, ""),
        ({"master_link_status": "down", "master_link_down_since_seconds": 9}, "down, for 9 s"),
        ({"master_sync_in_progress": 1}, "being synchronized"),
        ({"master_last_io_seconds_ago": 61}, "for 61 s"),
    ],
)
def test_a_replica_keeps_up_or_says_why_not(more: dict[str, Any], words: str) -> None:
    found = behind(facts("slave", **{**REPLICA, **more}), 60)
    assert found.endswith(words)
    assert bool(found) == bool(words)

"""Are the cluster's job queues in Redis copied in time, and is their server set up to keep jobs?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pgdrill.health.ageing import Made, Rhythm, judge_age
from pgdrill.health.answer import Answer, not_asked
from pgdrill.health.check import health_check
from pgdrill.health.subject import HealthSubject
from pgdrill.queues.access import QueueAccess
from pgdrill.queues.listing import listed
from pgdrill.queues.server import ServerFacts, choose_source
from pgdrill.reports.terminal import size

FORK_SHARE = 1.0  # a fork may copy all that is written to meanwhile
MAXMEMORY_SHARE = 0.9
LOOKED_AT = 100  # newest snapshots: their reports are read one by one


def _queues(subject: HealthSubject) -> Iterator[QueueAccess]:
    for queue in subject.access.cluster.queues:
        yield QueueAccess(queue, subject.access)


@health_check(
    "queue-snapshot-age",
    "queues",
    passing="the newest snapshot of each queue that was loaded and found right is not overdue",
    hint="see the DAG queue_snapshot, or take and prove one: `pgdrill queue snapshot QUEUE`,"
    " `pgdrill queue verify QUEUE`",
    example="jobs: finished 3.2 h ago; the next was due 2026-11-30 12:07:00 UTC",
)
def snapshot_age(subject: HealthSubject) -> Iterator[Answer]:
    """Judge the newest that counts, by the queue's own schedule."""
    asked = False
    for access in _queues(subject):
        asked = True
        rhythm = Rhythm("queue snapshot", access.queue.schedule, 2 * access.queue.timeout_seconds)
        newest = next(
            (one for one in reversed(listed(access, newest=LOOKED_AT)) if one.counts), None
        )
        record = newest.record if newest else None
        made = Made(record.snapshot_id, record.started_at, record.ended_at) if record else None
        answer = judge_age(rhythm, made, subject.now, "queue-snapshot")
        yield replace(answer, thing=access.name)
    if not asked:
        yield not_asked("no queue belongs to this cluster", "no-queues")


@health_check(
    "queue-server",
    "queues",
    passing="each queue's server evicts nothing, saves without errors and has memory to fork",
    hint="docs/how-to/queues.md says how the server has to be set up",
    example="jobs: maxmemory-policy allkeys-lru, wanted noeviction",
)
def queue_server(subject: HealthSubject) -> Iterator[Answer]:
    """Ask the server that would be copied."""
    asked = False
    for access in _queues(subject):
        asked = True
        source = choose_source(access)
        wrong = list(judge_server(access.name, source.facts))
        yield from wrong
        if not wrong:
            yield Answer("ok", f"{source.facts.product} {source.facts.version}", access.name)
    if not asked:
        yield not_asked("no queue belongs to this cluster", "no-queues")


def judge_server(name: str, facts: ServerFacts) -> Iterator[Answer]:
    """Yield what is wrong with a server, as its ``INFO`` tells it."""
    policy = str(facts.info.get("maxmemory_policy", ""))
    if policy and policy != "noeviction":
        yield Answer(
            "critical",
            f"maxmemory-policy {policy}, {facts.number('evicted_keys')} keys dropped so far",
            name,
            "noeviction",
            hint="CONFIG SET maxmemory-policy noeviction: any other drops jobs",
            reason="queue-evicts",
        )
    for key, what in (
        ("rdb_last_bgsave_status", "the last RDB save"),
        ("aof_last_write_status", "the last write of the AOF"),
        ("aof_last_bgrewrite_status", "the last rewrite of the AOF"),
    ):
        if facts.info.get(key, "ok") != "ok":
            yield Answer(
                "critical",
                f"{what}: {facts.info[key]}",
                name,
                "ok",
                hint="see the server's log: no room on its disk, or no memory to fork",
                reason="queue-persistence",
            )
    yield from _memory(name, facts)


def _memory(name: str, facts: ServerFacts) -> Iterator[Answer]:
    used, most = facts.number("used_memory"), facts.number("maxmemory")
    if most and used > MAXMEMORY_SHARE * most:
        yield Answer(
            "warning",
            f"{size(used)} of maxmemory {size(most)}",
            name,
            f"at most {100 * MAXMEMORY_SHARE:.0f} %",
            float(used),
            MAXMEMORY_SHARE * most,
            "bytes",
            hint="remove old history (removeOnComplete), or raise maxmemory: then writes fail",
            reason="queue-memory",
        )
    total = facts.number("total_system_memory")
    if total and used * (1 + FORK_SHARE) > total:
        yield Answer(
            "warning",
            f"{size(used)} used on a host with {size(total)}: a fork may need as much again",
            name,
            f"at most {size(int(total / (1 + FORK_SHARE)))}",
            float(used),
            total / (1 + FORK_SHARE),
            "bytes",
            hint="more memory, or copy a replica on another host",
            reason="queue-fork-memory",
        )

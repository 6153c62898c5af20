"""The questions asked of a loaded file: would workers go on with it, and lose nothing?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from pgdrill.queues.loader import Loaded
from pgdrill.queues.reading import SHOWN, QueueContent, read_queues
from pgdrill.queues.record import SnapshotRecord
from pgdrill.queues.report import FAMILY, QueueFigures
from pgdrill.reports.model import CheckResult, CheckStatus
from pgdrill.text import count

FUTURE = timedelta(minutes=5)
OLD_HEARTBEAT = timedelta(minutes=2)
EVICTS = re.compile(r"^(allkeys|volatile)-")
MANY_ORPHANS = 0.01


def read_all(loaded: Loaded, record: SnapshotRecord) -> list[QueueContent]:
    """Read the queues of every database of the loaded server."""
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    found: list[QueueContent] = []
    for database in loaded.databases():
        with loaded.connect(database) as client:
            found += read_queues(client, database, record.prefix, now_ms)
    return found


def figures(queues: Iterable[QueueContent]) -> list[QueueFigures]:
    """Return what a report keeps of the queues: numbers."""
    return [
        QueueFigures(
            database=one.database,
            queue=one.name,
            version=one.version,
            states=one.states,
            due=one.due,
            schedulers=one.schedulers,
            orphans=one.orphans,
        )
        for one in queues
    ]


def ask(
    loaded: Loaded, record: SnapshotRecord, queues: list[QueueContent]
) -> Iterator[CheckResult]:
    """Ask every question; each has one answer a queue, or one for the file."""
    yield _keys(loaded, record)
    yield _instant(record)
    yield _heartbeat(loaded, record)
    yield _eviction(record)
    yield _checksum(record)
    yield _queues_there(record, queues)
    for one in queues:
        yield from of_queue(one)


def result(
    name: str, status: CheckStatus, thing: str, value: object, threshold: str, hint: str = ""
) -> CheckResult:
    """Return an answer."""
    return CheckResult(
        name=name,
        family=FAMILY,
        status=status,
        thing=thing,
        value=value if isinstance(value, int | float) else str(value),
        threshold=threshold,
        hint=hint if status not in ("pass", "skip") else "",
    )


def _keys(loaded: Loaded, record: SnapshotRecord) -> CheckResult:
    """Compare the log's number with what is there, which time alone makes less."""
    there, ending = 0, 0
    with loaded.connect() as client:
        for one in client.info("keyspace").values():
            there += int(one["keys"])
            ending += int(one["expires"])
    empty = not loaded.keys and bool(record.keys_before and record.keys_after)
    lost = loaded.keys - there
    # a key that ends may have ended since; of those there were at most as many as the source had
    most = max(record.expiring_before, record.expiring_after, ending)
    bad = empty or not 0 <= lost <= most
    return result(
        "queue-keys",
        "fail" if bad else "pass",
        f"{record.source}",
        f"{count(loaded.keys, 'key')} loaded, {there} there, {loaded.expired} had expired",
        "those of the file" if record.keys_before else "none, as the server had none",
        "the file was not loaded, or holds nothing: choose another snapshot, and see"
        " appendonly and dir of the server that loads",
    )


def _instant(record: SnapshotRecord) -> CheckResult:
    if record.at is None:
        return result(
            "queue-instant",
            "warn",
            record.source,
            "copied key by key: of no single instant",
            "one instant",
            "let the user replicate (docs/how-to/queues.md), or use the vendor's own export, too",
        )
    late = record.at > record.ended_at + FUTURE or record.at < record.started_at - FUTURE
    return result(
        "queue-instant",
        "warn" if late else "pass",
        record.source,
        f"{record.at:%Y-%m-%d %H:%M:%S} UTC by the server's clock",
        f"{record.started_at:%Y-%m-%d %H:%M:%S} to {record.ended_at:%H:%M:%S} UTC",
        "set the clocks of both hosts (NTP)",
    )


def _heartbeat(loaded: Loaded, record: SnapshotRecord) -> CheckResult:
    text = record.heartbeat_before or record.heartbeat_after
    if not text:
        return result("queue-heartbeat", "skip", record.source, "not asked", "").model_copy(
            update={"required": False, "message": "nobody writes a heartbeat key"}
        )
    try:
        at = datetime.fromisoformat(record.heartbeat_before or text)
        old = record.started_at - at > OLD_HEARTBEAT
    except (ValueError, TypeError):
        return result("queue-heartbeat", "warn", record.source, text, "an ISO time with its zone")
    return result(
        "queue-heartbeat",
        "warn" if old else "pass",
        record.source,
        f"{at:%Y-%m-%d %H:%M:%S %Z} in the server that was copied",
        f"within {OLD_HEARTBEAT.total_seconds():.0f} s of the copy",
        "see whether its writer lives, and whether the replica that was copied keeps up",
    )


def _eviction(record: SnapshotRecord) -> CheckResult:
    evicts = EVICTS.match(record.policy)
    status: CheckStatus = "fail" if evicts and record.evicted_keys else "warn" if evicts else "pass"
    return result(
        "queue-eviction",
        status,
        record.source,
        f"maxmemory-policy {record.policy or 'not told'}, {count(record.evicted_keys, 'key')}"
        " dropped",
        "noeviction",
        "CONFIG SET maxmemory-policy noeviction on the server: any other drops jobs when memory is"
        " short",
    )


def _checksum(record: SnapshotRecord) -> CheckResult:
    return result(
        "queue-checksum",
        "pass" if record.checksummed else "warn",
        record.source,
        "the file bears one" if record.checksummed else "the file bears none (rdbchecksum no)",
        "a checksum",
        "set rdbchecksum yes on the server; until then pgdrill's own SHA-256 is all there is",
    )


def _queues_there(record: SnapshotRecord, queues: list[QueueContent]) -> CheckResult:
    there = {(one.database, one.name) for one in queues}
    # those that had something before and after
    lost = [
        one.queue
        for one in record.queues
        if (one.database, one.queue) not in there
        and any(one.before.values())
        and any(one.after.values())
    ]
    old = [one.shown for one in queues if one.legacy]
    return result(
        "queue-names",
        "fail" if lost else "warn" if old else "pass",
        record.source,
        f"lost: {', '.join(lost[:SHOWN])}"
        if lost
        else f"{', '.join(old[:SHOWN])}: repeatable jobs of before BullMQ 5, which 6 refuses"
        if old
        else count(len(queues), "queue"),
        "every queue that there was before and after",
        "choose another snapshot" if lost else "move them to job schedulers before BullMQ 6",
    )


def of_queue(one: QueueContent) -> Iterator[CheckResult]:
    """Yield the answers about one queue."""
    total = sum(one.states.values())
    yield _listed(one, "queue-types", one.wrong, "keys of the types that BullMQ gives them")
    yield _listed(one, "queue-jobs", one.lost, "a job for every id", f"{total} ids have one")
    yield _listed(one, "queue-one-state", one.twice, "each id in one state")
    behind = one.counter is not None and one.counter < one.highest
    none = one.counter is None and one.highest > 0
    yield result(
        "queue-id-counter",
        "fail" if behind or none else "pass",
        one.shown,
        f"{'none' if one.counter is None else one.counter}, highest id {one.highest}",
        "not behind the highest id",
        "the next job would overwrite another: after a restore set it before any worker starts:"
        f" SET PREFIX:{one.name}:id {one.highest}",
    )
    yield _listed(
        one, "queue-schedulers", one.unscheduled, "a next job for every scheduler",
        count(one.schedulers, "scheduler"),
    )  # fmt: skip
    yield _listed(one, "queue-flows", one.waiting_for_lost, "parents whose children are there")
    many = one.orphans > max(SHOWN, MANY_ORPHANS * total)
    yield result(
        "queue-orphans",
        "warn" if many else "pass",
        one.shown,
        count(one.orphans, "job") + " without a state",
        "few",
        "see what removes ids without their jobs, or jobs that were cut off",
    )
    yield result(
        "queue-active",
        "pass",
        one.shown,
        f"{len(one.active)} will run twice{_some(one.active)}; {one.due} delayed fire at once",
        "told, so that it is known",
    )


def _listed(
    one: QueueContent, name: str, wrong: list[str], wanted: str, right: str = "all"
) -> CheckResult:
    return result(
        name,
        "fail" if wrong else "pass",
        one.shown,
        f"{len(wrong)} not so{_some(wrong)}" if wrong else right,
        wanted,
        "choose an older snapshot; look for the same on production, which may have lost it",
    )


def _some(names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f": {', '.join(names[:SHOWN])}{more}"

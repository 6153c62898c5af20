"""What of a look is a metric: its name by Prometheus' conventions, and that of its promise.

Base units; instants as timestamps, so that who asks subtracts; the promise beside each measure. No
label but those whose values are few: never the name of a backup, a segment or a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pgdrill.health.model import HealthFinding, HealthReport
from pgdrill.reports.model import Report

Labels = dict[str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """A value of a metric. ``help`` says what it is."""

    name: str
    help: str
    labels: Labels
    value: float


@dataclass(frozen=True, slots=True)
class Measure:
    """The metric of a check's value. ``promise``: that of what was promised; empty: there is none.

    ``thing``: the label that tells what the value is of; empty: of the cluster.
    """

    name: str
    help: str
    promise: str = ""
    thing: str = ""


MEASURES: dict[str, Measure] = {
    "measured-rpo": Measure(
        "pgdrill_measured_rpo_seconds",
        "Work that would be lost if production died now",
        "pgdrill_rpo_promise_seconds",
    ),
    "wal-waiting": Measure(
        "pgdrill_wal_ready_oldest_seconds", "Age of the oldest WAL file that waits to be archived"
    ),
    "wal-room": Measure(
        "pgdrill_wal_room_seconds",
        "Time until pg_wal is full at the rate of now",
        "pgdrill_wal_room_promise_seconds",
    ),
    "wal-continuity": Measure(
        "pgdrill_wal_missing_segments", "Archived WAL segments that are missing"
    ),
    "replay-lag": Measure(
        "pgdrill_replay_lag_seconds",
        "How far the standby is behind, by heartbeat or by LSN",
        "pgdrill_replay_lag_promise_seconds",
    ),
    "heartbeat": Measure(
        "pgdrill_heartbeat_age_seconds",
        "Age of the newest heartbeat on the primary",
        "pgdrill_heartbeat_age_promise_seconds",
    ),
    "standby-receiving": Measure(
        "pgdrill_standby_receive_lag_bytes", "WAL that the standby has not received yet"
    ),
    "window": Measure(
        "pgdrill_window_seconds",
        "Length of the stretch of time that can be restored",
        "pgdrill_window_promise_seconds",
    ),
    "page-checksums": Measure(
        "pgdrill_page_checksum_failures", "Pages with a wrong checksum that the server has met"
    ),
    "transaction-id-age": Measure(
        "pgdrill_transaction_id_age_ratio",
        "Share of the transaction ids used since the last freeze",
        "pgdrill_transaction_id_age_promise_ratio",
    ),
    "base-backup-leap": Measure(
        "pgdrill_base_backup_size_ratio",
        "Size of the newest base backup by the median of those before",
    ),
    "clock": Measure(
        "pgdrill_clock_skew_seconds",
        "How far this host's clock and the server's are apart",
        "pgdrill_clock_skew_promise_seconds",
    ),
    "room": Measure(
        "pgdrill_room_free_bytes",
        "Free where the next drill or backup goes",
        "pgdrill_room_needed_bytes",
        "place",
    ),
    "server-certificate": Measure(
        "pgdrill_server_certificate_left_seconds",
        "Time until the server's certificate ends",
        "pgdrill_server_certificate_promise_seconds",
    ),
    "store-certificate": Measure(
        "pgdrill_store_certificate_left_seconds",
        "Time until the store's certificate ends",
        "pgdrill_store_certificate_promise_seconds",
    ),
}
# What was made, by the check of its age: instants instead of ages.
MADE = {
    "base-backup-age": ("base_backup", "base backup"),
    "dump-age": ("dump", "logical dump"),
    "drill-age": ("drill", "drill that passed"),
    "retention-age": ("retention", "run of retention"),
}
TOLD = ("ok", "warning", "critical", "unknown")


def of_look(report: HealthReport, looks: int) -> Iterator[Sample]:
    """Yield the samples of the newest answers of a cluster. What is unknown has none."""
    cluster = {"cluster": report.cluster}
    yield Sample(
        "pgdrill_last_look_timestamp_seconds", "When it was looked at", cluster,
        report.started_at.timestamp(),
    )  # fmt: skip
    yield Sample("pgdrill_look_duration_seconds", "What a look took", cluster, report.seconds)
    yield Sample("pgdrill_looks_total", "Looks since the watch began", cluster, looks)
    for status in TOLD:
        yield Sample(
            "pgdrill_findings",
            "Answers of the newest looks, by status",
            {**cluster, "status": status},
            report.count(status),  # type: ignore[arg-type]
        )
    lost = [one.would_lose_seconds for one in report.findings if one.would_lose_seconds is not None]
    if lost:
        yield Sample(
            "pgdrill_would_lose_seconds", "The most that would be lost if production died now",
            cluster, max(lost),
        )  # fmt: skip
    yield from _checks(report, cluster)
    for check, found in _by_check(report).items():
        yield from _made(check, found[0], cluster) if check in MADE else ()
        yield from _measured(check, found, cluster) if check in MEASURES else ()


def of_drills(reports: list[Report]) -> Iterator[Sample]:
    """Yield the samples of the last drill that is over. ``reports``: the newest first."""
    last = next((one for one in reports if one.ended_at), None)
    if last is None or last.ended_at is None:
        return
    cluster = {"cluster": last.cluster}
    yield Sample(
        "pgdrill_last_drill_timestamp_seconds", "When the last drill ended, by its verdict",
        {**cluster, "verdict": last.verdict}, last.ended_at.timestamp(),
    )  # fmt: skip
    yield Sample(
        "pgdrill_rto_promise_seconds", "Promised: from a drill's start to correct vector search",
        cluster, last.rto_seconds,
    )  # fmt: skip
    for name, value in (
        ("running", last.timings.time_to_running_seconds),
        ("correct_search", last.timings.time_to_correct_vector_search_seconds),
    ):
        if value is not None:
            words = f"From the last drill's start to {name.replace('_', ' ')}"
            yield Sample(f"pgdrill_drill_time_to_{name}_seconds", words, cluster, value)


def _by_check(report: HealthReport) -> dict[str, list[HealthFinding]]:
    found: dict[str, list[HealthFinding]] = {}
    for one in report.findings:
        found.setdefault(one.check, []).append(one)
    return found


def _checks(report: HealthReport, cluster: Labels) -> Iterator[Sample]:
    for check, found in _by_check(report).items():
        statuses = {one.status for one in found} - {"not asked"}
        if not statuses or "unknown" in statuses:
            continue
        labels = {**cluster, "check": check}
        well = float(statuses == {"ok"})
        yield Sample("pgdrill_check_ok", "1 as promised, 0 not; absent: unknown", labels, well)


def _made(check: str, one: HealthFinding, cluster: Labels) -> Iterator[Sample]:
    name, words = MADE[check]
    if one.value is None:
        return
    finished = one.looked_at.timestamp() - one.value
    yield Sample(
        f"pgdrill_{name}_finished_timestamp_seconds", f"When the newest {words} finished", cluster,
        finished,
    )  # fmt: skip
    if one.promised is not None:
        yield Sample(
            f"pgdrill_{name}_due_timestamp_seconds", f"When the next {words} has to be finished",
            cluster, finished + one.promised,
        )  # fmt: skip


def _measured(check: str, found: list[HealthFinding], cluster: Labels) -> Iterator[Sample]:
    measure = MEASURES[check]
    known = [one for one in found if one.value is not None and one.status != "unknown"]
    groups: dict[str, list[HealthFinding]] = {}
    for one in known:
        groups.setdefault(one.thing if measure.thing else "", []).append(one)
    for thing, group in groups.items():
        labels = {**cluster, measure.thing: thing} if measure.thing else cluster
        values = [one.value or 0.0 for one in group]
        counted = group[0].unit == "count"
        value = sum(values) if counted else max(values)
        yield Sample(measure.name, measure.help, labels, value)
        promised = group[0].promised
        if measure.promise and promised is not None:
            yield Sample(measure.promise, f"Promised of {measure.name}", labels, promised)

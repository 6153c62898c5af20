"""Are the promises kept: base backups, dumps, drills, retention, and the window of 35 days."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from statistics import median

from pgdrill.config import Health
from pgdrill.errors import BackupFault, PgdrillError
from pgdrill.health.ageing import Made, Rhythm, judge_age
from pgdrill.health.answer import Answer, not_asked, unknown
from pgdrill.health.backup_facts import read_backups
from pgdrill.health.check import health_check
from pgdrill.health.subject import HealthSubject
from pgdrill.reports import store
from pgdrill.reports.model import Report
from pgdrill.reports.terminal import seconds as shown
from pgdrill.reports.terminal import size
from pgdrill.repository import prune_runs
from pgdrill.repository.tools.base import BaseBackup
from pgdrill.retention.dumps import read_dumps
from pgdrill.retention.promises import DAY_SECONDS, evaluate
from pgdrill.text import count

NEWEST_REPORTS = 20  # read, to find one that passed
EARLIER = 8  # backups that the newest is compared with
FEWEST_EARLIER = 3
DEFAULTS = Health()
ROUNDED_SECONDS = 100.0
LEAST_SECONDS = 60.0  # a backup of seconds may take thrice as long for any reason


@health_check(
    "base-backup-age",
    "promises",
    passing="the newest base backup is whole, and the run that was due after it is not overdue",
    hint="see the DAG base_backup, or take one: `pgdrill backup CLUSTER`",
    example="base_0000…2A: finished 9 days ago; the next was due 2026-11-22 02:00:00 UTC",
    needs=("repository",),
)
def base_backup(subject: HealthSubject) -> Iterator[Answer]:
    """Judge the newest that counts; a newer one that does not is told of."""
    access = subject.access
    facts = read_backups(subject)
    for name, why in facts.broken.items():
        yield Answer("critical", f"its description cannot be read: {why}", name, reason="broken")
    good = list(facts.counted)
    while good and (why := _damage(subject, good[-1])):
        yield Answer("critical", f"cannot be restored: {why}", good[-1].name, reason="damaged")
        good.pop()
    settings = access.cluster.backup
    rhythm = Rhythm(
        "base backup",
        settings.schedule,
        settings.timeout_seconds,
        [_made(one).seconds for one in facts.counted],
    )
    newest = max(good, key=lambda one: one.finish_time, default=None)
    yield judge_age(rhythm, _made(newest) if newest else None, subject.now, "base-backup")


def _made(backup: BaseBackup) -> Made:
    return Made(backup.name, backup.start_time, backup.finish_time)


def _damage(subject: HealthSubject, backup: BaseBackup) -> str:
    access = subject.access
    try:
        parts = access.repository.parts(backup)
        problems = access.repository.problems(backup, parts)
    except BackupFault as error:
        problems = [error.problem]
    return f"{problems[0].thing}: {problems[0].found}" if problems else ""


@health_check(
    "base-backup-leap",
    "promises",
    passing="the newest base backup is about as large as those before it, and took about as long",
    hint="find out what changed: a bulk load, bloat, a dropped database, another machine",
    example="base_0000…2A: 41.2 GB, the median of those before is 19.8 GB",
    needs=("repository",),
)
def leap(subject: HealthSubject) -> Iterator[Answer]:
    """Compare the newest full backup with the median of some before it."""
    full = [one for one in read_backups(subject).counted if not one.parent]
    yield judge_leap(full, subject.access.cluster.health)


def judge_leap(backups: list[BaseBackup], limits: Health = DEFAULTS) -> Answer:
    """Judge size and duration together, and name what leaps."""
    newest, earlier = backups[-1:], backups[:-1][-EARLIER:]
    if len(earlier) < FEWEST_EARLIER:
        return not_asked(f"{count(len(backups), 'backup')}: too few to compare", "too-few")
    one = newest[0]
    usual = median(it.uncompressed_bytes for it in earlier)
    took, used = _made(one).seconds, median(_made(it).seconds for it in earlier)
    ratio = one.uncompressed_bytes / usual if usual else None
    slow = took > limits.backup_slower * used and took - used > LEAST_SECONDS
    if ratio is not None and not limits.backup_smaller <= ratio <= limits.backup_larger:
        found, reason = (
            f"{size(one.uncompressed_bytes)}, the median before {size(int(usual))}",
            "size",
        )
    elif slow:
        found, reason = f"took {shown(took)}, the median before {shown(used)}", "duration"
    else:
        found, reason = f"{size(one.uncompressed_bytes)} in {shown(took)}", ""
    return Answer(
        "warning" if reason else "ok",
        found,
        one.name,
        f"{limits.backup_smaller:g} to {limits.backup_larger:g} times the size,"
        f" at most {limits.backup_slower:g} times as long",
        ratio,
        limits.backup_larger,
        "ratio" if ratio is not None else "",
        reason=f"leap-{reason}" if reason else "",
    )


@health_check(
    "window",
    "promises",
    passing="every instant of the promised window can be restored, or of all the time so far",
    hint="`pgdrill window CLUSTER` shows the gaps; a new base backup begins a new stretch",
    example="3.2 days: WAL is missing behind every older backup, promised 35 days",
    needs=("repository", "wal-continuity"),
)
def window(subject: HealthSubject) -> Iterator[Answer]:
    """Judge the window as retention does. One that is only young grows by itself."""
    facts = read_backups(subject)
    policy = subject.access.cluster.retention
    promise = evaluate(facts.inventory, policy, subject.now)[0]
    young = bool(facts.counted) and _young(facts.counted[0], promise.found, subject.now)
    kept = promise.kept or young
    yield Answer(
        "ok" if kept else "critical",
        f"{promise.found:.1f} days: {promise.words}",
        "",
        f"{promise.promised:g} days",
        promise.found * DAY_SECONDS,
        promise.promised * DAY_SECONDS,
        "seconds",
        reason="" if kept else "window-short",
    )


def _young(oldest: BaseBackup, days: float, now: datetime) -> bool:
    """Return whether the window, in rounded days, reaches as far as the oldest backup there is."""
    return days * DAY_SECONDS >= (now - oldest.finish_time).total_seconds() - ROUNDED_SECONDS


@health_check(
    "dump-age",
    "promises",
    passing="the newest logical dump that counts is not overdue",
    hint="see the DAG logical_dump, or take and restore one: `pgdrill dump CLUSTER`",
    example="20261001T040000Z-…: finished 40 days ago; the next was due 2026-11-01 04:00:00 UTC",
    needs=("repository",),
)
def dump(subject: HealthSubject) -> Iterator[Answer]:
    """Judge the newest dump whose restore has passed, where dumps are promised."""
    cluster = subject.access.cluster
    if not cluster.retention.dumps_monthly:
        yield not_asked("retention.dumps_monthly is 0: none are promised", "no-dumps")
        return
    good = [one for one in read_dumps(subject.access.dumps) if not one.damage]
    newest = max(good, key=lambda one: one.finished_at, default=None)
    # when it was begun only its name tells
    rhythm = Rhythm("logical dump", cluster.dump.schedule, cluster.dump.timeout_seconds)
    made = Made(newest.name, newest.finished_at, newest.finished_at) if newest else None
    yield judge_age(rhythm, made, subject.now, "dump")


@health_check(
    "retention-age",
    "promises",
    passing="retention ran to its end after the newest base backups",
    hint="see the DAG retention, or run it: `pgdrill prune CLUSTER --apply`",
    example="finished 15 days ago; the next was due 2026-11-22 02:00:00 UTC",
    needs=("repository",),
)
def retention(subject: HealthSubject) -> Iterator[Answer]:
    """Judge the newest run that ended well; it is due after each base backup."""
    cluster = subject.access.cluster
    done = [run for run in prune_runs.runs(subject.access.reports) if run.state == "done"]
    made = [Made(run.run_id, run.started_at, run.ended_at) for run in done if run.ended_at]
    rhythm = Rhythm(
        "run of retention",
        cluster.backup.schedule,
        cluster.backup.timeout_seconds + cluster.retention.timeout_seconds,
    )
    newest = max(made, key=lambda one: one.finished_at, default=None)
    yield judge_age(rhythm, newest, subject.now, "retention")


def newest_reports(subject: HealthSubject) -> list[Report]:
    """Read the newest drills' reports once in a look, the newest first.

    One that cannot be read is left out.
    """
    if subject.reports is None:
        found = []
        for drill_id in reversed(store.list_reports(subject.access)[-NEWEST_REPORTS:]):
            with contextlib.suppress(PgdrillError):
                found.append(store.load_report(subject.access, drill_id))
        subject.reports = found
    return subject.reports


@health_check(
    "drill-age",
    "promises",
    passing="the newest drill that passed is not overdue",
    hint="see the DAG restore_drill, or run one: `pgdrill drill CLUSTER`",
    example="no drill has passed yet",
    needs=("repository",),
)
def drill(subject: HealthSubject) -> Iterator[Answer]:
    """Judge the newest drill that passed. One that never was is no better than one that failed."""
    settings = subject.access.cluster.drill
    made = [
        Made(one.drill_id, one.started_at, one.ended_at)
        for one in newest_reports(subject)
        if one.verdict == "passed" and one.ended_at
    ]
    rhythm = Rhythm(
        "drill that passed",
        settings.schedule,
        settings.timeout_seconds,
        [one.seconds for one in made],
    )
    yield judge_age(rhythm, made[0] if made else None, subject.now, "drill")


@health_check(
    "drill-verdict",
    "promises",
    passing="the last drill passed",
    hint="`pgdrill report CLUSTER` shows what failed, with a hint for each",
    example="20261127T110000Z-3f9a2c: failed, 2 of 61 checks failed, first index-recall items.v",
    needs=("repository",),
    hides=("drill-rto", "drill-rpo"),
)
def verdict(subject: HealthSubject) -> Iterator[Answer]:
    """Judge the last drill that is over."""
    last = next((one for one in newest_reports(subject) if one.ended_at), None)
    if last is None:
        ids = store.list_reports(subject.access)
        yield (
            unknown("no report of a drill that is over can be read", "no-report")
            if ids
            else Answer("critical", "no drill yet", promise="a drill", reason="drill-never")
        )
        return
    yield judge_verdict(last)


def judge_verdict(last: Report) -> Answer:
    """Judge a verdict: what could not be verified is not proved, and not disproved either."""
    status = {"passed": "ok", "failed": "critical", "could not verify": "warning"}[last.verdict]
    return Answer(
        status,  # type: ignore[arg-type]
        f"{last.verdict}: {last.reason}",
        last.drill_id,
        "a drill that passed",
        reason="" if status == "ok" else f"drill-{last.verdict.replace(' ', '-')}",
    )

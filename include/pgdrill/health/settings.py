"""Has the server become another one: settings, damage it knows of, its age, its libraries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pgdrill.baseline import backup_record
from pgdrill.baseline.server_facts import library_versions, read_settings
from pgdrill.config import Health
from pgdrill.errors import PgdrillError
from pgdrill.health.answer import Answer, not_asked, unknown
from pgdrill.health.check import health_check
from pgdrill.health.promises import newest_reports
from pgdrill.health.subject import HealthSubject
from pgdrill.reports.model import Report
from pgdrill.repository.archiver import ARCHIVE_SHARE
from pgdrill.text import count

WANTED = """
SELECT name, setting FROM pg_settings WHERE name IN
    ('archive_mode', 'archive_timeout', 'wal_level', 'full_page_writes', 'fsync', 'data_checksums')
"""
SEARCHING = ("hnsw.", "ivfflat.")
CHECKSUMS = """
SELECT coalesce(datname, 'shared objects'), checksum_failures, checksum_last_failure
FROM pg_stat_database WHERE checksum_failures > 0 ORDER BY 1
"""
# PostgreSQL warns 40 million transactions before two thousand million, and stops at 3 million.
AGES = """
SELECT datname, age(datfrozenxid)::int8, mxid_age(datminmxid)::int8,
       current_setting('autovacuum_freeze_max_age')::int8
FROM pg_database ORDER BY greatest(age(datfrozenxid), mxid_age(datminmxid)) DESC LIMIT 1
"""
WRAPAROUND = 2**31
DEFAULTS = Health()


@health_check(
    "server-settings",
    "server",
    passing="the settings that backups and searches rely on are as they have to be, and were",
    hint="set it back in postgresql.conf or by `ALTER SYSTEM`, then reload or restart",
    example="full_page_writes: off, wanted on",
    needs=("server",),
)
def settings(subject: HealthSubject) -> Iterator[Answer]:
    """Compare with what backups need, and searches' settings with those at the last base backup."""
    found: dict[str, str] = dict(subject.server.execute(WANTED).fetchall())
    wrong = list(judge_settings(found, subject.access.cluster.drill.rpo_seconds))
    _, configured = read_settings(subject.server)
    recorded = _recorded(subject)
    wrong += judge_searching(configured, recorded) if recorded is not None else []
    yield from wrong
    if not wrong:
        yield Answer("ok", f"{count(len(found), 'setting')} as they have to be")


def judge_settings(found: Mapping[str, str], promise: float) -> Iterator[Answer]:
    """Yield what is wrong with the settings that a backup depends on."""
    wanted = {
        "archive_mode": ("on", "always"),
        "wal_level": ("replica", "logical"),
        "full_page_writes": ("on",),
        "fsync": ("on",),
    }
    for name, values in wanted.items():
        if name in found and found[name] not in values:
            words = " or ".join(values)
            yield Answer("critical", found[name], name, words, reason=f"{name}-changed")
    timeout, most = int(found.get("archive_timeout", 0)), max(1, int(promise * ARCHIVE_SHARE))
    if not 0 < timeout <= most:
        yield Answer(
            "critical" if timeout == 0 or timeout > promise else "warning",
            f"{timeout} s" if timeout else "0: a quiet server archives nothing",
            "archive_timeout",
            f"1 to {most} s",
            float(timeout),
            float(most),
            "seconds",
            reason="archive_timeout-changed",
        )


def judge_searching(now: Mapping[str, str], recorded: Mapping[str, str]) -> list[Answer]:
    """Return which settings of vector searches are others than at the last base backup."""
    names = {name for name in (*now, *recorded) if name.startswith(SEARCHING)}
    return [
        Answer(
            "warning",
            now.get(name, "not set"),
            name,
            f"{recorded.get(name, 'not set')}, as at the last base backup",
            hint="set it back, or take a base backup, after which it is the new rule",
            reason="search-setting-changed",
        )
        for name in sorted(names)
        if now.get(name) != recorded.get(name)
    ]


def _recorded(subject: HealthSubject) -> Mapping[str, str] | None:
    """Return the settings at the last base backup; None where nobody wrote them down."""
    reports = subject.access.reports
    try:
        written = reports.written("backups/")
        newest = max(written, key=lambda key: written[key], default=None)
        name = newest.rpartition("/")[2].removesuffix(".json") if newest else ""
        record = backup_record.read(reports, name) if name else None
    except PgdrillError:  # the checks of the repository tell it
        return None
    return record.baseline.configured if record else None


@health_check(
    "page-checksums",
    "server",
    passing="the server has met no page with a wrong checksum",
    hint=(
        "find the page (server log), restore what is damaged from a base backup of before, then"
        " `SELECT pg_stat_reset()` in that database"
    ),
    example="agents: 3 failures, the last at 2026-11-27 03:12:09 UTC",
    needs=("server",),
)
def checksums(subject: HealthSubject) -> Iterator[Answer]:
    """Read the counters: the next base backup carries such a page on."""
    found: dict[str, str] = dict(subject.server.execute(WANTED).fetchall())
    if found.get("data_checksums") != "on":
        yield not_asked("data checksums are off: no damage is seen", "no-checksums")
        return
    wrong = subject.server.execute(CHECKSUMS).fetchall()
    for database, failures, last in wrong:
        at = f", the last at {last:%Y-%m-%d %H:%M:%S} UTC" if last else ""
        yield Answer(
            "critical",
            f"{count(failures, 'failure')}{at}",
            database,
            "none",
            float(failures),
            0.0,
            "count",
            reason="checksum-failure",
        )
    if not wrong:
        yield Answer("ok", "no failure", promise="none", value=0.0, promised=0.0, unit="count")


@health_check(
    "transaction-id-age",
    "server",
    passing="every database has frozen more than health.transaction_id_warning (half) of its ids",
    hint=(
        "see what keeps VACUUM from freezing: long transactions, prepared ones, slots, failing"
        " autovacuum; then `VACUUM (FREEZE)` in that database"
    ),
    example="agents: 61 % of the transaction ids used since the last freeze",
    needs=("server",),
)
def xids(subject: HealthSubject) -> Iterator[Answer]:
    """Judge the oldest database, by transactions and multixacts."""
    row = subject.server.execute(AGES).fetchone()
    if row is None:
        yield unknown("no database", "could-not-look")
        return
    yield judge_xids(row[0], max(row[1], row[2]), subject.access.cluster.health)


def judge_xids(database: str, age: int, limits: Health = DEFAULTS) -> Answer:
    """Judge the share of the ids that are used up."""
    share, most = age / WRAPAROUND, limits.transaction_id_warning
    status = (
        "critical"
        if share > limits.transaction_id_critical
        else "warning"
        if share > most
        else "ok"
    )
    return Answer(
        status,  # type: ignore[arg-type]
        f"{100 * share:.0f} % of the transaction ids used since the last freeze",
        database,
        f"less than {100 * most:.0f} %",
        share,
        most,
        "ratio",
        reason="" if status == "ok" else "xid-age",
    )


@health_check(
    "proved-libraries",
    "server",
    passing="production's extension libraries are those that the last drill that passed proved",
    hint="run a drill with the new library: `pgdrill drill CLUSTER`",
    example="agents.vector: 0.8.2, the last drill proved 0.8.1",
    needs=("server",),
)
def libraries(subject: HealthSubject) -> Iterator[Answer]:
    """Compare the installed versions with the last drill's answers."""
    last = next((one for one in newest_reports(subject) if one.verdict == "passed"), None)
    proved = proved_libraries(last) if last else {}
    if not proved:
        yield not_asked("no drill has proved any", "no-drill")
        return
    wrong = 0
    for database, versions in proved.items():
        with subject.beside(database) as connection:
            now = library_versions(connection)
        for answer in judge_libraries(database, versions, now):
            wrong += 1
            yield answer
    if not wrong:
        total = sum(map(len, proved.values()))
        yield Answer("ok", f"{count(total, 'extension')} as the last drill proved")


def proved_libraries(report: Report) -> dict[str, dict[str, str]]:
    """Return the versions that a drill ran with: database -> extension -> version."""
    found: dict[str, dict[str, str]] = {}
    for one in report.results:
        if one.name == "extension-libraries" and one.status == "pass" and one.value is not None:
            database, _, extension = one.thing.rpartition(".")
            found.setdefault(database, {})[extension] = str(one.value)
    return found


def judge_libraries(
    database: str, proved: Mapping[str, str], now: Mapping[str, str]
) -> Iterator[Answer]:
    """Yield which extensions have another version now, or are new."""
    for name in sorted(now):
        if now[name] != proved.get(name):
            before = proved.get(name)
            yield Answer(
                "warning",
                now[name],
                f"{database}.{name}",
                f"{before}, which the last drill proved" if before else "one that a drill proved",
                reason="library-not-proved",
            )

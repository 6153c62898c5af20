"""Every health check explains itself, and what breaks or hangs is never ok."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pgdrill.access import Access, Credentials
from pgdrill.config import parse
from pgdrill.errors import Unreachable
from pgdrill.health import HEALTH_CHECKS, PLACES, HealthFinding, HealthReport, Watcher, in_order
from pgdrill.health.answer import Answer
from pgdrill.health.check import HealthCheck
from pgdrill.health.memory import KEY, Memory, Sample, read_memory, write_memory
from pgdrill.health.render import as_markdown, nagios_line
from pgdrill.health.subject import HealthSubject
from pgdrill.health.watcher import COSTS, THREADS

SECRET = "hunter2-very-secret"
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.mark.parametrize("name", HEALTH_CHECKS)
def test_every_check_explains_itself(name: str) -> None:
    one = HEALTH_CHECKS[name]
    assert one.place in PLACES
    assert one.cost in COSTS
    assert all((one.passing, one.hint, one.example, one.ask.__doc__))
    assert all(other in HEALTH_CHECKS for other in (*one.needs, *one.after, *one.hides))
    assert name == name.lower() and name not in one.hides


def test_what_a_check_needs_hides_it() -> None:
    for name, one in HEALTH_CHECKS.items():
        below, more = set[str](), set(one.needs)
        while more:
            below |= more
            more = {need for other in more for need in HEALTH_CHECKS[other].needs} - below
        for cause in below - {"wal-waiting", "wal-continuity"}:
            assert name in HEALTH_CHECKS[cause].hides, (cause, name)


def test_a_check_comes_after_those_of_its_thread_that_it_waits_for() -> None:
    asked = in_order()
    place = {one.name: number for number, one in enumerate(asked)}
    for one in asked:
        mine = THREADS.get(one.place, one.place)
        for other in (*one.needs, *one.after):
            theirs = HEALTH_CHECKS[other].place
            if THREADS.get(theirs, theirs) == mine:
                assert place[other] < place[one.name], (other, one.name)


def test_a_cheap_look_asks_nothing_that_is_costly() -> None:
    for one in HEALTH_CHECKS.values():
        if one.cost == "each look":
            for other in (*one.needs, *one.after):
                assert HEALTH_CHECKS[other].cost == "each look", (one.name, other)


def test_the_page_names_every_check() -> None:
    page = as_markdown(in_order())
    assert all(f"### {name}\n" in page for name in HEALTH_CHECKS)


def access(home: Path) -> Access:
    cluster = {
        "server": {"data_directory": f"{home}/pgdata"},
        "repository": {"url": f"file://{home}/backups"},
    }
    return Access(
        parse({"clusters": {"agents": cluster}}, home / "dr.toml").cluster("agents"),
        Credentials({"password": SECRET}, {"AWS_SECRET_ACCESS_KEY": f"key-{SECRET}"}),
    )


def made(name: str, ask: object, needs: tuple[str, ...] = (), place: str = "") -> HealthCheck:
    return HealthCheck(
        name,
        place or name,
        "all well",
        "do something",
        "an example",
        ask,  # type: ignore[arg-type]
        "each look",
        needs,
    )


def test_what_breaks_hangs_or_is_refused_is_unknown_and_so_is_what_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def breaks(_: HealthSubject) -> Iterator[Answer]:
        yield Answer("ok", "half")
        raise KeyError(SECRET)

    def hangs(_: HealthSubject) -> Iterator[Answer]:
        ended.wait(60)
        yield Answer("ok", "late")

    def refused(_: HealthSubject) -> Iterator[Answer]:
        raise Unreachable(
            "storage-refused", "s3://b", found=f"403 {SECRET}", expected="a list", hint="keys"
        )

    checks = [
        made("breaks", breaks),
        made("hangs", hangs),
        made("needs-it", lambda _: [Answer("ok", "never asked")], ("refused",)),
        made("refused", refused),
        made("well", lambda _: [Answer("ok", f"an answer with {SECRET}\n# forged")]),
    ]
    monkeypatch.setattr("pgdrill.health.watcher.in_order", lambda: checks)
    found = Watcher(access(tmp_path)).look(seconds=0.5)
    ended.set()
    assert [(one.check, one.status, one.reason) for one in found.findings] == [
        ("breaks", "ok", ""),
        ("breaks", "unknown", "could-not-look"),
        ("hangs", "unknown", "no-answer"),
        ("needs-it", "unknown", "needs-refused"),
        ("refused", "unknown", "storage-refused"),
        ("well", "ok", ""),
    ]
    text = found.model_dump_json()
    assert SECRET not in text
    assert "\n" not in found.findings[-1].found
    assert all(one.hint for one in found.findings if one.status == "unknown")


def test_what_is_remembered_survives_a_restart_and_what_is_unreadable_is_begun_anew(
    tmp_path: Path,
) -> None:
    reports = access(tmp_path).reports
    memory = Memory(cluster="agents", timeline=1)
    memory.add(Sample(at=NOW, timeline=1, lsn=5, next_xid=6))
    memory.wal.runs = [(1, 2, 3)]
    write_memory(reports, memory)
    assert read_memory(reports, "agents") == memory
    assert read_memory(reports, "others") == Memory(cluster="others")
    for text in (b"{", b'{"cluster": "agents", "unknown": 1}', b"[" * 100_000):
        reports.write(KEY, text)
        assert read_memory(reports, "agents") == Memory(cluster="agents")


def report(*findings: HealthFinding, cluster: str = "agents") -> HealthReport:
    return HealthReport(
        cluster=cluster, host="h", started_at=NOW, seconds=0.1, findings=list(findings)
    )


def finding(status: str, check: str = "archiver", **more: object) -> HealthFinding:
    return HealthFinding(
        cluster="agents",
        check=check,
        status=status,  # type: ignore[arg-type]
        found=f"it is {status} | so",
        looked_at=NOW,
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("statuses", "code", "word"),
    [
        (("ok", "not asked"), 0, "OK"),
        (("ok", "warning", "unknown"), 1, "WARNING"),
        (("unknown", "critical", "warning"), 2, "CRITICAL"),
        (("ok", "unknown"), 3, "UNKNOWN"),
        (("not asked",), 3, "UNKNOWN"),
        ((), 3, "UNKNOWN"),
    ],
)
def test_nagios_gets_one_line_and_the_code_of_the_worst(
    statuses: tuple[str, ...], code: int, word: str
) -> None:
    line, found = nagios_line([report(*map(finding, statuses))])
    assert (found, line.startswith(f"PGDRILL {word} - ")) == (code, True)
    assert "\n" not in line
    assert line.count("|") == 0


def test_perfdata_has_measures_and_promises_and_leaves_out_what_is_unknown() -> None:
    line, _ = nagios_line(
        [
            report(
                finding("ok", "wal-waiting", value=1.5, promised=60.0, unit="seconds"),
                finding("unknown", "window"),
                finding("ok", "slots", thing="it's=mine", value=7.0, unit="bytes"),
            )
        ]
    )
    assert line.partition(" | ")[2] == ("'agents/wal-waiting'=1.5s;;60 'agents/slots/its_mine'=7B")

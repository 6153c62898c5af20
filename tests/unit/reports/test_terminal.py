"""What people see of a report: in 80 columns, without colour, and with nothing hidden that is not
good.
"""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from pgdrill.errors import BackupFault, CouldNotVerify
from pgdrill.reports import terminal
from pgdrill.reports.model import (
    CheckResult,
    CheckStatus,
    Report,
    Stage,
    Target,
    Timings,
    Trouble,
    WalFetched,
)
from pgdrill.repository.tools import BaseBackup
from tests.reports import passed_report


def check(name: str, status: CheckStatus, thing: str = "", **more: object) -> CheckResult:
    return CheckResult(name=name, family="vectors", status=status, thing=thing, **more)  # type: ignore[arg-type]


def good() -> Report:
    report = Report(
        drill_id="20261127T110000Z-3f9a2c",
        cluster="agents",
        started_at=datetime(2026, 11, 27, 11, tzinfo=UTC),
        host="drill-host",
        tool="wal-g version v3.0.8",
        backup="base_000000010000000000000004",
        backup_finished_at=datetime(2026, 11, 22, 2, 10, tzinfo=UTC),
        target=Target(kind="latest", value="pgdrill-x"),
        measured_rpo_seconds=21.4,
        rpo_seconds=60,
        rto_seconds=3600,
        restore=Stage(status="ok"),
        checks=Stage(status="ok"),
        timings=Timings(
            baseline_seconds=3.2,
            preflight_seconds=0.4,
            fetch_seconds=100,
            fetched_bytes=5_000_000_000,
            replay_seconds=50,
            replayed_wal_bytes=300_000_000,
            time_to_running_seconds=151,
            vector_checks_seconds=29,
            time_to_correct_vector_search_seconds=180,
        ),
        results=[
            check(
                "index-recall",
                "pass",
                f"items{n}.embedding",
                value=0.9 + n / 100,
                threshold=">= 0.9",
                message="recall@10",
                seconds=0.5,
            )
            for n in range(4)
        ],
        kept_at=[
            "/var/lib/pgdrill/agents/reports/20261127T110000Z-3f9a2c.json",
            "s3://bucket/agents/pgdrill/reports/x.json",
        ],
    )
    report.judge()
    return report


def printed(report: Report, width: int = 80, **options: object) -> str:
    stream = io.StringIO()
    terminal.report_table(report, Console(file=stream, width=width, highlight=False, **options))  # type: ignore[arg-type]
    return stream.getvalue()


def line(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_the_headline_says_verdict_cluster_backup_and_when() -> None:
    assert (
        terminal.headline(good())
        == "PASSED: all checks passed. Cluster agents, backup base_000000010000000000000004 of"
        " 2026-11-22 02:10:00 UTC, drilled 2026-11-27 11:00:00 UTC."
    )


def test_the_figures_stand_beside_what_was_promised() -> None:
    text = printed(good())
    assert "2 min 31 s" in line(text, "time to running")
    assert line(text, "time to correct vector search").split()[5:] == [
        "3",
        "min",
        "RTO",
        "1",
        "h:",
        "kept",
    ]
    assert "21.4 s    RPO 60 s: kept" in line(text, "measured RPO")
    assert "5.0 GB, 50.0 MB/s" in line(text, "fetch")
    assert "300.0 MB of WAL" in line(text, "replay")
    assert "0.40 s" in line(text, "preflight")
    assert "3.20 s" in line(text, "baseline of production")
    assert "fsync on" in line(text, "durability")


def test_a_broken_promise_is_not_to_be_overlooked() -> None:
    report = good()
    report.measured_rpo_seconds = 61
    report.timings.time_to_correct_vector_search_seconds = 4000
    text = printed(report)
    assert "RPO 60 s: BROKEN" in text
    assert "RTO 1 h: BROKEN" in text


@pytest.mark.parametrize("reason", ["no-backups", "wrong-system", "no-window", "disk-full"])
@pytest.mark.parametrize("error", [BackupFault, CouldNotVerify])
def test_a_promise_that_nothing_was_restored_for_is_not_kept(
    error: type[BackupFault | CouldNotVerify], reason: str
) -> None:
    report = good()
    report.restored, report.results, report.timings, report.checks = None, [], Timings(), Stage()
    report.restore.fail(error(reason, "agents", found="none", expected="one", hint="mend it"))
    report.judge()
    text = printed(report, 200)
    for promise in ("RPO 60 s", "RTO 1 h"):
        assert f"{promise}: NOT PROVED, nothing was restored" in text
    assert ": kept" not in text


@pytest.mark.parametrize("status", ["fail", "skip"])
def test_a_promise_is_not_kept_with_a_copy_that_was_not_found_right(status: CheckStatus) -> None:
    report = good()
    report.restored = passed_report("x").restored
    report.results.append(check("table-content", status, "items"))
    report.judge()
    text = printed(report, 200)
    assert "RPO 60 s: NOT PROVED, the copy was not found right" in text
    assert "RTO 1 h: NOT PROVED, the copy was not found right" in text


def test_what_lies_after_an_instant_of_the_past_is_not_proved() -> None:
    report = good()
    report.target = Target(kind="random", value="2026-11-25T11:00:00+00:00")
    text = printed(report, 200)
    assert "RPO 60 s: NOT PROVED, WAL after the target was not replayed" in text
    assert "RTO 1 h: kept" in text


def test_one_broken_promise_leaves_the_other_kept() -> None:
    report = good()
    report.measured_rpo_seconds = 130
    report.results.append(check("measured-rpo", "fail", "archive"))
    report.judge()
    text = printed(report)
    assert "RPO 60 s: BROKEN" in text
    assert "RTO 1 h: kept" in text


def test_what_was_not_reached_is_shown_as_not_measured() -> None:
    report = good()
    report.timings, report.measured_rpo_seconds = Timings(), None
    text = printed(report)
    assert "RTO 1 h: not measured" in text
    assert "RPO 60 s: not measured" in text


def test_a_drill_without_fsync_says_that_its_times_flatter() -> None:
    report = good()
    report.durability = "fast"
    assert "WITHOUT fsync" in printed(report)


def test_passes_of_one_check_are_one_row_with_their_span() -> None:
    text = printed(good())
    assert "4 answers: recall@10 0.9 to 0.93, wanted >= 0.9" in " ".join(text.split())
    assert "items2.embedding" not in text
    assert line(text, "pass").endswith("2.0")


def test_a_figure_stands_beside_what_was_wanted_of_it_alone() -> None:
    report = good()
    report.results.append(
        check(
            "index-recall",
            "pass",
            "old.embedding",
            value=0.652,
            threshold=">= 0.3",
            message="recall@10; no loss on 50 same probes",
        )
    )
    text = " ".join(printed(report, 129).split())
    assert "4 answers: recall@10 0.9 to 0.93, wanted >= 0.9" in text
    assert "old.embedding: recall@10 0.652 (no loss on 50 same probes), wanted >= 0.3" in text


@pytest.mark.parametrize(
    ("name", "thing", "value", "threshold", "message", "shown"),
    [
        (
            "clock-difference",
            "production",
            -0.0,
            "within 5 s",
            "give or take 0.000 s",
            "production: 0 s (give or take 0.000 s), wanted within 5 s",
        ),
        ("measured-rpo", "archive", 5.6, "<= 60 s", "", "archive: 5.6 s, wanted <= 60 s"),
        (
            "vector-indexes",
            "items.embedding",
            1,
            "indexes as recorded",
            "",
            "items.embedding: 1 index, wanted indexes as recorded",
        ),
        (
            "table-content",
            "agents: 139 tables",
            45073,
            "as recorded",
            "rows in all",
            "agents: 139 tables: 45073 rows in all, wanted as recorded",
        ),
        (
            "amcheck",
            "agents: 961 relations",
            961,
            "sound",
            "",
            "agents: 961 relations: all, wanted sound",
        ),
        (
            "filtered-search",
            "items.embedding (items_hnsw)",
            1.0,
            "loss <= 0.02",
            "by tenant",
            "items.embedding (items_hnsw): recall@10 1 (by tenant), wanted loss <= 0.02",
        ),
        ("application-test", "pytest", 0, "exit code 0", "0.1 s", "pytest: exit code 0 (0.1 s)"),
        ("amcheck", "3 answers", 270, "sound", "", "3 answers: 270 relations, wanted sound"),
        ("extension-libraries", "agents.vector", "0.8.6", "", "", "agents.vector: version 0.8.6"),
        (
            "dump-roles",
            "roles",
            4,
            "all as dumped",
            "statements",
            "roles: 4 statements, wanted all as dumped",
        ),
        (
            "dump-definitions",
            "agents",
            13,
            "all as dumped",
            "objects compared",
            "agents: 13 objects compared, wanted all as dumped",
        ),
        ("timeline", "followed", 1, "= 1", "production's", "followed: timeline 1 (production's)"),
    ],
)
def test_a_figure_of_a_pass_has_its_unit(
    name: str, thing: str, value: float | str, threshold: str, message: str, shown: str
) -> None:
    report = good()
    report.results = [check(name, "pass", thing, value=value, threshold=threshold, message=message)]
    assert f"pass {name} {shown} 0.0" in " ".join(printed(report, 129).split())


def test_questions_that_many_checks_leave_for_one_reason_are_one_row() -> None:
    report = good()
    report.results += [
        check(name, "skip", value="not asked", message="no vector column", required=False)
        for name in ("a", "b", "c")
    ]
    text = " ".join(printed(report).split())
    assert "3 questions" in text
    assert text.count("no vector column") == 1


def test_a_step_that_was_not_reached_says_so() -> None:
    report = good()
    report.timings = Timings(preflight_seconds=0.4, wal=WalFetched(segments=3))
    text = printed(report)
    assert "not reached 3 segments fetched ahead" in " ".join(line(text, "replay").split())
    assert "sync to disk" not in text


def test_every_answer_that_is_no_pass_is_shown_in_full_with_one_hint() -> None:
    report = good()
    report.results += [
        check(
            "index-recall",
            "fail",
            f"bad{n}.embedding",
            value=0.1,
            threshold=">= 0.9",
            hint="REINDEX it",
        )
        for n in range(2)
    ] + [check("row-counts", "skip", "tables", message="no baseline to compare with")]
    report.judge()
    text = printed(report)
    assert "7 answers: 4 pass, 0 warn, 2 fail, 1 skip" in text
    assert "bad0.embedding" in text
    assert "bad1.embedding" in text
    assert "no baseline to compare with" in text
    assert text.count("REINDEX it") == 1
    assert text.startswith("FAILED: 2 of 7 checks failed")


def test_a_trouble_is_shown_with_its_four_parts() -> None:
    report = good()
    report.results = []
    report.restore = Stage(
        status="failed",
        trouble=Trouble(
            reason="wal-gap",
            thing="WAL segment 00000001000000000000000A",
            found="no such object",
            expected="every segment",
            hint="take a base backup now",
        ),
    )
    report.judge()
    text = printed(report)
    assert text.startswith("FAILED: restore: wal-gap.")
    assert "restore failed: wal-gap" in text
    for part in (
        "00000001000000000000000A",
        "no such object",
        "every segment",
        "take a base backup now",
    ):
        assert part in text


def test_it_says_where_the_report_is_kept_in_lines_that_can_be_copied() -> None:
    report = good()
    report.kept_at[0] = "/var/lib/pgdrill/" + "deep/" * 20 + "report.json"
    assert f"Kept at {report.kept_at[0]}\n" in printed(report)
    assert "    and s3://bucket/agents/pgdrill/reports/x.json\n" in printed(report)


@pytest.mark.parametrize("width", [80, 120, 200])
def test_nothing_is_wider_than_the_terminal_or_cut_off(width: int) -> None:
    report = good()
    report.results.append(
        check(
            "row-counts",
            "fail",
            "agents.public." + "Q" * 128,
            value="no such table",
            threshold="12345678 rows",
            message="it was there on Sunday " * 6,
            hint="compare",
        )
    )
    report.kept_at = []
    text = printed(report, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert text.count("Q") == 128


def test_without_a_terminal_there_is_no_escape_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in printed(good())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in printed(good(), force_terminal=True)


def test_brackets_in_names_are_no_markup() -> None:
    report = good()
    report.results = [
        check(
            "row-counts",
            "fail",
            "agents.[bold]odd[/bold]",
            message="[red]",
            hint="see [clusters.agents]",
        )
    ]
    text = printed(report)
    for words in ("agents.[bold]odd[/bold]", "[red]", "see [clusters.agents]"):
        assert words in text


def test_a_report_that_hardly_began_can_be_shown() -> None:
    report = Report(
        drill_id="x",
        cluster="agents",
        started_at=datetime.now(UTC),
        rpo_seconds=60,
        rto_seconds=3600,
    )
    assert printed(report).startswith(
        "COULD NOT VERIFY: unfinished. Cluster agents, no backup chosen"
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "-"),
        (0, "0 s"),
        (0.05, "0.05 s"),
        (2.314, "2.31 s"),
        (45.25, "45.2 s"),
        (60, "60 s"),
        (99.99, "100 s"),
        (150.4, "2 min 30 s"),
        (3600, "1 h"),
        (3659.7, "1 h 1 min"),
        (86400, "24 h"),
    ],
)
def test_seconds_are_words(value: float | None, words: str) -> None:
    assert terminal.seconds(value) == words


def test_backups_are_a_line_each_in_80_columns() -> None:
    now = datetime(2026, 11, 22, 2, 10, tzinfo=UTC)
    made = [
        BaseBackup(f"base_00000001000000000000000{n}", 1, 18, 1, 0, 0, now, now, 123_456_789_012, 0)
        for n in (4, 9)
    ]
    stream = io.StringIO()
    Console(file=stream, width=80).print(terminal.backups_table(made, {made[0].name}))
    first, second = stream.getvalue().splitlines()[2:]
    assert first.split() == [made[0].name, "2026-11-22", "02:10", "123.5", "GB", "-", "18", "yes"]
    assert second.split()[-1] == "no"

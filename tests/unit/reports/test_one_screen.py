"""A report on one screen: nothing that is not good is left out, what passed is counted, and it is
short.
"""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from pgdrill.logical import terminal as dumps
from pgdrill.logical.report import DumpReport
from pgdrill.reports.model import CheckResult, Report, Stage, Trouble
from pgdrill.reports.one_screen import log_lines, print_report, print_verification
from pgdrill.reports.terminal import SafeConsole, report_table
from pgdrill.verify import Verification
from tests.unit.reports.test_terminal import check, good

BEGAN = datetime(2026, 11, 27, 11, tzinfo=UTC)
CHECKS_OF_FAMILY = {
    "recovery": 14,
    "vectors": 8,
    "embeddings": 4,
    "search": 3,
    "schema": 6,
    "integrity": 6,
    "rows": 3,
    "own": 2,
}


def printed(report: Report, width: int = 100, **more: Any) -> str:
    stream = io.StringIO()
    print_report(
        report, SafeConsole(file=stream, width=width, highlight=False, markup=False), **more
    )
    return stream.getvalue()


def full(report: Report) -> str:
    stream = io.StringIO()
    report_table(report, SafeConsole(file=stream, width=100, highlight=False, markup=False))
    return stream.getvalue()


def words(text: str) -> str:
    return " ".join(text.split())


def as_large_as_the_demos() -> Report:
    report = good()
    report.results = [
        CheckResult(
            name=f"{family}-question-{number}",
            family=family,
            status="pass",
            value=1,
            thing=f"thing {thing}",
        )
        for family, checks in CHECKS_OF_FAMILY.items()
        for number in range(checks)
        for thing in range(3)
    ]
    report.judge()
    return report


def test_a_drill_that_asked_all_that_there_is_fits_on_one_screen() -> None:
    text = printed(as_large_as_the_demos())
    assert len(text.splitlines()) <= 40
    assert text.startswith("PASSED: all checks passed. Cluster agents")


def test_what_passed_is_counted_by_family_with_the_names_of_its_checks() -> None:
    text = words(printed(as_large_as_the_demos()))
    assert (
        "138 of 138 answers passed recovery 42 of 42 recovery-question-0, recovery-question-1,"
        in text
    )
    assert "own 6 of 6 own-question-0, own-question-1" in text


def test_times_stand_beside_their_promises() -> None:
    text = words(printed(good()))
    assert (
        "time to running 2 min 31 s fetch 1 min 40 s (5.0 GB, 50.0 MB/s), replay 50 s (300.0 MB of"
        " WAL)" in text
    )
    assert "time to correct vector search 3 min RTO 1 h: kept" in text
    assert "measured RPO 21.4 s RPO 60 s: kept" in text
    assert "recall@10 0.9 to 0.93, on 4 vector indexes" in text


def test_a_promise_is_kept_only_by_what_was_proved() -> None:
    report = good()
    report.results.append(
        check("index-recall", "fail", "bad.embedding", value=0.1, threshold=">= 0.9")
    )
    report.judge()
    assert report.unproved
    text = printed(report)
    assert "kept" not in text.split("time to running")[1].split("recovery target")[0]
    assert line_of(text, "measured RPO").split() == line_of(full(report), "measured RPO").split()


@pytest.mark.parametrize("width", [60, 80, 100])
def test_every_answer_that_is_no_pass_is_told_in_full_before_any_figure(width: int) -> None:
    report = good()
    report.results += [
        check(
            "index-recall",
            "fail",
            "bad.embedding",
            value=0.1,
            threshold=">= 0.9",
            hint="REINDEX it",
        ),
        check(
            "search-latency", "warn", "slow.embedding", value=3, threshold="<= 2", hint="prewarm it"
        ),
        check("row-counts", "skip", "tables", message="no baseline to compare with"),
    ]
    report.judge()
    text = words(printed(report, width))
    before, after = text.split("time to running", 1)
    for told in (
        "FAILED: 1 of 7 checks failed",
        "bad.embedding",
        "wanted >= 0.9",
        "REINDEX it",
        "slow.embedding",
        "prewarm it",
        "no baseline",
    ):
        assert told in before
    assert "4 of 7 answers passed vectors 4 of 7" in after
    assert "index-recall" not in after


def test_nothing_is_wider_than_a_narrow_terminal_but_what_is_copied() -> None:
    report = good()
    report.kept_at = []
    text = printed(report, 60)
    assert max(map(len, text.splitlines())) <= max(60, len(line_of(text, "Every answer")))
    assert "…" not in text


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_a_question_that_is_none_here_is_a_line_below_what_passed_and_not_counted_as_open() -> None:
    report = good()
    report.results += [
        check(
            "instant",
            "skip",
            "target",
            value="not asked",
            message="the target is no instant",
            required=False,
        )
    ]
    text = printed(report)
    assert "  4 of 4  " in text
    assert line_of(text, "not asked") == "not asked: instant of target (the target is no instant)"


def test_what_was_left_for_one_reason_is_one_line() -> None:
    report = good()
    report.results += [
        check(name, "skip", thing, value="not asked", message="a dump has no WAL", required=False)
        for name, thing in (("timeline", "a"), ("timeline", "b"), ("promoted", "server"))
    ]
    assert (
        line_of(printed(report), "not asked") == "not asked: timeline, promoted (a dump has no WAL)"
    )


def test_an_answer_that_was_required_and_not_asked_is_open() -> None:
    report = good()
    report.results += [
        check("instant", "skip", "target", value="not asked", message="nobody asked", required=True)
    ]
    report.judge()
    assert "nobody asked" in words(printed(report)).split("time to running")[0]


def test_a_trouble_is_told_once_with_its_hint_and_what_was_not_reached_has_no_figure() -> None:
    report = good()
    report.results, report.kept_at = [], []
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
    assert text.count("no such object") == 1
    assert text.index("take a base backup now") < text.index("time to running")
    assert "answers passed" not in text
    assert "Every answer" not in text


def test_how_to_see_every_answer_is_a_command_that_can_be_copied() -> None:
    report = good()
    assert (
        line_of(printed(report, 60), "Every answer")
        == f"Every answer: pgdrill report agents {report.drill_id} --full"
    )
    assert line_of(printed(report, more="elsewhere"), "Every answer") == "Every answer: elsewhere"


def test_a_tasks_log_gets_lines_without_colour_or_empty_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    lines = log_lines(lambda console: print_report(good(), console))
    assert lines[0].startswith("PASSED: all checks passed.")
    assert all(line.strip() and "\x1b" not in line for line in lines)


def test_a_verification_counts_what_passed_and_tells_the_rest() -> None:
    found = Verification(
        cluster="agents",
        server="host=/x",
        started_at=BEGAN,
        asked_as="pgdrill",
        seconds=3,
        baseline_taken_at=None,
        results=[
            check("index-recall", "pass", "items.v", value=1.0),
            check("table-content", "skip", message="no baseline"),
        ],
        verdict="could not verify",
        reason="1 required checks not answered, first table-content",
    )
    stream = io.StringIO()
    print_verification(found, Console(file=stream, width=80))
    text = words(stream.getvalue())
    assert text.startswith("COULD NOT VERIFY: 1 required checks not answered")
    assert "table-content no baseline" in text
    assert "1 of 2 answers passed" in text
    assert text.endswith("Every answer: the same command with --full")


def test_the_restore_of_a_dump_is_shown_in_the_same_way() -> None:
    report = DumpReport(
        drill_id="20261127T110000Z-3f9a2c",
        dump_id="dump_x",
        cluster="agents",
        started_at=BEGAN,
        restore=Stage(status="ok", seconds=12),
        checks=Stage(status="ok"),
        notes=["tablespaces were not made"],
        results=[
            check("index-recall", "pass", "items.v", value=1.0),
            check(
                "dump-rows", "fail", "agents", value=3, threshold="4", hint="restore another dump"
            ),
        ],
    )
    report.judge()
    stream = io.StringIO()
    dumps.print_report(report, Console(file=stream, width=80))
    text = words(stream.getvalue())
    assert text.startswith(
        "FAILED: 1 of 2 checks failed, first dump-rows agents. Cluster agents, dump dump_x"
    )
    assert re.search(
        r"dump-rows: restore another dump .* restore in all 12 s .* 1 of 2 answers passed", text
    )
    assert "note: tablespaces were not made" in text

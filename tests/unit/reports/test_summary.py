"""The sentence for a manager: every verdict has its own, and none sounds better than the report
is."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest

from pgdrill.reports.model import (
    NOT_ASKED,
    CheckResult,
    CheckStatus,
    Report,
    Stage,
    Target,
    Timings,
    Trouble,
)
from pgdrill.reports.summary import _about, summarize

TROUBLE = Trouble(
    reason="wal-gap",
    thing="segment 0A",
    found="none",
    expected="one",
    hint="take a base backup now",
)


def result(
    status: CheckStatus, name: str = "table-content", thing: str = "agents.public.items"
) -> CheckResult:
    return CheckResult(name=name, family="rows", status=status, thing=thing)


def report(*more: CheckResult, **changes: object) -> Report:
    made = Report(
        drill_id="x",
        cluster="agents",
        started_at=datetime(2026, 11, 27, 11, tzinfo=UTC),
        rpo_seconds=60,
        rto_seconds=3600,
        backup="base_1",
        target=Target(kind="latest", value="pgdrill-x"),
        measured_rpo_seconds=12.4,
        timings=Timings(time_to_running_seconds=600, time_to_correct_vector_search_seconds=700),
        restore=Stage(status="ok"),
        checks=Stage(status="ok"),
        results=[CheckResult(name="index-recall", family="vectors", status="pass"), *more],
    )
    for name, value in changes.items():
        setattr(made, name, value)
    made.judge()
    return made


def test_passed() -> None:
    assert (
        summarize(report())
        == "On 27 November 2026 the newest backup of agents was restored in 12 min and vector"
        " search on it was right; at most 13 s of work would have been lost. Nothing was left"
        " unchecked."
    )


def test_failed_names_the_first_and_says_what_it_means() -> None:
    assert (
        summarize(report(result("pass"), result("fail"), result("fail", thing="other")))
        == "On 27 November 2026 the newest backup of agents was restored and IS NOT RIGHT: 2"
        " answers failed, first table-content of agents.public.items. Nobody should rely on it"
        " until that is mended. Nothing was left unchecked."
    )


def test_a_backup_that_cannot_be_restored() -> None:
    made = report(results=[], restore=Stage(status="failed", trouble=TROUBLE), checks=Stage())
    assert (
        summarize(made)
        == "On 27 November 2026 the newest backup of agents COULD NOT BE RESTORED (wal-gap: segment"
        " 0A). Nobody should rely on it until that is mended. Nothing was checked."
    )


def test_could_not_verify_says_that_nothing_is_known() -> None:
    made = report(
        results=[], restore=Stage(status="could not verify", trouble=TROUBLE), checks=Stage()
    )
    assert (
        summarize(made)
        == "On 27 November 2026 the newest backup of agents COULD NOT BE JUDGED (restore: wal-gap;"
        " segment 0A: none). Whether it is good is not known; what kept the drill from an answer"
        " has to be mended first. Nothing was checked."
    )
    unanswered = summarize(report(result("skip", "amcheck", "agents")))
    assert "COULD NOT BE JUDGED (1 required checks not answered, first amcheck)" in unanswered
    assert unanswered.endswith("1 question had no answer, first amcheck of agents.")


def test_warnings_and_open_questions_are_counted_and_the_first_is_named() -> None:
    optional = result("skip", "canary", "embedder").model_copy(update={"required": False})
    words = summarize(report(result("warn", "index-used", ""), optional, optional))
    assert "vector search on it was right" in words
    assert words.endswith(
        "1 answer is a warning, first index-used. 2 questions had no answer, first canary of"
        " embedder."
    )


def test_what_was_not_asked_is_told_from_what_had_no_answer() -> None:
    unasked = result("skip", "canary", "embedder").model_copy(
        update={"required": False, "value": NOT_ASKED}
    )
    assert summarize(report(unasked)).endswith(
        "1 question was not asked, first canary of embedder."
    )


def test_families_that_were_left_out_are_not_called_checked() -> None:
    words = summarize(report(families_left_out=["rows", "integrity"]))
    assert words.endswith("Not asked, by choice: rows, integrity.")
    assert "Nothing was left" not in words


def test_a_broken_promise_is_not_a_wrong_backup() -> None:
    words = summarize(
        report(
            result("fail", "rto", "time"),
            result("fail", "measured-rpo", "archive"),
            measured_rpo_seconds=130,
        )
    )
    assert (
        "A PROMISE WAS BROKEN: the restore took longer than promised and more work would have been"
        " lost than promised" in words
    )
    assert "at most 3 min of work would have been lost" in words
    assert "IS NOT RIGHT" in summarize(report(result("fail", "rto"), result("fail")))


def test_an_rpo_that_was_missed_by_little_stands_in_the_verdicts_line() -> None:
    missed = result("warn", "measured-rpo", "archive").model_copy(
        update={"message": "RPO missed by 12 s; at most"}
    )
    made = report(missed, measured_rpo_seconds=71.2)
    assert made.verdict_line == "WARNED, RPO missed by 12 s"
    assert made.reason == "no check failed, 1 warned, among them: RPO missed by 12 s"
    assert (
        "vector search on it was right, but THE RPO WAS MISSED by 12 s: at most 72 s of work would"
        " have been lost" in summarize(made)
    )
    assert report(missed, result("fail")).verdict_line == "FAILED"


def test_a_restore_without_fsync_and_one_that_was_not_measured_say_so() -> None:
    words = summarize(report(durability="fast", measured_rpo_seconds=None))
    assert "a real recovery takes longer" in words
    assert "how much work would have been lost could not be measured" in words


def test_a_kept_cluster_and_one_that_could_not_be_removed() -> None:
    assert summarize(report(), kept=True).endswith("The restored cluster was kept for a look.")
    assert summarize(report(cleanup=Stage(status="ok"))).endswith("Nothing was left unchecked.")
    assert summarize(report(cleanup=Stage(status="could not verify"))).endswith(
        "The restored cluster could not be removed."
    )


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (
            Target(kind="time", value="2026-11-20 11:00:00+00"),
            "backup of agents, as of 2026-11-20 11:00:00+00, was restored",
        ),
        (
            Target(kind="random", value="2026-11-20 11:00:00+00"),
            "backup of agents, as of 2026-11-20 11:00:00+00, was restored",
        ),
        (
            Target(kind="before", value="2026-11-20 11:00:00+00"),
            "backup of agents, as just before 2026-11-20 11:00:00+00, was restored",
        ),
        (Target(kind="lsn", value="0/3000028"), "up to LSN 0/3000028, was restored"),
        (
            Target(kind="name", value="before-upgrade"),
            "up to restore point before-upgrade, was restored",
        ),
    ],
)
def test_what_was_restored_is_what_was_asked(target: Target, words: str) -> None:
    assert words in summarize(report(target=target))
    assert "backup base_1 of agents" in summarize(report(wanted_backup="base_1"))
    assert "the newest" not in summarize(report(wanted_backup="base_1"))


STAGES = ("not run", "running", "ok", "failed", "could not verify")


@pytest.mark.parametrize("stages", list(itertools.product(STAGES, STAGES)))
@pytest.mark.parametrize("status", ["pass", "warn", "fail", "skip"])
def test_only_a_passed_report_is_called_right_and_only_a_complete_one_complete(
    stages: tuple[str, str], status: CheckStatus
) -> None:
    restore, checks = (Stage(status=it) for it in stages)  # type: ignore[arg-type]
    made = report(result(status), restore=restore, checks=checks)
    words = summarize(made)
    assert ("was right" in words) == (made.verdict == "passed")
    assert ("Nothing was left unchecked" in words) == (checks.status == "ok" and status != "skip")
    assert ("Nobody should rely" in words) == (made.verdict == "failed")
    assert ("not known" in words) == (made.verdict == "could not verify")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.2, "1 s"),
        (12.4, "13 s"),
        (99, "99 s"),
        (99.5, "2 min"),
        (700, "12 min"),
        (5940, "99 min"),
        (5941, "1 h 40 min"),
    ],
)
def test_times_are_rounded_up(seconds: float, words: str) -> None:
    assert _about(seconds) == words

"""The verdict: every way in which a drill must not be green."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from pgdrill.errors import BackupFault, CouldNotVerify, TimedOut
from pgdrill.reports.model import CheckResult, Report, Stage, Timings, explain, judge

STAGES = ["not run", "running", "ok", "failed", "could not verify"]
STATUSES = ["pass", "warn", "fail", "skip"]
OK = Stage(status="ok")


def result(status: str, *, family: str = "vectors", required: bool = True) -> CheckResult:
    return CheckResult(name=f"{family}-check", family=family, status=status, required=required)  # type: ignore[arg-type]


GOOD = [result("pass"), result("pass", family="recovery")]


def test_all_answered_and_nothing_wrong_is_green() -> None:
    assert judge(OK, OK, GOOD) == ("passed", "all checks passed")
    verdict, reason = judge(OK, OK, [*GOOD, result("warn")])
    assert (verdict, "1 warned" in reason) == ("passed", True)


@pytest.mark.parametrize(
    ("restore", "checks"),
    [pair for pair in itertools.product(STAGES, STAGES) if pair != ("ok", "ok")],
)
def test_no_unfinished_or_broken_stage_is_green(restore: str, checks: str) -> None:
    verdict, reason = judge(Stage(status=restore), Stage(status=checks), GOOD)  # type: ignore[arg-type]
    assert verdict == ("failed" if "failed" in (restore, checks) else "could not verify")
    assert reason.startswith(("restore:", "checks:"))


@pytest.mark.parametrize("combination", list(itertools.product(STATUSES, STATUSES, [True, False])))
def test_only_answers_without_a_failure_are_green(combination: tuple[str, str, bool]) -> None:
    first, second, required = combination
    verdict, _ = judge(OK, OK, [result(first), result(second, family="rows", required=required)])
    if "fail" in (first, second):
        assert verdict == "failed"
    elif first == "skip" or (second == "skip" and required):
        assert verdict == "could not verify"
    else:
        assert verdict == "passed"


@pytest.mark.parametrize(
    "results", [[], [result("pass", family="rows")], [result("skip", required=False)]]
)
def test_a_drill_that_looked_at_no_vector_is_not_green(results: list[CheckResult]) -> None:
    assert judge(OK, OK, results)[0] == "could not verify"


def test_a_proven_fault_outweighs_what_could_not_be_answered() -> None:
    assert (
        judge(OK, Stage(status="could not verify"), [result("fail"), result("skip")])[0] == "failed"
    )
    assert judge(OK, Stage(status="running"), [result("fail")])[0] == "failed"


def test_a_warning_counts_as_answered_vectors() -> None:
    assert judge(OK, OK, [result("warn")])[0] == "passed"


def fault(kind: type[Exception]) -> Exception:
    return kind("missing-part", "part_1", found="none", expected="one", hint="look")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("kind", "status"),
    [(BackupFault, "failed"), (CouldNotVerify, "could not verify"), (TimedOut, "could not verify")],
)
def test_whose_fault_it_was_decides_the_stage(kind: type[Exception], status: str) -> None:
    stage = Stage()
    stage.fail(fault(kind))
    assert stage.status == status
    assert stage.trouble
    assert stage.trouble.reason == "missing-part"


@pytest.mark.parametrize(
    "error", [ValueError("odd"), KeyboardInterrupt(), SystemExit(1), RuntimeError("x" * 9999)]
)
def test_an_unforeseen_error_is_never_the_backups_fault(error: BaseException) -> None:
    stage = Stage()
    stage.fail(error)
    assert stage.status == "could not verify"
    problem = explain(error)
    assert problem.reason == "unforeseen"
    assert problem.found
    assert len(problem.found) <= 500


def report() -> Report:
    return Report(
        drill_id="x",
        cluster="agents",
        started_at=datetime(2026, 11, 20, 11, tzinfo=UTC),
        rto_seconds=3600,
        rpo_seconds=60,
    )


def test_a_report_begins_as_not_green_and_survives_being_written() -> None:
    fresh = report()
    assert fresh.verdict == "could not verify"
    fresh.judge()
    assert fresh.verdict == "could not verify"
    assert Report.model_validate_json(fresh.model_dump_json()) == fresh


def test_a_report_in_which_hints_were_called_mends_is_read() -> None:
    stage = {
        "status": "failed",
        "trouble": {"reason": "a", "thing": "b", "found": "c", "expected": "d", "mend": "look"},
    }
    read = Stage.model_validate(stage)
    assert read.trouble is not None
    assert read.trouble.hint == "look"
    assert '"hint":"look"' in read.model_dump_json()
    assert (
        CheckResult.model_validate(
            {"name": "a", "family": "rows", "status": "fail", "mend": "look"}
        ).hint
        == "look"
    )


def test_a_report_of_another_version_or_with_unknown_keys_is_refused() -> None:
    data = report().model_dump(mode="json")
    for changed in ({"version": 2}, {"colour": "green"}, {"verdict": "great"}):
        with pytest.raises(ValidationError):
            Report.model_validate(data | changed)


def test_the_rate_is_of_what_was_fetched() -> None:
    assert Timings(fetch_seconds=2, fetched_bytes=10_000_000).fetch_mb_per_second == 5
    assert Timings().fetch_mb_per_second is None
    assert Timings(fetch_seconds=0, fetched_bytes=1).fetch_mb_per_second is None

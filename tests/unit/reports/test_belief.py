"""A report that says passed has to show it, wherever it is read: no forged one counts or is shown
as passed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pgdrill.access import Access
from pgdrill.airflow.xcom import DrillResult
from pgdrill.checks import FAMILIES
from pgdrill.config import load
from pgdrill.errors import BackupFault
from pgdrill.logical import store as keep
from pgdrill.logical.report import DumpReport
from pgdrill.reports import store
from pgdrill.reports.belief import ESSENTIAL, believed, believed_dump
from pgdrill.reports.model import CheckResult, Report, Stage, Timings
from pgdrill.retention import collect
from tests.reports import passed_report

Forge = Callable[[Report], object]
NOW = datetime.now(UTC)


def nothing_asked(report: Report) -> None:
    report.results = []


def no_vectors(report: Report) -> None:
    report.results = [result for result in report.results if result.family != "vectors"]


def vectors_only_skipped(report: Report) -> None:
    report.results = [
        result.model_copy(update={"status": "skip"}) if result.family == "vectors" else result
        for result in report.results
    ]


def a_failure(report: Report) -> None:
    report.results = [*report.results, CheckResult(name="row-counts", family="rows", status="fail")]


def an_unanswered_question(report: Report) -> None:
    report.results = [*report.results, CheckResult(name="row-counts", family="rows", status="skip")]


def a_restore_that_failed(report: Report) -> None:
    report.restore.fail(BackupFault("wal-gap", "x", found="x", expected="x", hint="x"))


def checks_that_never_ran(report: Report) -> None:
    report.checks = Stage()


def no_cluster(report: Report) -> None:
    report.restored = None


def no_backup(report: Report) -> None:
    report.backup = ""


def no_target(report: Report) -> None:
    report.target = None


def never_running(report: Report) -> None:
    report.timings = Timings()


def from_the_future(report: Report) -> None:
    report.started_at = NOW + timedelta(days=1)


def ended_before_it_began(report: Report) -> None:
    report.ended_at = report.started_at - timedelta(seconds=1)


FORGERIES = [
    nothing_asked,
    no_vectors,
    vectors_only_skipped,
    a_failure,
    an_unanswered_question,
    a_restore_that_failed,
    checks_that_never_ran,
    no_cluster,
    no_backup,
    no_target,
    never_running,
    from_the_future,
    ended_before_it_began,
]


@pytest.fixture
def access(tmp_path: Path) -> Access:
    file = tmp_path / "dr.toml"
    file.write_text(
        '[clusters.agents]\nowner = "x"\n[clusters.agents.server]\ndsn ='
        f' "host=/nowhere"\ndata_directory = "{tmp_path}"\n[clusters.agents.repository]\nurl ='
        f' "file://{tmp_path}/repository"\n[clusters.agents.drill]\nwork_directory ='
        f' "{tmp_path}/work"\n'
    )
    return Access(load(file).cluster("agents"))


def forged(forge: Forge) -> Report:
    report = passed_report("d1")
    forge(report)
    report.verdict = "passed"
    report.reason = "all checks passed"
    report.summary = "Vector search on it was right."
    return report


@pytest.mark.parametrize("forge", FORGERIES)
def test_a_forged_pass_is_not_believed_and_counts_for_nothing(access: Access, forge: Forge) -> None:
    access.reports.write("reports/d1.json", forged(forge).model_dump_json().encode())
    found = store.load_report(access, "d1")
    assert found.verdict == "could not verify"
    assert found.reason.startswith("not believed: says passed, but ")
    assert "right" not in found.summary
    assert "not believed" in found.summary
    assert DrillResult.of(found).verdict == "could not verify"
    assert collect._drilled(collect._reports(access, [])) == {}


@pytest.mark.parametrize("family", ESSENTIAL)
def test_a_family_that_was_not_asked_is_named_or_was_left_out_by_choice(family: str) -> None:
    report = passed_report("d1")
    report.results = [result for result in report.results if result.family != family]
    assert family in believed(report.model_copy(deep=True)).reason or family == "vectors"
    report.families_left_out = [family]
    assert (believed(report).verdict == "passed") == (family != "vectors")


def test_a_true_report_stays_as_it_is(access: Access) -> None:
    store.save_report(access, passed_report("d1"))
    found = store.load_report(access, "d1")
    assert (found.verdict, found.reason) == ("passed", "all checks passed")
    assert list(collect._drilled(collect._reports(access, []))) == [found.backup]


def test_what_says_failed_is_never_made_better() -> None:
    report = passed_report("d1")
    report.verdict, report.reason = "failed", "checks: somebody's"
    assert believed(report).verdict == "failed"


@pytest.mark.parametrize("other", [{"drill_id": "d2"}, {"cluster": "others"}])
def test_the_report_of_another_drill_or_cluster_under_this_name_is_none(
    access: Access, other: dict[str, str]
) -> None:
    access.reports.write(
        "reports/d1.json", passed_report("d1").model_copy(update=other).model_dump_json().encode()
    )
    with pytest.raises(Exception, match="it is the report of"):
        store.load_report(access, "d1")


def test_the_families_are_the_checks_own() -> None:
    assert set(ESSENTIAL) <= set(FAMILIES)


def dump_report(**more: object) -> DumpReport:
    report = DumpReport(
        drill_id="d1",
        dump_id="20261201T040000Z-abcdef",
        cluster="agents",
        started_at=NOW,
        restore=Stage(status="ok"),
        checks=Stage(status="ok"),
        results=[CheckResult(name="index-recall", family="vectors", status="pass")],
        verdict="passed",
        reason="all checks passed",
    )
    return report.model_copy(update=more)


@pytest.mark.parametrize(
    "more",
    [{"results": []}, {"restore": Stage()}, {"started_at": NOW + timedelta(days=2)}],
    ids=["nothing asked", "not restored", "future"],
)
def test_a_dumps_forged_pass_proves_nothing(more: dict[str, object]) -> None:
    text = dump_report(**more).model_dump_json().encode()
    found = keep.parse_report(text, "20261201T040000Z-abcdef/drill-d1.json")
    assert not found.proves
    assert found.reason.startswith("not believed")
    assert believed_dump(dump_report()).proves
    with pytest.raises(ValueError, match="it is report d1"):
        keep.parse_report(text, "20261202T040000Z-abcdef/drill-d1.json")

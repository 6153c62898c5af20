"""Whose turn it is: told from the reports that were kept."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pgdrill.access import Access
from pgdrill.config import Cluster, Drill, RepositorySettings, Server
from pgdrill.recovery.planning import by_turns
from pgdrill.recovery.targets import parse_target
from pgdrill.reports import store
from pgdrill.reports.model import Report, Target


@pytest.fixture
def access(tmp_path: Path) -> Access:
    (tmp_path / "store").mkdir()
    return Access(
        Cluster(
            name="agents",
            server=Server(data_directory=tmp_path),
            repository=RepositorySettings(url=f"file://{tmp_path}/store"),
            drill=Drill(work_directory=tmp_path / "work"),
        )
    )


def keep(access: Access, day: int, kind: str | None) -> None:
    """A report of that day; None: it failed before it had a target."""
    target = Target(kind=kind, value="x") if kind else None  # type: ignore[arg-type]
    at = datetime(2026, 11, day, tzinfo=UTC)
    store.save_report(
        access,
        Report(
            drill_id=f"{at:%Y%m%d}",
            cluster="agents",
            started_at=at,
            rpo_seconds=60,
            rto_seconds=1,
            target=target,
        ),
    )


def turn(access: Access, earlier: Target | None = None) -> str:
    return by_turns(access, parse_target("alternate"), earlier).kind


def test_the_first_drill_is_latest_and_then_they_alternate(access: Access) -> None:
    assert turn(access) == "latest"
    for day, kind, following in (
        (6, "latest", "random"),
        (13, "random", "latest"),
        (27, "latest", "random"),
    ):
        keep(access, day, kind)
        assert turn(access) == following, "not the week, the last drill decides"


def test_drills_to_other_targets_and_those_that_never_got_one_do_not_count(access: Access) -> None:
    keep(access, 6, "latest")
    keep(access, 7, "time")
    keep(access, 8, "name")
    keep(access, 9, None)
    assert turn(access) == "random"


def test_a_report_that_cannot_be_read_is_passed_over(access: Access) -> None:
    keep(access, 6, "latest")
    store.report_file(access, "20261107").write_text("{")
    assert turn(access) == "random"


def test_reports_in_the_store_alone_count_too(access: Access) -> None:
    keep(access, 6, "latest")
    store.report_file(access, "20261106").unlink()
    assert turn(access) == "random"


def test_a_second_try_keeps_the_turn_of_the_first(access: Access) -> None:
    keep(access, 6, "latest")
    assert turn(access, Target(kind="random", value="2026-11-01T00:00:00Z")) == "random"
    keep(access, 7, "random")
    assert turn(access, Target(kind="random", value="2026-11-01T00:00:00Z")) == "random"


def test_only_a_try_that_was_asked_for_in_the_same_words_is_an_earlier_one(access: Access) -> None:
    assert store.earlier_target(access, "20261106", asked="alternate") is None
    keep(access, 6, "random")
    assert store.earlier_target(access, "20261106", asked="alternate") is None
    report = store.load_report(access, "20261106")
    assert report.target
    report.target.asked = "alternate"
    store.save_report(access, report)
    assert store.earlier_target(access, "20261106", asked="alternate") == report.target
    assert store.earlier_target(access, "20261106", asked="latest") is None


@pytest.mark.parametrize("kind", ["latest", "random", "time:2026-11-20T11:00:00Z"])
def test_what_was_asked_for_outright_is_nobodys_turn(access: Access, kind: str) -> None:
    keep(access, 6, "latest")
    assert str(by_turns(access, parse_target(kind), None)) == kind

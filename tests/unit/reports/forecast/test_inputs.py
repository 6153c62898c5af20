"""How a cluster grows is told from its base backups, and so is the day on which the RTO breaks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pgdrill.reports.forecast.inputs import Inputs, growth
from pgdrill.reports.forecast.model import Load
from pgdrill.repository.tools import BaseBackup

NOW = datetime(2026, 11, 24, tzinfo=UTC)
GB = 1e9


def backups(*sizes_gb: float, each_days: float = 7) -> list[BaseBackup]:
    return [
        BaseBackup(
            name=f"base_{number}",
            system_identifier=1,
            major_version=18,
            timeline=1,
            start_lsn=0,
            finish_lsn=1,
            start_time=NOW - timedelta(days=each_days * (len(sizes_gb) - number)),
            finish_time=NOW,
            uncompressed_bytes=int(size * GB),
            compressed_bytes=0,
        )
        for number, size in enumerate(sizes_gb)
    ]


def inputs(bytes_per_day: float) -> Inputs:
    load = Load(100 * GB, 1000, 20 * GB)
    return Inputs((), load, load, 100, NOW, 1, bytes_per_day)


def test_growth_is_the_slope_of_all_base_backups() -> None:
    assert growth(backups(100, 107, 114, 121)) == pytest.approx(GB)


@pytest.mark.parametrize(
    "found",
    [
        backups(100, 200),
        backups(100, 150, 200, each_days=1),
        backups(120, 110, 100),
        backups(0, 0, 0),
    ],
)
def test_few_backups_a_short_time_or_shrinking_tell_no_growth(found: list[BaseBackup]) -> None:
    assert growth(found) == 0


def test_the_day_is_when_the_size_is_reached() -> None:
    assert inputs(GB).breaks_on(1.5, NOW) == NOW + timedelta(days=50)


@pytest.mark.parametrize(("factor", "a_day"), [(None, GB), (0.8, GB), (1.5, 0.0), (900, 1.0)])
def test_no_day_is_told_that_nobody_can_foresee(factor: float | None, a_day: float) -> None:
    assert replace(inputs(a_day)).breaks_on(factor, NOW) is None

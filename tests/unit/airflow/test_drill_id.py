"""The drill's id."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdrill.airflow.drill_id import MAX_LENGTH, drill_id_of
from pgdrill.drill import new_drill_id

RESTORE_POINT_BYTES = 63


@pytest.mark.parametrize(
    ("run_id", "start"),
    [
        ("scheduled__2026-11-27T11:00:00+00:00", "20261127T110000Z-scheduled-"),
        ("manual__2026-11-27T12:00:00.123456+01:00", "20261127T110000Z-manual-"),
        ("asset_triggered__2026-11-27T11:00:00Z_x7", "20261127T110000Z-asset-triggered-"),
        ("before the upgrade/../../etc", "before-the-upgrade-etc-"),
        ("__", ""),
    ],
)
def test_an_id_says_when_and_what_kind_of_run_it_was(run_id: str, start: str) -> None:
    assert re.fullmatch(re.escape(start) + "[0-9a-f]{8}", drill_id_of(run_id))


@given(st.text())
def test_any_run_id_becomes_safe_short_and_stays_the_same(run_id: str) -> None:
    made = drill_id_of(run_id)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", made)
    assert len(made) <= MAX_LENGTH
    assert drill_id_of(made) == made


@given(st.sets(st.text(max_size=80), min_size=2, max_size=20))
def test_different_runs_have_different_ids(run_ids: set[str]) -> None:
    assert len({drill_id_of(run_id) for run_id in run_ids}) == len(run_ids)


def test_an_id_of_the_library_stays_as_it_is() -> None:
    made = new_drill_id()
    assert drill_id_of(made) == made


def test_the_restore_point_named_after_a_drill_keeps_the_whole_id() -> None:
    assert len("pgdrill-") + MAX_LENGTH <= RESTORE_POINT_BYTES

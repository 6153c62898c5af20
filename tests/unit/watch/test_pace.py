"""When the next look is due."""

from __future__ import annotations

from typing import Any

import pytest

from pgdrill.watch.pace import BEHIND_SECONDS, LEAST_SECONDS, next_look
from tests.unit.alerts.made import finding, report


def lag(value: float, status: Any = "ok", **more: Any) -> Any:
    measured = {"value": value, "promised": 30.0, "unit": "seconds"}
    return finding("replay-lag", status, **{**measured, **more})


@pytest.mark.parametrize(
    ("found", "seconds"),
    [
        ([], 10),
        ([lag(0.0)], 10),
        ([lag(12.0)], 10),
        ([lag(25.0)], 5 + BEHIND_SECONDS),
        ([lag(29.99)], LEAST_SECONDS),
        ([lag(25.0), lag(27.0)], 3 + BEHIND_SECONDS),
        ([lag(31.0, "critical")], 10),
        ([lag(25.0, unit="bytes")], 10),
        ([lag(40.0)], 10),
    ],
)
def test_a_look_comes_when_a_promise_has_just_run_out(found: list[Any], seconds: float) -> None:
    assert next_look(report(*found), 10) == pytest.approx(seconds)

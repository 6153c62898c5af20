"""The RTO beforehand: how long a recovery will take, from what drills measured part by part."""

from __future__ import annotations

from pgdrill.rto.inputs import Inputs, collect
from pgdrill.rto.levers import Lever, levers, scenarios
from pgdrill.rto.model import Forecast, Load, Sample, Span, breaks_at, forecast
from pgdrill.rto.probe import Probe, probe

__all__ = [
    "Forecast", "Inputs", "Lever", "Load", "Probe", "Sample", "Span", "breaks_at", "collect", "forecast", "levers", "probe",
    "scenarios",
]  # fmt: skip

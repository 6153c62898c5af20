"""The RTO beforehand: how long a recovery will take, from what drills measured part by part."""

from __future__ import annotations

from pgdrill.reports.forecast.inputs import Inputs, collect
from pgdrill.reports.forecast.levers import Lever, levers, scenarios
from pgdrill.reports.forecast.model import Forecast, Load, Part, Sample, Span, breaks_at, forecast
from pgdrill.reports.forecast.probe import Probe, probe
from pgdrill.reports.forecast.samples import sample_of

__all__ = [
    "Forecast",
    "Inputs",
    "Lever",
    "Load",
    "Part",
    "Probe",
    "Sample",
    "Span",
    "breaks_at",
    "collect",
    "forecast",
    "levers",
    "probe",
    "sample_of",
    "scenarios",
]

"""The levers that would help, each with the seconds it saves on the worst day.

It also says what that is concluded from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pgdrill.reports.forecast.inputs import Inputs
from pgdrill.reports.forecast.model import Forecast, Load, Sample, forecast
from pgdrill.reports.forecast.probe import Probe

NEARLY = 0.7  # of what the probe saw: whoever uses so much of it is bounded by it
ZSTD_OVER_LZ4 = 0.79  # stored bytes of a cluster with embeddings, measured: 189 MB and 239 MB


@dataclass(frozen=True, slots=True)
class Lever:
    """A lever that would make a recovery quicker."""

    name: str
    saves_seconds: float  # of the time to correct vector search
    because: str  # what it follows from


def levers(inputs: Inputs, probed: Probe, compression: str) -> list[Lever]:
    """Return the levers, the most helpful first.

    What would save nothing is there too, with the reason.
    """
    worst = forecast(inputs.history, inputs.worst)
    fetch = worst.parts["fetch"].likely
    bound = bound_by(inputs.history[-1], inputs.stored_bytes, probed)
    gain = 1 - min(1.0, probed.store / probed.store_doubled) if probed.store_doubled else 0.0
    found = [
        _more_bases(inputs, worst),
        Lever(
            f"more parallel streams ({2 * probed.streams} instead of {probed.streams})",
            fetch * gain if bound == "store" else 0.0,
            f"fetching is bounded by the {bound}; twice the streams read"
            f" {_percent(probed.store_doubled, probed.store)} from the store",
        ),
        Lever(
            "a drill host with twice the cores",
            fetch / 2 if bound == "cores" else 0.0,
            f"fetching is bounded by the {bound}",
        ),
        Lever(
            "a faster disk",
            (
                fetch / 2 + worst.parts["sync"].likely / 2
                if bound == "disk"
                else worst.parts["sync"].likely / 2
            ),
            f"fetching is bounded by the {bound}; syncing always is by the disk",
        ),
        Lever(
            "zstd instead of lz4",
            fetch * (1 - ZSTD_OVER_LZ4) if bound == "store" and compression == "lz4" else 0.0,
            (
                "fewer bytes to read, more work to unpack"
                if compression == "lz4"
                else f"the repository uses {compression}"
            ),
        ),
    ]
    return sorted(found, key=lambda lever: -lever.saves_seconds)


def bound_by(last: Sample, stored_bytes: int, probed: Probe) -> str:
    """Return what the newest drill's fetch used up: ``store``, ``disk`` or ``cores``."""
    fetch = last.parts["fetch"].at(1)
    if fetch <= 0:
        return "cores"
    if stored_bytes / fetch >= NEARLY * probed.store:
        return "store"
    if last.load.base_bytes / fetch >= NEARLY * probed.disk:
        return "disk"
    return "cores"


def _more_bases(inputs: Inputs, worst: Forecast) -> Lever:
    """Return the lever of a base backup every day, full or delta.

    There is then never more than a day's WAL to replay.
    """
    daily = replace(
        inputs.worst, wal_segments=min(inputs.worst.wal_segments, inputs.segments_per_day)
    )
    return Lever(
        "a base backup every day (delta backups will do)",
        worst.correct.likely - forecast(inputs.history, daily).correct.likely,
        f"{inputs.worst.wal_segments:.0f} WAL segments on the worst day,"
        f" {inputs.segments_per_day:.0f} a day",
    )


def _percent(new: float, old: float) -> str:
    change = 100 * (new / old - 1) if old else 0.0
    return f"{change:+.0f} %"


def scenarios(inputs: Inputs) -> Sequence[tuple[str, Load]]:
    """Return the loads that are forecast, each with its name."""
    named = [
        ("now", inputs.now),
        (f"worst day, {inputs.next_base_at:%a %d %b %H:%M} UTC", inputs.worst),
    ]
    return [
        *named,
        *(
            (f"worst day at {factor} times the size", inputs.worst.times(factor))
            for factor in (2, 5, 10)
        ),
    ]

"""The lever that helps most is named first, and one that cannot help saves nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from pgdrill.reports.forecast.inputs import Inputs
from pgdrill.reports.forecast.levers import bound_by, levers
from pgdrill.reports.forecast.model import Load, Part, Sample
from pgdrill.reports.forecast.probe import Probe

GB = 1e9


def sample(**seconds: float) -> Sample:
    """A drill all of whose parts grow."""
    took = {
        "start": 2.0,
        "fetch": 500.0,
        "sync": 20.0,
        "redo": 60.0,
        "prewarm": 5.0,
        "vectors": 30.0,
        **seconds,
    }
    return Sample(
        Load(100 * GB, 5000, 20 * GB), {name: Part(growing=one) for name, one in took.items()}
    )


LAST = sample()
INPUTS = Inputs(
    (LAST,),
    LAST.load,
    Load(100 * GB, 7000, 20 * GB),
    1000,
    datetime(2026, 11, 29, 2, tzinfo=UTC),
    int(60 * GB),
)
SLOW_STORE = Probe(streams=4, store=0.13 * GB, store_doubled=0.26 * GB, disk=2 * GB)
SLOW_DISK = Probe(streams=4, store=2 * GB, store_doubled=2 * GB, disk=0.21 * GB)
NEITHER = Probe(streams=4, store=2 * GB, store_doubled=2 * GB, disk=2 * GB)


def test_what_a_fetch_used_up_is_what_bounds_it() -> None:
    assert bound_by(LAST, INPUTS.stored_bytes, SLOW_STORE) == "store"
    assert bound_by(LAST, INPUTS.stored_bytes, SLOW_DISK) == "disk"
    assert bound_by(LAST, INPUTS.stored_bytes, NEITHER) == "cores"


def test_a_slow_store_wants_streams_first_and_zstd_too() -> None:
    found = levers(INPUTS, SLOW_STORE, "lz4")
    assert found[0].name.startswith("more parallel streams (8")
    assert found[0].saves_seconds == 250
    assert next(lever for lever in found if "zstd" in lever.name).saves_seconds > 0
    assert (
        next(
            lever for lever in levers(INPUTS, SLOW_STORE, "zstd") if "zstd" in lever.name
        ).saves_seconds
        == 0
    )


def test_a_slow_disk_and_few_cores_want_a_larger_host() -> None:
    assert levers(INPUTS, SLOW_DISK, "lz4")[0].name == "a faster disk"
    assert levers(INPUTS, NEITHER, "lz4")[0].name == "a drill host with twice the cores"


def test_much_wal_wants_more_base_backups() -> None:
    slow = sample(redo=6000)
    assert levers(replace(INPUTS, history=(slow,)), SLOW_STORE, "lz4")[0].name.startswith(
        "a base backup every day"
    )


def test_every_lever_says_what_it_follows_from() -> None:
    assert all(lever.because for lever in levers(INPUTS, NEITHER, "lz4"))

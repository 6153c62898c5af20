"""Streams and parts are chosen from cores, latency and size, and what is configured is taken as it
is.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdrill.host.tuning import (
    LARGEST_PART_BYTES,
    MOST_STREAMS,
    SMALLEST_PART_BYTES,
    fetch_streams,
    tune,
)

NEAR, FAR, GB = 0.001, 0.04, 10**9


def test_a_store_nearby_gets_a_stream_for_each_core() -> None:
    chosen = tune(cores=8, latency_seconds=NEAR, cluster_bytes=400 * GB)
    assert (chosen.streams, chosen.readers, chosen.part_bytes) == (8, 8, LARGEST_PART_BYTES)


def test_a_store_far_away_gets_four() -> None:
    assert tune(cores=8, latency_seconds=FAR).streams == 32
    assert tune(cores=64, latency_seconds=FAR).streams == MOST_STREAMS


def test_a_fetch_has_four_streams_for_each_core_however_near_the_store() -> None:
    streams, why = fetch_streams(cores=2)
    assert streams == 8
    assert "4 for each of 2 cores" in why
    assert fetch_streams(cores=64)[0] == MOST_STREAMS
    assert fetch_streams(cores=2, streams=5) == (5, "5 streams: configured")


def test_a_small_cluster_is_cut_into_parts_for_every_stream() -> None:
    chosen = tune(cores=2, latency_seconds=NEAR, cluster_bytes=600 * 2**20)
    assert chosen.part_bytes == 75 * 2**20
    assert (
        tune(cores=2, latency_seconds=NEAR, cluster_bytes=10 * 2**20).part_bytes
        == SMALLEST_PART_BYTES
    )


def test_what_is_configured_is_taken() -> None:
    chosen = tune(cores=2, latency_seconds=FAR, cluster_bytes=GB, streams=5, part_bytes=7 * 2**20)
    assert (chosen.streams, chosen.part_bytes) == (5, 7 * 2**20)
    assert all("configured" in reason for reason in chosen.reasons)


@pytest.mark.parametrize(("latency", "words"), [(NEAR, "1.0 ms"), (FAR, "40.0 ms")])
def test_each_choice_has_its_reason(latency: float, words: str) -> None:
    streams, parts = tune(cores=2, latency_seconds=latency, cluster_bytes=GB).reasons
    assert words in streams
    assert "1000 MB" in parts


@given(cores=st.integers(1, 512), latency=st.floats(0, 5), size=st.integers(0, 10**15))
def test_no_choice_is_out_of_bounds(cores: int, latency: float, size: int) -> None:
    chosen = tune(cores=cores, latency_seconds=latency, cluster_bytes=size)
    assert 1 <= chosen.streams <= max(cores, MOST_STREAMS)
    assert SMALLEST_PART_BYTES <= chosen.part_bytes <= LARGEST_PART_BYTES

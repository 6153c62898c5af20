"""A drill's report is divided into what is fixed and what grows, part by part."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import pytest

from pgdrill.reports.forecast.samples import checks_part, redo_part, sample_of
from pgdrill.reports.model import ColumnChecked, Report, Timings, WalFetched


def column(
    method: Literal["", "hnsw", "ivfflat"], rows: int, read: float, search: float
) -> ColumnChecked:
    return ColumnChecked(
        column="items.embedding",
        method=method,
        rows=rows,
        dimensions=384,
        table_bytes=2000 * rows,
        seconds=read + search,
        read_seconds=read,
        search_seconds=search,
    )


def report(**more: object) -> Report:
    values: dict[str, object] = {
        "fetched_bytes": 10**9,
        "fetch_seconds": 10.0,
        "fetch_fixed_seconds": 3.0,
        "sync_seconds": 1.0,
        "wal_segments": 100,
        "redo_seconds": 2.0,
        "checkpoint_seconds": 0.5,
        "time_to_running_seconds": 15.0,
        "prewarm_seconds": 0.2,
        "vector_checks_seconds": 4.0,
        "vector_bytes": 10**8,
        "looking_seconds": 3.0,
        "columns": [column("hnsw", 1024, 2.0, 1.0)],
        "time_to_correct_vector_search_seconds": 19.2,
        **more,
    }
    return Report(
        drill_id="d",
        cluster="agents",
        started_at=datetime.now(UTC),
        rpo_seconds=60,
        rto_seconds=3600,
        timings=Timings.model_validate(values),
    )


def test_the_parts_of_a_drill_add_up_to_its_two_times() -> None:
    sample = sample_of(report())
    assert sample
    seconds = {name: part.at(1) for name, part in sample.parts.items()}
    assert seconds == pytest.approx(
        {"start": 1.5, "fetch": 10, "sync": 1, "redo": 2.5, "prewarm": 0.2, "vectors": 4}
    )
    assert sum(seconds.values()) == pytest.approx(19.2)


def test_files_cost_the_same_however_large_they_are() -> None:
    sample = sample_of(report())
    assert sample
    assert sample.parts["fetch"].at(4) == pytest.approx(3 + 4 * 7)


def test_reading_grows_with_rows_and_searching_a_graph_with_their_logarithm() -> None:
    part = checks_part(4.0, 3.0, [column("hnsw", 1024, 2.0, 1.0)])
    assert part.at(4) == pytest.approx(4 * 2.0 + 1.2 + 1.0), (
        "reading, searching, and a second that is neither"
    )


def test_searching_lists_grows_with_rows() -> None:
    assert checks_part(3.0, 3.0, [column("ivfflat", 1024, 2.0, 1.0)]).at(4) == pytest.approx(12)


def test_columns_that_are_looked_at_together_share_the_time() -> None:
    assert checks_part(3.0, 3.0, [column("hnsw", 1024, 3.0, 0.0)] * 2).at(4) == pytest.approx(12)


def test_segments_that_lay_ready_hide_what_fetching_the_others_takes() -> None:
    ready = Timings(
        wal_segments=100,
        redo_seconds=0.5,
        checkpoint_seconds=0.1,
        wal=WalFetched(
            segments=100,
            by_reader=100,
            ready_segments=100,
            reading_seconds=3.0,
            reading_cpu_seconds=1.0,
        ),
    )
    assert redo_part(ready).at(1) == pytest.approx(0.6)
    assert redo_part(ready).at(4) == pytest.approx(300 * 0.020), (
        "that many are read while the server replays"
    )
    roomy = ready.model_copy(update={"wal": ready.wal.model_copy(update={"ahead_segments": 200})})  # type: ignore[union-attr]
    assert redo_part(roomy).at(4) == pytest.approx(200 * 0.020), (
        "a longer base leaves time to fill the spool"
    )
    assert redo_part(roomy).at(2) == pytest.approx(2 * 0.6), "they all lie ready"


def test_a_replay_that_waited_for_fetching_itself_knows_what_it_takes() -> None:
    waited = Timings(
        wal_segments=400,
        redo_seconds=8.0,
        wal=WalFetched(segments=400, ready_segments=64, reading_seconds=9.0),
    )
    assert redo_part(waited).at(4) == pytest.approx(32)


@pytest.mark.parametrize(
    "missing", ["fetch_fixed_seconds", "prewarm_seconds", "time_to_correct_vector_search_seconds"]
)
def test_a_drill_of_an_older_version_or_without_an_end_is_no_sample(missing: str) -> None:
    assert sample_of(report(**{missing: None})) is None

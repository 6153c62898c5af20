"""The probability with which sampling finds damage is the one that the docs state, on a real table
and in every shape.
"""

from __future__ import annotations

import psycopg
import pytest

from bench.detection_power import SHAPES, found_share, make_table, probability, sample_once
from pgdrill.postgres.row_digests import SAMPLE_BLOCKS, SAMPLE_ROWS, Shares, horizon, read_sample

ROWS = 2_000_000
# small enough to miss at times: a sample that never misses says nothing of the formula
QUARTER = SAMPLE_ROWS // 4
DAMAGES = 500


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "per_block", [226, 25, 3], ids=["narrow rows", "rows of 300 bytes", "rows with a vector"]
)
def test_a_thousandth_of_a_table_of_a_hundred_million_rows_is_found_in_99_of_100_cases(
    shape: str, per_block: int
) -> None:
    assert probability(100_000_000 // per_block, per_block, SHAPES[shape], SAMPLE_ROWS) > 0.9999


def test_what_is_sampled_finds_damage_as_often_as_stated_scattered_or_in_blocks(
    empty_database: str,
) -> None:
    with psycopg.connect(empty_database, autocommit=True) as connection:
        blocks, per_block = make_table(connection, ROWS)
        samples = [sample_once(connection, ROWS, blocks, QUARTER, QUARTER) for _ in range(5)]
        for sample in samples:
            assert len(sample) == pytest.approx(QUARTER, rel=0.15)
            assert len(set((sample // 1000).tolist())) > 0.55 * QUARTER, (
                "the sample sits in few blocks"
            )
        for shape, clustered in SHAPES.items():
            stated = probability(blocks, per_block, clustered, QUARTER, QUARTER)
            found = found_share(samples, blocks, per_block, clustered, DAMAGES)
            # Five standard deviations of so many trials, and what five samples differ from the
            # average one.
            assert found == pytest.approx(
                stated, abs=5 * (stated * (1 - stated) / DAMAGES) ** 0.5 + 0.02
            ), shape
        whole = [
            sample_once(connection, ROWS, blocks, SAMPLE_ROWS, SAMPLE_BLOCKS) for _ in range(2)
        ]
        for shape, clustered in SHAPES.items():
            assert found_share(whole, blocks, per_block, clustered, DAMAGES) >= 0.99, shape


def test_a_small_table_is_sampled_to_its_last_row(empty_database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as connection:
        blocks, _ = make_table(connection, 5000)
        found = read_sample(
            connection,
            "public",
            "narrow",
            horizon(connection, "00" * 16),
            Shares.of(blocks, 5000, SAMPLE_ROWS),
        )
    assert len(found) == 5000

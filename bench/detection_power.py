"""How much damage the sample of a busy table finds: ``python -m bench.detection_power --rows
100000000``.

A real table of narrow rows, the real sampling of the baseline with keys of its own each time, and
many ways to damage
0.1 % of the rows, in three shapes: rows scattered over the table, whole blocks, and one row in ten
of ten times as many blocks. What is counted is how often a sample holds a damaged row. Beside it
the probability that docs/explanation/checks-rows.md states.
"""

from __future__ import annotations

import argparse
import secrets
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psycopg
from rich.console import Console
from rich.table import Table

from pgdrill.postgres.row_digests import SAMPLE_BLOCKS, SAMPLE_ROWS, Shares, horizon, read_sample
from pgdrill_demo.stack import Stack

DAMAGE = 0.001
SHAPES = {"scattered rows": None, "whole blocks": 1.0, "a tenth of a block": 0.1}
Places = npt.NDArray[np.int64]  # block * 1000 + line


def main() -> None:
    """Make the table, sample it, damage it in thought."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--damages", type=int, default=2000)
    parser.add_argument("--sample-rows", type=int, default=SAMPLE_ROWS)
    wanted = parser.parse_args()
    stack = Stack(Path(tempfile.mkdtemp(prefix="pgdrill-")))
    try:
        stack.create(sample=False)
        stack.primary.options.update(
            {"archive_mode": "off", "wal_level": "minimal", "max_wal_senders": "0"}
        )  # type: ignore[attr-defined]
        stack.start()
        with stack.connect() as connection:
            blocks, per_block = make_table(connection, wanted.rows)
            show(connection, wanted, blocks, per_block)
    finally:
        stack.remove()


def make_table(connection: psycopg.Connection, rows: int) -> tuple[int, int]:
    """``narrow`` with so many rows; gives its blocks and the rows of a full block."""
    with connection.transaction():  # in one go, so that with wal_level=minimal nothing is logged
        connection.execute("CREATE TABLE narrow (id int)")
        connection.execute("INSERT INTO narrow SELECT generate_series(1, %s)", (rows,))
    row = connection.execute(
        "SELECT pg_relation_size('narrow') / current_setting('block_size')::int,"
        " (SELECT count(*) FROM narrow WHERE ctid >= '(0,0)' AND ctid < '(1,0)')"
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def sample_once(
    connection: psycopg.Connection, rows: int, blocks: int, sample_rows: int, sample_blocks: int
) -> Places:
    """The places that one baseline's sample holds."""
    shares = Shares.of(blocks, rows, sample_rows, sample_blocks)
    found = read_sample(
        connection, "public", "narrow", horizon(connection, secrets.token_hex(16)), shares
    )
    pairs = [place.partition("/")[0].strip("()").split(",") for place in found]
    return np.array([int(block) * 1000 + int(line) for block, line in pairs], dtype=np.int64)


def damaged(
    generator: np.random.Generator, blocks: int, per_block: int, clustered: float | None
) -> Places:
    """The places of 0.1 % of the rows: anywhere, or in blocks of which the share ``clustered`` is
    damaged.
    """
    count = max(1, round(blocks * per_block * DAMAGE))
    if clustered is None:
        numbers = generator.integers(0, blocks * per_block, size=count)
        return numbers // per_block * 1000 + numbers % per_block + 1
    in_block = max(1, round(per_block * clustered))
    chosen = generator.choice(blocks, size=max(1, round(count / in_block)), replace=False)
    starts = generator.integers(0, per_block, size=len(chosen))
    lines = (starts[:, None] + np.arange(in_block)) % per_block + 1
    return (chosen[:, None] * 1000 + lines).ravel()


def found_share(
    samples: list[Places], blocks: int, per_block: int, clustered: float | None, damages: int
) -> float:
    """How often a sample holds a damaged row."""
    generator = np.random.default_rng(20260907)
    hits = 0
    for number in range(damages):
        hits += bool(
            np.isin(
                damaged(generator, blocks, per_block, clustered), samples[number % len(samples)]
            ).any()
        )
    return hits / damages


def probability(
    blocks: int,
    per_block: int,
    clustered: float | None,
    sample_rows: int,
    sample_blocks: int = SAMPLE_BLOCKS,
) -> float:
    """As docs/explanation/checks-rows.md has it: no damaged block is looked into, or no damaged row
    in it is taken.
    """
    shares = Shares.of(blocks, blocks * per_block, sample_rows, sample_blocks)
    count = max(1, round(blocks * per_block * DAMAGE))
    if clustered is None:
        return 1 - (1 - shares.blocks * shares.rows) ** count
    in_block = max(1, round(per_block * clustered))
    seen = shares.blocks * (1 - (1 - shares.rows) ** in_block)
    return float(1 - (1 - seen) ** max(1, round(count / in_block)))


def show(
    connection: psycopg.Connection, wanted: argparse.Namespace, blocks: int, per_block: int
) -> None:
    """Found and stated, for the real sample and a quarter of it."""
    table = Table(
        title=(
            f"{wanted.rows} rows in {blocks} blocks, 0.1 % damaged, {wanted.samples} samples,"
            f" {wanted.damages} damages each"
        )
    )
    for heading in ("sampled rows", "damage", "found", "stated"):
        table.add_column(heading, justify="right")
    for size in (wanted.sample_rows, wanted.sample_rows // 4):
        samples = [
            sample_once(connection, wanted.rows, blocks, size, size) for _ in range(wanted.samples)
        ]
        for name, clustered in SHAPES.items():
            found = found_share(samples, blocks, per_block, clustered, wanted.damages)
            table.add_row(
                str(len(samples[0])),
                name,
                f"{found:.4f}",
                f"{probability(blocks, per_block, clustered, size, size):.6f}",
            )
    Console().print(table)


if __name__ == "__main__":
    main()

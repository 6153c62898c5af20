"""What baseline and checks cost as a database grows: ``python -m bench.checks_growth``.

Three databases in one server and one run: so many tables with so many rows, ten times the rows, ten times the tables
(1,000 by default). The server is compared with itself, which costs what comparing a restored one costs. Linear is a
ratio of up to ten; shown is whether it stays below eleven.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pgdrill.access import Access
from pgdrill.baseline import settle, take_baseline
from pgdrill.checks import CHECKS, Context
from pgdrill.drill import checking
from pgdrill_demo.stack import Stack

MAKE = """
CREATE TABLE t{number} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, at timestamptz DEFAULT now());
INSERT INTO t{number} (name) SELECT md5(i::text) FROM generate_series(1, {rows}) i;
"""
CHECKED = ("catalogs", "collations", "sequence-positions", "table-content", "relation-files", "page-checksums", "amcheck", "sequences")
LIMIT = 11.0


def main() -> None:
    """Make the databases, measure, show ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=100)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    stack = Stack(Path(tempfile.mkdtemp(prefix="pgdrill-")))
    shapes = {"base": (wanted.tables, wanted.rows), "rows": (wanted.tables, 10 * wanted.rows), "tables": (10 * wanted.tables, wanted.rows)}
    try:
        stack.create(sample=False)
        stack.start()
        for name, (tables, rows) in shapes.items():
            make(stack, name, tables, rows)
        runs = {name: [measure(stack, name) for _ in range(wanted.rounds)] for name in shapes}
        show(shapes, {name: {part: min(run[part] for run in found) for part in found[0]} for name, found in runs.items()})
    finally:
        stack.remove()


def make(stack: Stack, name: str, tables: int, rows: int) -> None:
    """A database of that shape."""
    with stack.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {name}")
    with stack.connect(name) as connection:
        for number in range(tables):
            connection.execute(MAKE.format(number=number, rows=rows))
        connection.execute("VACUUM ANALYZE")


def measure(stack: Stack, name: str) -> dict[str, float]:
    """Seconds of the baseline, of settling on a quiet server, and of each check."""
    cluster = stack.cluster
    access = Access(cluster.model_copy(update={"server": cluster.server.model_copy(update={"databases": (name,)})}), stack.credentials)
    with stack.connect(name) as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
    seconds = {}
    began = time.monotonic()
    baseline = take_baseline(access)
    seconds["baseline"] = time.monotonic() - began
    began = time.monotonic()
    settle(access, baseline)
    seconds["settle"] = time.monotonic() - began
    context = Context(
        cluster=access.cluster, connect=checking(stack.connect, 600), databases=(name,),
        baseline=baseline, settle=lambda: True, settle_catalogs=lambda: True, prepare=stack.connect,
    )  # fmt: skip
    for check in CHECKED:
        began = time.monotonic()
        answers = list(CHECKS[check].run(context))
        seconds[check] = time.monotonic() - began
        assert {answer.status for answer in answers} == {"pass"}, answers
    return seconds


def show(shapes: dict[str, tuple[int, int]], best: dict[str, dict[str, float]]) -> None:
    """The best round of each, and how many times the base it is."""
    table = Table(title="; ".join(f"{name}: {tables} tables of {rows} rows" for name, (tables, rows) in shapes.items()))
    for heading in ("part", "base s", "10 x rows s", "ratio", "10 x tables s", "ratio", "linear"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for part, base in best["base"].items():
        rows, tables = best["rows"][part], best["tables"][part]
        linear = "yes" if max(rows, tables) <= LIMIT * base else "NO"
        table.add_row(part, f"{base:.3f}", f"{rows:.3f}", f"{rows / base:.1f}", f"{tables:.3f}", f"{tables / base:.1f}", linear)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()

"""Exact neighbours of many probes beside the ways people get them: ``make bench-exact`` (or
``python -m bench.exact_search --help``).

One table, one run of each competitor in turn, several rounds; compared are medians within this one
run.

* ``copy``: ``COPY items (v) TO STDOUT (FORMAT binary)``, read and thrown away: what no reader of
  the column can beat.
* ``pgdrill``: one streamed COPY, all probes at once, as drill and baseline do it; content digest
  and lengths included.
* ``scans``: one ``ORDER BY v <=> … LIMIT 10`` a probe without an index, measured on some probes and
  multiplied.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psycopg
from rich.console import Console
from rich.table import Table

from pgdrill.config import VectorColumn
from pgdrill.postgres.binaries import as_ordinary_user
from pgdrill.postgres.server import LocalServer
from pgdrill.vectors.columns import FoundColumn, Search, cell_of
from pgdrill.vectors.exact_search import Probes
from pgdrill.vectors.index_search import K, query
from pgdrill.vectors.probes import Probe, choose, values_of
from pgdrill.vectors.scan import Question, read
from pgdrill.vectors.types import OF_BITS, OPERATORS
from pgdrill_demo.stack import binaries

RESULTS = Path(__file__).parents[1] / ".local" / "bench"
SCANS = 5
TYPES = {"vector": "", "halfvec": "::halfvec", "sparsevec": "::sparsevec", "bit": ""}


def main() -> None:
    """Prepare, run all in turn, show medians and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--probes", type=int, default=100)
    parser.add_argument("--kind", choices=tuple(TYPES), default="vector")
    parser.add_argument("--operator", choices=tuple(OPERATORS), default=None)
    parser.add_argument("--rounds", type=int, default=5)
    wanted = parser.parse_args()
    wanted.operator = wanted.operator or ("<~>" if wanted.kind == "bit" else "<=>")
    if (wanted.operator in OF_BITS) != (wanted.kind == "bit"):
        parser.error(f"{wanted.kind} has no operator {wanted.operator}")
    with server() as running, psycopg.connect(running.conninfo(), autocommit=True) as connection:
        column = fill(connection, wanted)
        search = Search(cell_of(connection, column), wanted.operator)
        probes = choose(connection, column, search.field, wanted.probes, "ab" * 16)
        connection.execute("SET max_parallel_workers_per_gather = 0")
        competitors: dict[str, Callable[[], float]] = {
            "copy": lambda: run_copy(connection),
            "pgdrill": lambda: run_pgdrill(connection, column, search, probes),
            "scans": lambda: run_scans(connection, column, search, probes),
        }
        runs: dict[str, list[float]] = {name: [] for name in competitors}
        for round_number in range(wanted.rounds):
            names = list(competitors)
            for name in names[round_number % 3 :] + names[: round_number % 3]:
                runs[name].append(competitors[name]())
    show(wanted, runs)


@contextmanager
def server() -> Iterator[LocalServer]:
    """An empty server of its own, with room for the table in memory."""
    home = Path(tempfile.mkdtemp(prefix="pgdrill-"))
    made = LocalServer(
        binaries(),
        home / "data",
        home,
        home / "log",
        options={
            "listen_addresses": "",
            "shared_buffers": "512MB",
            "max_wal_size": "4GB",
            "fsync": "off",
        },
    )
    try:
        subprocess.run(
            [
                *as_ordinary_user(),
                binaries().path("initdb"),
                "-D",
                str(home / "data"),
                "-U",
                "postgres",
                "-A",
                "trust",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
        )
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(home, ignore_errors=True)


def fill(connection: psycopg.Connection, wanted: argparse.Namespace) -> FoundColumn:
    """Clustered vectors, as embeddings are; sparse ones have a tenth of their elements."""
    connection.execute("CREATE EXTENSION vector")
    connection.execute(f"CREATE TABLE items (id int, v {wanted.kind}({wanted.dimensions}))")
    drawn = np.random.default_rng(1)
    centres = drawn.normal(size=(500, wanted.dimensions)).astype(np.float32)
    with connection.cursor() as cursor, cursor.copy("COPY items FROM STDIN") as copy:
        for number in range(wanted.rows):
            vector = centres[drawn.integers(500)] + 0.5 * drawn.normal(
                size=wanted.dimensions
            ).astype(np.float32)
            copy.write(f"{number}\t{text(wanted.kind, vector)}\n")
    connection.execute("VACUUM (FREEZE, ANALYZE) items")
    row = connection.execute(
        "SELECT oid::int8, pg_total_relation_size(oid) FROM pg_class WHERE relname = 'items'"
    ).fetchone()
    assert row
    thresholds = VectorColumn(table="items", column="v", probes=wanted.probes)
    return FoundColumn(
        "postgres",
        "public",
        "items",
        "v",
        wanted.kind,
        wanted.dimensions,
        row[0],
        row[1],
        (),
        None,
        thresholds,
    )


def text(kind: str, vector: np.ndarray) -> str:
    """A vector as PostgreSQL reads it."""
    if kind == "bit":
        return "".join("1" if x > 0 else "0" for x in vector)
    if kind == "sparsevec":
        largest = np.sort(np.argsort(-np.abs(vector))[: len(vector) // 10])
        return "{" + ",".join(f"{n + 1}:{vector[n]:.6g}" for n in largest) + f"}}/{len(vector)}"
    return "[" + ",".join(f"{x:.6g}" for x in vector) + "]"


def run_copy(connection: psycopg.Connection) -> float:
    """The column, read to its end."""
    began = time.monotonic()
    with (
        connection.cursor() as cursor,
        cursor.copy("COPY items (v) TO STDOUT (FORMAT binary)") as copy,
    ):
        for _ in copy:
            pass
    return time.monotonic() - began


def run_pgdrill(
    connection: psycopg.Connection, column: FoundColumn, search: Search, probes: list[Probe]
) -> float:
    """All probes from one reading."""
    began = time.monotonic()
    values = values_of(search.field, probes)
    assert values is not None
    question = Question(search.field, Probes(values, search.operator, K))
    reading = read(connection, column, search.field, [question], None)
    seconds = time.monotonic() - began
    assert reading.rows
    assert (question.every.places[:, -1] >= 0).all()
    return seconds


def run_scans(
    connection: psycopg.Connection, column: FoundColumn, search: Search, probes: list[Probe]
) -> float:
    """Some probes by a scan each; seconds for all of them."""
    some = probes[:SCANS]
    began = time.monotonic()
    for probe in some:
        connection.execute(query(column, search, probe)).fetchall()
    return (time.monotonic() - began) / len(some) * len(probes)


def show(wanted: argparse.Namespace, runs: dict[str, list[float]]) -> None:
    """Medians with their spread, and each against pgdrill."""
    medians = {name: statistics.median(found) for name, found in runs.items()}
    title = (
        f"{wanted.probes} probes, {wanted.rows} x {wanted.dimensions} {wanted.kind},"
        f" {wanted.operator}, {wanted.rounds} rounds"
    )
    table = Table(title=title)
    for heading in ("competitor", "median s", "min", "max", "pgdrill ÷ it"):
        table.add_column(heading, justify="left" if heading == "competitor" else "right")
    for name, found in runs.items():
        table.add_row(
            name,
            f"{medians[name]:.2f}",
            f"{min(found):.2f}",
            f"{max(found):.2f}",
            f"{medians['pgdrill'] / medians[name]:.2f}",
        )
    console = Console()
    console.print(table)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(f"largest memory of this process: {memory:.0f} MiB")
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"exact-{wanted.kind}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    machine = {
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    file.write_text(
        json.dumps(
            {
                "arguments": vars(wanted),
                "machine": machine,
                "runs": runs,
                "medians": medians,
                "memory_mib": memory,
            },
            indent=1,
        )
    )
    console.print(
        f"kept in {file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}"
    )


if __name__ == "__main__":
    main()

"""Logical dumps and restores beside what people do by hand: ``make bench-logical`` (or ``python -m
bench.logical --help``).

* ``dump``: pgdrill's dump (digests of every row included) against ``pg_dump -Fc`` piped into an S3
  client's multipart upload.
* ``restore``: rows, indexes and keys by pgdrill, with tuned memory and workers, against
  ``pg_restore --jobs=2`` as it comes, and against the physical restore (wal-g or barman-cloud) of
  the same data. Statistics (ANALYZE) are left out of all three.
* ``forecast``: the HNSW build of a table four times as large, told from the smaller one's build in
  the same restore.
* ``memory``: a table of some gigabytes streamed to the store; the dumping process's peak of
  resident memory.

Ratios within one run hold; seconds of another machine or day say nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import boto3
import numpy as np
import psycopg
from rich.console import Console
from rich.table import Table

from pgdrill.access import Access, Credentials
from pgdrill.backup import take_backup
from pgdrill.drill import drill
from pgdrill.logical import manifest as manifests
from pgdrill.logical.build_forecast import forecast
from pgdrill.logical.drill import Options, drill_dump
from pgdrill.logical.report import DumpReport
from pgdrill.logical.take import take_dump
from pgdrill.postgres.binaries import as_ordinary_user
from pgdrill.postgres.server import LocalServer
from pgdrill_demo.stack import DATABASE, Stack, binaries

DIMENSIONS = 384
RESULTS = Path(__file__).parents[1] / ".local" / "bench"


def main() -> None:
    """Prepare, measure in turn, show medians and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows",
        type=int,
        default=50_000,
        help="vectors in the large table; the small one has a quarter",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--gigabytes", type=float, default=2.0, help="for the memory's peak; 0: left out"
    )
    parser.add_argument("--dump-in-this-process", metavar="CONFIG", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.dump_in_this_process:
        dump_alone(Path(wanted.dump_in_this_process))
        return
    stack = Stack(Path(tempfile.mkdtemp(prefix="pgdrill-")))
    try:
        figures = measure(stack, wanted)
    finally:
        stack.remove()
    show(wanted, figures)


def measure(stack: Stack, wanted: argparse.Namespace) -> dict[str, list[float]]:
    """All of it; seconds by competitor, and the forecast's relative error."""
    prepare(stack, wanted.rows)
    access = as_superuser(stack)
    found: dict[str, list[float]] = {}
    take_backup(stack.access)
    for _ in range(wanted.rounds):
        began = time.monotonic()
        made = take_dump(access)
        note(found, "dump: pgdrill, with digests", time.monotonic() - began)
        note(found, "dump: pg_dump piped into an S3 client", piped(stack))
        report = drill_dump(access, Options(families=("vectors",)))
        if report.verdict != "passed":
            raise RuntimeError(f"not green: {report.reason} {report.restore} {report.checks}")
        times = report.timings
        note(found, "restore: pgdrill", (times.restore_seconds or 0) - (times.analyze_seconds or 0))
        note(found, "restore: pgdrill, rows alone", times.data_seconds or 0)
        note(
            found,
            "restore: pg_restore --jobs=2 as it comes",
            plain_restore(stack, access, made.dump_id),
        )
        physical = drill(stack.access, families=("vectors",)).timings
        note(
            found,
            f"restore: physical ({stack.tool}), fetch to running",
            physical.time_to_running_seconds or 0,
        )
        for name, value in forecast_error(report).items():
            note(found, name, value)
    if wanted.gigabytes:
        found |= memory(stack, wanted.gigabytes)
    return found


def prepare(stack: Stack, rows: int) -> None:
    """Two tables with an HNSW index each: ``large`` with so many rows, ``small`` with a quarter."""
    stack.create(sample=False)
    # The sample's own thresholds and models do not fit this data.
    stack.config_file.write_text(stack.config_file.read_text().split("# IVFFlat")[0])
    stack.start()
    with stack.connect() as connection:
        fill(connection, "small", rows // 4)
        fill(connection, "large", rows)


def note(found: dict[str, list[float]], name: str, value: float) -> None:
    found.setdefault(name, []).append(value)


def as_superuser(stack: Stack) -> Access:
    return Access(
        stack.cluster,
        Credentials(
            {"user": "postgres", "password": stack.passwords["postgres"]}, stack.s3.environment
        ),
    )


def fill(connection: psycopg.Connection, table: str, rows: int) -> None:
    """Vectors with structure (in uniformly random ones nothing is near), and an HNSW index of
    pgvector's defaults.
    """
    random = np.random.default_rng(7)
    centres = random.normal(size=(200, DIMENSIONS))
    record = np.dtype(
        [
            ("fields", ">i2"),
            ("l1", ">i4"),
            ("id", ">i4"),
            ("l2", ">i4"),
            ("dimensions", ">i2"),
            ("unused", ">i2"),
            ("vector", ">f4", (DIMENSIONS,)),
        ]
    )
    data = np.zeros(rows, dtype=record)
    data["fields"], data["l1"], data["l2"], data["dimensions"], data["id"] = (
        2,
        4,
        4 + 4 * DIMENSIONS,
        DIMENSIONS,
        np.arange(rows),
    )
    data["vector"] = centres[random.integers(0, 200, rows)] + 0.4 * random.normal(
        size=(rows, DIMENSIONS)
    )
    connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    connection.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, embedding vector({DIMENSIONS}))")
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY {table} FROM STDIN (FORMAT binary)") as copy,
    ):
        copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
        for start in range(0, rows, 5000):
            copy.write(data[start : start + 5000].tobytes())
        copy.write(b"\xff\xff")
    connection.execute("SET maintenance_work_mem = '512MB'")
    connection.execute(f"CREATE INDEX {table}_hnsw ON {table} USING hnsw (embedding vector_l2_ops)")


def piped(stack: Stack) -> float:
    """What a script does: ``pg_dump -Fc | upload``."""
    client = boto3.client(
        "s3",
        endpoint_url=stack.s3.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=stack.s3.access_key,
        aws_secret_access_key=stack.s3.secret_key,
    )
    began = time.monotonic()
    with subprocess.Popen(
        [
            binaries().path("pg_dump"),
            "--format=custom",
            "--compress=gzip:1",
            stack.conninfo_without_password(),
        ],
        stdout=subprocess.PIPE,
        env={**os.environ, "PGPASSWORD": stack.passwords["postgres"]},
    ) as process:
        assert process.stdout
        client.upload_fileobj(process.stdout, stack.s3.bucket, "piped.dump")
    assert process.returncode == 0
    return time.monotonic() - began


def plain_restore(stack: Stack, access: Access, dump_id: str) -> float:
    """A new cluster with PostgreSQL's defaults, and ``pg_restore --create --jobs=2``."""
    with tempfile.TemporaryDirectory(prefix="pgdrill-", dir=stack.home) as name:
        folder = Path(name)
        archive = folder / "archive"
        archive.write_bytes(access.dumps.read(manifests.key(dump_id, f"{DATABASE}.dump")) or b"")
        subprocess.run(
            [
                *as_ordinary_user(),
                binaries().path("initdb"),
                "-D",
                str(folder / "data"),
                "-U",
                "postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
            ],
            check=True,
            capture_output=True,
        )
        server = LocalServer(
            binaries(), folder / "data", folder, folder / "log", options={"listen_addresses": ""}
        )
        server.start()
        try:
            with server.connect() as connection:
                connection.execute("CREATE ROLE pgdrill")
            began = time.monotonic()
            subprocess.run(
                [
                    binaries().path("pg_restore"),
                    "--create",
                    "--jobs=2",
                    "--host",
                    str(folder),
                    "--username=postgres",
                    "--dbname=postgres",
                    str(archive),
                ],
                check=True,
            )
            return time.monotonic() - began
        finally:
            server.stop()


def forecast_error(report: DumpReport) -> dict[str, float]:
    """The large index's build against what the small one's foretold."""
    by_index = {build.index: build for build in report.builds}
    small, large = by_index["public.small_hnsw"], by_index["public.large_hnsw"]
    told = forecast(
        [small.model_copy(update={"index": "public.large_hnsw"})], "public.large_hnsw", large.rows
    )
    assert told
    return {
        "forecast: error at four times the rows, %": (
            100 * (told.seconds - large.seconds) / large.seconds
        ),
        "build: rows/s of the large index": large.rows_per_second,
        "build: rows/s of the small index": small.rows_per_second,
    }


def memory(stack: Stack, gigabytes: float) -> dict[str, list[float]]:
    """A large table, uncompressed, so that every byte of it streams; dumped by a process of its
    own.
    """
    with stack.connect() as connection:
        connection.execute(
            "CREATE TABLE bulk AS SELECT i, repeat(md5(i::text), 31) AS filler FROM"
            " generate_series(1, %s) i",
            (int(gigabytes * 1e6),),
        )
    config = stack.config_file.read_text()
    stack.config_file.write_text(
        config + f'\n[clusters.{stack.cluster_name}.dump]\ncompression = "none"\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "bench.logical", "--dump-in-this-process", str(stack.config_file)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **stack.environment},
    )
    told = json.loads(done.stdout)
    return {
        "memory: peak of the dumping process, MB": [told["peak_bytes"] / 1e6],
        "memory: streamed, MB": [told["stored_bytes"] / 1e6],
        "memory: streamed, MB/s": [told["stored_bytes"] / 1e6 / told["seconds"]],
    }


def dump_alone(config: Path) -> None:
    """For :func:`memory`."""
    from pgdrill.config import load

    made = take_dump(Access(load(config).cluster("agents")))
    # Not getrusage's ru_maxrss: that begins with what the process that started this one held.
    peak = next(
        line.split()[1]
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM:")
    )
    print(
        json.dumps(
            {
                "peak_bytes": int(peak) * 1024,
                "stored_bytes": made.stored_bytes,
                "seconds": made.seconds,
            }
        )
    )


def show(wanted: argparse.Namespace, found: dict[str, list[float]]) -> None:
    """Medians with their spread; ratios where there is something to compare with."""
    medians = {name: statistics.median(values) for name, values in found.items()}
    beside = {
        "dump: pgdrill, with digests": "dump: pg_dump piped into an S3 client",
        "restore: pgdrill": "restore: pg_restore --jobs=2 as it comes",
    }
    table = Table(
        title=(
            f"{wanted.rows} and {wanted.rows // 4} vectors of {DIMENSIONS} dimensions,"
            f" {wanted.rounds} rounds"
        )
    )
    for heading in ("what", "median", "min", "max", "÷ by hand"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for name, values in found.items():
        ratio = f"{medians[name] / medians[beside[name]]:.2f}" if name in beside else ""
        table.add_row(
            name, f"{medians[name]:.1f}", f"{min(values):.1f}", f"{max(values):.1f}", ratio
        )
    Console(width=110).print(table)
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"logical-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    file.write_text(
        json.dumps(
            {"arguments": vars(wanted), "cores": len(os.sched_getaffinity(0)), "figures": found},
            indent=1,
        )
    )


if __name__ == "__main__":
    main()

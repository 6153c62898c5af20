"""Dumps, their drills and tables that are restored alone, killed with SIGKILL: their rows go with
the next job.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import pytest

from pgdrill.access import Access
from pgdrill.logical import drill, single_table, take
from pgdrill.recovery.sweep import sweep
from tests.integration.conftest import processes_in
from tests.integration.logical.conftest import Source

A_MINUTE = 60.0


def _here(said: Connection) -> None:
    said.send("here")
    time.sleep(600)


def drilling(access: Access, into: str, said: Connection) -> None:
    drill.restore = lambda *_: _here(said)  # its server runs, the dump is there
    drill.drill_dump(access)


def dumping(access: Access, into: str, said: Connection) -> None:
    take.upload_file = lambda *_: _here(said)  # type: ignore[assignment] # pg_dump has ended
    take.take_dump(access)


def restoring_a_table(access: Access, into: str, said: Connection) -> None:
    single_table._restore = lambda *_: _here(said)  # type: ignore[assignment] # the dump is there
    single_table.restore_table(access, into, "items")


@pytest.mark.parametrize(
    "job", [drilling, dumping, restoring_a_table], ids=["drill", "dump", "table"]
)
def test_rows_that_a_killed_job_left_go_with_the_next_job(
    dumped: Source, job: Callable[[Access, str, Connection], None]
) -> None:
    access, work = dumped.access, dumped.access.cluster.drill.work_directory
    dumped.sql("DROP DATABASE IF EXISTS target", database="postgres")
    dumped.sql("CREATE DATABASE target", database="postgres")
    dumped.sql("CREATE EXTENSION vector; GRANT CREATE ON SCHEMA public TO app", database="target")
    if job is dumping:
        access = dumped.with_(dump={"format": "directory"}).access
    context = multiprocessing.get_context("spawn")
    told, says = context.Pipe(duplex=False)
    process = context.Process(
        target=job, args=(access, f"host={dumped.home} user=app dbname=target", says)
    )
    process.start()
    try:
        assert told.poll(A_MINUTE)
        [held] = sweep([work]).held
        assert f"by process {process.pid}" in held.why
        assert [file for file in held.folder.rglob("*") if file.stat().st_size > 1000], (
            "it holds rows"
        )
    finally:
        process.kill()
        process.join()
    end = time.monotonic() + A_MINUTE
    while found := processes_in(work):
        assert time.monotonic() < end, found
        time.sleep(0.1)
    assert [found.folder for found in sweep([work]).removed] == [held.folder]
    assert not [
        left for place in ("drills", "dumping", "tables") for left in work.glob(f"*/{place}/*")
    ]

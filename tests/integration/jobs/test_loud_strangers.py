"""A role without rights cannot make a drill say that the backup is broken: not by words in the log,
nor by a statement without end.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from pgdrill.access import Access
from pgdrill.backup import take_backup
from pgdrill.checks.recovery.log import alarming
from pgdrill.drill import drill
from pgdrill.reports.model import Report
from pgdrill_demo.stack import DATABASE, Stack, preferred_tool

SECONDS = 6.0
FORGED = 'invalid page in block 7 of relation "base/16384/16999"'
ACTS = """
CREATE OR REPLACE FUNCTION mallory.yes2() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    IF current_user NOT LIKE 'pgdrill\\_asks\\_%' THEN RETURN true; END IF;
    {act}
    RETURN true;
END $$;
"""
LOG = f"RAISE LOG '{FORGED}'; RAISE LOG 'x %', repeat('x', 40000000);"
# Whoever has a role may end its other sessions: again and again, while others are asked beside it.
KILL = """
FOR i IN 1..3 LOOP
    BEGIN
        PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE pid <> pg_backend_pid() AND usename LIKE 'pgdrill%';
    EXCEPTION WHEN OTHERS THEN
        PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE pid <> pg_backend_pid() AND usename = session_user;
    END;
    PERFORM pg_sleep(0.05);
END LOOP;
"""
SUICIDE = "PERFORM pg_terminate_backend(pg_backend_pid());"
LOOP = "LOOP BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP;"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    stack = Stack(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool=preferred_tool())
    try:
        stack.create(scale=0.02)
        stack.start()
        with stack.connect() as superuser:
            superuser.execute(
                "CREATE ROLE mallory LOGIN PASSWORD 'm'; GRANT CREATE ON DATABASE agents TO mallory"
            )
        yield stack
    finally:
        stack.remove()


def drilled(stack: Stack, act: str, more_indexes: int = 0) -> tuple[Report, int]:
    """The drill of a cluster whose index predicate acts so, and how long the server's log was at
    its end.
    """
    with psycopg.connect(
        host=str(stack.home), user="mallory", password="m", dbname=DATABASE, autocommit=True
    ) as mallory:
        mallory.execute(
            "CREATE SCHEMA IF NOT EXISTS mallory; GRANT USAGE ON SCHEMA mallory TO PUBLIC"
        )
        mallory.execute(ACTS.format(act="NULL;"))
        mallory.execute(
            "DROP TABLE IF EXISTS mallory.t9; CREATE TABLE mallory.t9 (id int, embedding vector(3))"
        )
        mallory.execute(
            "COMMENT ON COLUMN mallory.t9.embedding IS"
            """ 'pgdrill: {"model": "m", "version": "1"}'"""
        )
        mallory.execute(
            "INSERT INTO mallory.t9 SELECT i, ARRAY[i, i % 7, 1]::float4[]::vector FROM"
            " generate_series(1, 200) i"
        )
        mallory.execute(
            "CREATE INDEX ON mallory.t9 USING hnsw (embedding vector_l2_ops) WHERE mallory.yes2()"
        )
        for number in range(more_indexes):
            mallory.execute(
                f"CREATE INDEX t9_hash_{number} ON mallory.t9 USING hash (id) WHERE mallory.yes2()"
            )
        mallory.execute(ACTS.format(act=act))
    access = stack.access
    settings = access.cluster.drill.model_copy(update={"statement_timeout_seconds": SECONDS})
    access = Access(access.cluster.model_copy(update={"drill": settings}), access.credentials)
    take_backup(access)
    sizes: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pgdrill.checks.recovery.log.alarming", measured(sizes))
        return drill(access), max(sizes)


def measured(sizes: list[int]) -> Callable[..., dict[str, int] | None]:
    def read(log_file: Path, restarts: int = 0) -> dict[str, int] | None:
        sizes.append(log_file.stat().st_size)
        return alarming(log_file, restarts)

    return read


def test_what_a_strangers_function_logs_is_neither_believed_nor_kept(stack: Stack) -> None:
    report, log_bytes = drilled(stack, LOG)
    assert [(r.name, r.thing, r.message) for r in report.results if r.status == "fail"] == []
    assert report.verdict == "passed", report.reason
    assert log_bytes < 2_000_000


def unanswered(report: Report) -> list[tuple[str, str]]:
    """The answers that are none, and keep a drill from green, each with what it says of the
    table."""
    return [
        (r.name, f"{r.thing} {r.message}")
        for r in report.results
        if r.status not in ("pass", "warn") and r.required
    ]


def test_a_function_that_refuses_to_be_cancelled_ends_its_own_session_alone(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    report, _ = drilled(stack, LOOP, more_indexes=2)
    assert [r for r in report.results if r.status == "fail"] == []
    assert report.verdict == "could not verify"
    assert [answer for answer in unanswered(report) if "t9" not in answer[1]] == []
    assert any("not asked again" in words for _, words in unanswered(report))
    assert {r.thing for r in report.results if r.name == "server-log"} == {"server.log"}
    assert sum("terminating backend" in one.getMessage() for one in caplog.records) == 1, (
        "asked once, and by no other check"
    )


@pytest.mark.parametrize("act", [KILL, SUICIDE], ids=["of others", "of its own"])
def test_a_function_that_ends_sessions_keeps_no_other_table_from_its_answer(
    stack: Stack, act: str
) -> None:
    report, _ = drilled(stack, act)
    assert [r for r in report.results if r.status == "fail"] == []
    assert [answer for answer in unanswered(report) if "t9" not in answer[1]] == []
    assert (report.verdict == "passed") is (act == KILL), report.reason


def test_a_lines_beginning_is_looked_at_and_what_follows_in_it_is_no_other_line(
    tmp_path: Path,
) -> None:
    log, head = tmp_path / "server.log", "2026-01-01 00:00:00.000 UTC [1] LOG:  "
    padding = "x" * (10_000 - len(head))
    log.write_text(f"{head}{padding}{head}PANIC invalid page\n{head}fine\n")
    assert alarming(log) == {}
    log.write_text(
        f"{head}terminating, reinitializing\n{head}all server processes terminated;"
        " reinitializing\n"
    )
    assert sum((alarming(log, 1) or {}).values()) == 1
    log.write_text("the tool's words\n")
    assert alarming(log) is None

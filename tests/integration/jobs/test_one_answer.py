"""The same question has one answer, whatever is restored: what production has alike warns and fails
nothing, at the latest instant, at one of the past, with production gone, and from a dump.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pgdrill.backup import take_backup
from pgdrill.drill import destroy_stage, drill, new_drill_id
from pgdrill.logical.drill import Options, drill_dump
from pgdrill.logical.take import take_dump
from pgdrill.postgres.clock import measure
from pgdrill.reports.model import CheckResult, Report
from pgdrill.verify import read_baseline, verify
from pgdrill_demo.stack import Stack, preferred_tool
from tests.damage.small import SmallStack

RANDOM = "ARRAY(SELECT random() - 0.5 FROM generate_series(1, 16) WHERE i > 0)::vector"
SCHEMA = f"""
CREATE EXTENSION vector;
CREATE TABLE items (id int PRIMARY KEY, v vector(16));
INSERT INTO items SELECT i, {RANDOM} FROM generate_series(1, 400) i;
CREATE INDEX items_v ON items USING hnsw (v vector_l2_ops);
ALTER TABLE items ADD COLUMN v2 vector(32);
CREATE TABLE zeros (id int PRIMARY KEY, v vector(16));
INSERT INTO zeros SELECT i, array_fill(0, ARRAY[16])::vector FROM generate_series(1, 60) i;
INSERT INTO zeros SELECT i, {RANDOM} FROM generate_series(61, 600) i;
CREATE INDEX zeros_v ON zeros USING hnsw (v vector_l2_ops) WITH (m = 2, ef_construction = 4);
CREATE TABLE anything (id int PRIMARY KEY, v vector);
INSERT INTO anything SELECT i, CASE WHEN i % 2 = 0 THEN '[1,2,3]' ELSE '[1,2,3,4]' END::vector
    FROM generate_series(1, 50) i;
COMMENT ON COLUMN items.v IS 'pgdrill: {{"model": "made", "version": "1"}}';
COMMENT ON COLUMN items.v2 IS 'pgdrill: {{"model": "made", "version": "1"}}';
COMMENT ON COLUMN zeros.v IS 'pgdrill: {{"model": "made", "version": "1"}}';
COMMENT ON COLUMN anything.v IS 'pgdrill: {{"model": "made", "version": "1"}}';
ALTER DATABASE agents SET hnsw.ef_search = 2;
"""
WARNED = {
    ("vector-values", "items.v2"),
    ("vector-values", "zeros.v"),
    ("index-recall", "zeros.v (zeros_v)"),
}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    made = SmallStack(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool=preferred_tool())
    try:
        made.create(sample=False)
        made.start()
        with made.connect() as connection:
            connection.execute(SCHEMA)
        yield made
    finally:
        made.remove()


def of(results: Sequence[CheckResult], status: str) -> set[tuple[str, str]]:
    return {(one.name, one.thing) for one in results if one.status == status}


def judged(results: Sequence[CheckResult], *, beside: str) -> None:
    assert of(results, "fail") == set(), (
        f"{beside}: {[one for one in results if one.status == 'fail']}"
    )
    assert of(results, "warn") >= WARNED, f"{beside}: {of(results, 'warn')}"


def test_what_production_has_alike_warns_whatever_is_restored(stack: Stack) -> None:
    take_backup(stack.access)
    with stack.connect() as connection:
        server = measure(connection)
        connection.execute(
            "INSERT INTO items (id, v2) SELECT i, array_fill(i, ARRAY[32])::vector FROM"
            " generate_series(1001, 1010) i"
        )
        at = server.on_server(datetime.now(UTC)) + timedelta(seconds=0.2)
        connection.execute("SELECT pg_sleep(0.5)")
        connection.execute("INSERT INTO items (id) SELECT i FROM generate_series(2001, 2010) i")
    reports: dict[str, Report] = {"latest": drill(stack.access, drill_id=new_drill_id())}
    reports["past"] = drill(stack.access, target=f"time:{at.isoformat()}")
    take_dump(stack.access)
    dumped = drill_dump(stack.access, Options())
    judged(dumped.results, beside="dump")
    assert dumped.verdict == "passed", dumped.reason
    for words, report in reports.items():
        judged(report.results, beside=words)
        assert report.verdict == "passed", (
            words,
            report.reason,
            [r for r in report.results if r.status == "skip"],
        )
    stack.primary.stop()
    try:
        kept = drill(stack.access, keep=True)
        judged(kept.results, beside="gone")
        assert kept.restored
        dsn = f"host={kept.restored.socket_directory} port={kept.restored.port} user=postgres"
        baseline = read_baseline(
            stack.access.cluster.state_directory
            / "baselines"
            / f"{reports['latest'].drill_id}.json",
            stack.access.cluster,
        )
        for beside in (None, baseline):
            found = verify(
                stack.access, dsn, families=["vectors"], baseline=beside, as_superuser=True
            )
            judged(found.results, beside=f"verified beside {'a baseline' if beside else 'nothing'}")
        destroy_stage(stack.access, kept.drill_id)
    finally:
        stack.primary.start()

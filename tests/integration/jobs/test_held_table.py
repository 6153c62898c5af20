"""A table that a migration has for itself all the while is not compared; everything else is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgdrill.backup import take_backup
from pgdrill.baseline import production, reading
from pgdrill.drill import drill
from pgdrill_demo.stack import Stack, preferred_tool
from tests.damage.small import SmallStack

HELD = """
CREATE EXTENSION vector;
CREATE TABLE held (id int PRIMARY KEY, tenant text, title text, v vector(4));
CREATE TABLE free (id int PRIMARY KEY, title text, v vector(4));
INSERT INTO held SELECT g, 'one', md5(g::text), ARRAY[sin(g), cos(g), sin(g * 3), 1]::vector
    FROM generate_series(1, 300) g;
INSERT INTO free SELECT id, title, v FROM held;
COMMENT ON COLUMN held.v IS 'pgdrill: {"model": "made", "version": "1"}';
COMMENT ON COLUMN free.v IS 'pgdrill: {"model": "made", "version": "1"}';
CREATE INDEX ON held USING hnsw (v vector_l2_ops) WHERE tenant = 'one';
CREATE INDEX ON free USING hnsw (v vector_l2_ops);
ALTER TABLE held ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON held USING (tenant = current_setting('app.tenant', true));
"""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    made = SmallStack(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool=preferred_tool())
    try:
        made.create(sample=False)
        made.without_haste()
        made.start()
        with made.connect() as connection:
            connection.execute(HELD)
            connection.execute("VACUUM ANALYZE")
        take_backup(made.access)
        yield made
    finally:
        made.remove()


@pytest.mark.parametrize("held", ["held", "held_v_idx"])
def test_a_table_that_another_session_has_for_itself_costs_its_own_answers_only(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    monkeypatch.setattr(production, "LOCK_SECONDS", 2)
    monkeypatch.setattr(reading, "LOCK_SECONDS", 2)
    migration = (
        "LOCK TABLE held IN ACCESS EXCLUSIVE MODE" if held == "held" else f"REINDEX INDEX {held}"
    )
    with stack.connect() as session:
        session.autocommit = True
        session.execute(f"BEGIN; {migration}")
        report = drill(stack.access)
    answers = {(one.name, one.thing): one for one in report.results}
    assert report.restore.trouble is None
    assert not [one for one in report.results if one.status == "fail"]
    # while an index is made anew the rows can be read still, by COPY, which plans nothing
    if held == "held":
        unread = answers["table-content", "agents.public.held"]
        assert unread.status == "skip"
        assert "another session had it for itself" in unread.message
        assert report.verdict == "could not verify"
    else:
        assert report.verdict == "passed", report.reason
    assert answers["vector-content", "held.v"].status == "warn"
    assert "had the table for itself" in answers["vector-content", "held.v"].message
    assert any(one.status == "pass" for one in report.results if one.name == "table-content")
    assert answers["vector-content", "free.v"].status == "pass"


def test_once_it_is_let_go_everything_is_compared_again(stack: Stack) -> None:
    report = drill(stack.access)
    assert report.verdict == "passed", report.reason
    answers = {(one.name, one.thing): one.status for one in report.results}
    assert answers["vector-content", "held.v"] == answers["vector-indexes", "held.v"] == "pass"
    assert "agents.public.held" not in {thing for _, thing in answers}, "all tables are one line"

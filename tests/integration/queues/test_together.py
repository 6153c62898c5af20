"""Queues and database together: where PostgreSQL was, and which snapshot fits a restored one."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pgdrill.cli import app
from pgdrill.errors import PgdrillError
from pgdrill.postgres.wal import parse_lsn
from pgdrill.queues import plan
from pgdrill.queues.take import take_snapshot
from pgdrill.queues.verify import verify
from pgdrill.reports.model import Report, Target
from pgdrill.reports.store import save_report
from pgdrill_demo.stack import binaries
from tests.integration.logical.conftest import Source
from tests.integration.queues.conftest import PASSWORD, World

MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def database(world: World) -> Iterator[Source]:
    home = Path(tempfile.mkdtemp(prefix="pgdrill-"))
    made = Source(home, binaries(), "", more={"repository": world.repository()})
    try:
        made.create("SELECT 1")
        yield made
    finally:
        made.server.stop()
        shutil.rmtree(home, ignore_errors=True)


def test_a_snapshot_knows_where_postgresql_was_before_and_after(
    world: World, database: Source
) -> None:
    access = replace(world.access(), owner=database.access)
    record = take_snapshot(access)
    span = record.postgres
    assert span, record.no_postgres
    assert span.before_at < span.after_at
    assert 0 < parse_lsn(span.before_lsn) <= parse_lsn(span.after_lsn)
    assert not record.no_postgres


def drilled(drill_id: str, at: datetime) -> Report:
    return Report(
        drill_id=drill_id,
        cluster="agents",
        started_at=datetime.now(UTC),
        rpo_seconds=1,
        rto_seconds=1,
        target=Target(kind="time", value=at.isoformat()),
    )


def test_the_newest_at_or_before_the_databases_instant_is_taken(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = world.access()
    taken = []
    for _ in range(2):
        taken.append(take_snapshot(access))
        assert verify(access).verdict == "passed"
    third = take_snapshot(access)  # it was never loaded
    first, second = taken
    assert (first.at, second.at) < (second.at, third.at) or first.at == second.at
    for at, found in ((second.instant, second), (second.instant + MINUTE, second)):
        save_report(access.owner, drilled("fits", at))
        instant = plan.instant_of(access, "fits")
        assert instant == at
        chosen = plan.choose(access, at=instant)
        assert chosen.snapshot_id == found.snapshot_id
    made = plan.make(access, chosen, instant)
    assert (made.gap_seconds, made.live, made.active) == (60, 78, 0)
    with pytest.raises(PgdrillError, match="none that counts"):
        plan.choose(access, at=first.instant - MINUTE)
    with pytest.raises(PgdrillError, match="never loaded"):
        plan.choose(access, snapshot=third.snapshot_id)
    assert plan.choose(access, unproved=True).snapshot_id == third.snapshot_id

    file = tmp_path / "dr.toml"
    queue = access.queue.model_dump(exclude={"name"}, exclude_defaults=True)
    cluster = {
        "server": {"data_directory": "/nowhere"},
        "repository": world.repository(),
        "drill": {"work_directory": str(access.cluster.drill.work_directory)},
    }
    tables = itertools.chain(
        [("queues.jobs", queue)],
        ((f"clusters.agents.{name}", one) for name, one in cluster.items()),
    )
    file.write_text(
        "\n".join(
            f"[{name}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in one.items())
            for name, one in tables
        )
    )
    monkeypatch.setenv("PGDRILL_CONFIG", str(file))
    run = CliRunner().invoke(app, ["queue", "restore", "--with-database", "fits", "--json"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["snapshot_id"] == second.snapshot_id
    run = CliRunner().invoke(app, ["queue", "restore", "jobs", "--with-database", "fits"])
    assert ("60 s before" in run.stdout, "Nothing was done" in run.stdout) == (True, True)
    run = CliRunner().invoke(app, ["queue", "list", "--json"])
    assert [one["counts"] for one in json.loads(run.stdout)] == [True, True, False]
    run = CliRunner().invoke(app, ["queue", "prune"])
    same_hour = first.instant.hour == second.instant.hour
    assert f"{int(same_hour)} would go" in run.stdout, run.output
    run = CliRunner().invoke(app, ["queue", "verify", "jobs", third.snapshot_id])
    assert run.exit_code == 0, run.output
    assert PASSWORD not in run.output

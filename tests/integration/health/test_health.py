"""What is watched, on real servers: each thing broken is told by its own check, and over when it is
mended.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from pgdrill.access import Credentials
from pgdrill.cli import app
from pgdrill.health import HEALTH_CHECKS, Watcher
from pgdrill.health.memory import KEY
from tests.integration.health.conftest import Watched

# nothing of a new cluster was drilled, dumped or pruned yet: that is red, and meant to be
NEVER = {"drill-age", "drill-verdict", "dump-age", "retention-age"}
LAG_SECONDS = 30.0


def bad(watched: Watched, *, wide: bool = False) -> dict[str, str]:
    found = watched.look(wide=wide).findings
    return {one.check: one.status for one in found if one.status not in ("ok", "not asked")}


def on_standby(watched: Watched, *statements: str) -> str:
    """The last statement's answer, as text."""
    words = make_conninfo(
        "",
        host=f"{watched.stack.home}/sb",
        port=5432,
        user="postgres",
        password=watched.stack.passwords["postgres"],
        dbname="agents",
    )
    with psycopg.connect(words, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return str(row[0]) if row else ""


def test_a_healthy_cluster_is_ok_and_what_never_ran_is_red(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.work()
    watched.until("measured-rpo", "ok")
    assert bad(watched, wide=True).keys() == NEVER
    began = time.monotonic()
    seconds = [watched.look().seconds for _ in range(5)]
    assert bad(watched) == {}
    print(f"a look: {min(seconds):.3f} s, {time.monotonic() - began:.2f} s for five")

    # a watcher that comes later knows what this one saw
    later = Watcher(watched.stack.access)
    found = {one.check: one for one in later.look(("each look",)).findings}
    later.close()
    assert found["measured-rpo"].status == "ok"
    assert found["wal-continuity"].status == "ok"

    for name, value in watched.stack.environment.items():
        monkeypatch.setenv(name, value)
    run = CliRunner().invoke(app, ["health", "--nagios"])
    assert run.exit_code == 2
    assert run.stdout.startswith("PGDRILL CRITICAL - agents ")
    assert "'agents/measured-rpo'=" in run.stdout.partition(" | ")[2]
    run = CliRunner().invoke(app, ["health", "agents", "--json"])
    assert run.exit_code == 1
    (told,) = json.loads(run.stdout)
    assert {one["check"] for one in told["findings"]} == HEALTH_CHECKS.keys()
    run = CliRunner().invoke(app, ["health"])
    assert ("no drill yet" in run.stdout, "4 critical" in run.stdout) == (True, True)
    assert watched.stack.passwords["pgdrill"] not in run.stdout


def test_archiving_that_breaks_is_told_grows_worse_and_is_over_when_it_is_mended(
    watched: Watched,
) -> None:
    watched.work()
    watched.until("archiver", "ok")
    broken = watched.stack.home / "broken"
    broken.touch()
    watched.work()
    assert watched.until("archiver", "warning").reason == "archiving-fails"
    late = watched.until("wal-waiting", "critical")
    assert (late.promised, (late.value or 0) > 20) == (20, True)
    found = watched.look()
    told = {one.check: one for one in found.findings}
    assert told["archiver"].status == "critical"
    lost = watched.until("measured-rpo", "critical")
    assert (lost.would_lose_seconds or 0) > 20
    assert told["wal-continuity"].status == "ok"
    broken.unlink()
    # the archiver tries again after a minute at most
    watched.until("archiver", "ok")
    watched.until("wal-waiting", "ok")
    watched.until("measured-rpo", "ok")


def test_nothing_archived_since_the_counters_were_reset_is_not_ok(watched: Watched) -> None:
    (watched.stack.home / "broken").touch()
    watched.sql("SELECT pg_stat_reset_shared('archiver')")
    assert watched.until("archiver", "warning").reason in ("never-archived", "archiving-fails")
    watched.work()
    found = watched.until("archiver", "critical")
    assert found.reason in ("never-archived", "archiving-fails")


def test_a_standby_that_stops_replaying_receiving_or_living_is_told_by_what_it_does(
    watched: Watched,
) -> None:
    watched.until("replay-lag", "ok")
    paused_at = time.monotonic()
    on_standby(watched, "SELECT pg_wal_replay_pause()")
    lag = watched.until("replay-lag", "critical")
    took = time.monotonic() - paused_at
    assert LAG_SECONDS <= took < LAG_SECONDS + 15, took
    assert "replay is paused" in lag.found
    on_standby(watched, "SELECT pg_wal_replay_resume()")
    watched.until("replay-lag", "ok")

    # the writer is dead: that is its own fault, and no lag
    watched.beating.set()
    watched.until("heartbeat", "warning")
    assert bad(watched).keys() == {"heartbeat"}

    # replayed all that it has, and receives nothing
    source = on_standby(watched, "SHOW primary_conninfo").replace("'", "''")
    on_standby(watched, "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
    cut = watched.until("standby-receiving", "critical")
    assert "receives nothing" in cut.found
    hidden = {one.check: one for one in watched.look().findings}["replay-lag"]
    assert (hidden.status, hidden.reason) == ("unknown", "needs-standby-receiving")
    back = f"ALTER SYSTEM SET primary_conninfo = '{source}'"
    on_standby(watched, back, "SELECT pg_reload_conf()")
    watched.until("standby-receiving", "ok")

    watched.stack.standby.stop()
    gone = watched.until("standby", "critical")
    assert gone.reason == "standby-gone"
    assert "standby-receiving" in HEALTH_CHECKS["standby"].hides
    watched.stack.standby.start()
    watched.until("standby", "ok")


def test_after_a_failover_each_server_is_judged_by_what_it_is_now(watched: Watched) -> None:
    watched.work()
    watched.until("archiver", "ok")
    # the former primary's failures are of another time than the new one's
    (watched.stack.home / "broken").touch()
    watched.work()
    watched.until("archiver", "warning")
    on_standby(watched, "SELECT pg_promote()")
    assert watched.until("standby", "critical").reason == "standby-promoted"
    new = watched.elsewhere(f"host={watched.stack.home}/sb port=5432 dbname=agents")
    try:
        found = {one.check: one for one in new.look(("each look",)).findings}
        assert found["server"].status == "ok"
        assert found["archiver"].status != "ok"
        assert new.subject.memory.timeline == 2
        (watched.stack.home / "broken").unlink()
        ends = time.monotonic() + 120
        while found["archiver"].status != "ok" or found["wal-continuity"].status != "ok":
            assert time.monotonic() < ends, found
            found = {one.check: one for one in new.look(("each look",)).findings}
    finally:
        new.close()


def test_a_server_that_is_gone_is_told_once_and_what_it_hides_is_unknown(watched: Watched) -> None:
    watched.work()
    watched.until("measured-rpo", "ok")
    pid = int((watched.stack.primary.data_directory / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGQUIT)
    gone = watched.until("server", "critical")
    assert gone.reason == "server-gone"
    assert gone.would_lose_seconds is not None
    found = {one.check: one for one in watched.look().findings}
    consequences = {name for name, one in found.items() if one.reason == "needs-server"}
    assert consequences <= set(HEALTH_CHECKS["server"].hides)
    assert {"archiver", "slots", "wal-waiting", "measured-rpo"} <= consequences
    assert found["repository"].status == "ok"
    assert found["wal-continuity"].status == "ok"
    watched.stack.primary.start()
    watched.until("server", "ok")
    # a password that is wrong is no server that is gone
    closed = watched.elsewhere(
        watched.stack.cluster.server.dsn,
        Credentials({"user": "pgdrill", "password": "wrong"}, watched.stack.s3.environment),
    )
    told = {one.check: one for one in closed.look(("each look",)).findings}["server"]
    closed.close()
    assert (told.status, told.reason) == ("unknown", "login-refused")


def test_a_repository_that_is_gone_is_told_once_and_is_never_taken_for_ok(watched: Watched) -> None:
    watched.work()
    watched.until("measured-rpo", "ok")
    watched.stack.s3.stop()
    gone = watched.until("repository", "critical", wide=True)
    assert gone.reason == "repository-gone"
    found = {one.check: one for one in watched.look(wide=True).findings}
    hidden = HEALTH_CHECKS["repository"].hides
    told = {name: found[name].status for name in hidden if found[name].status != "not asked"}
    assert set(told.values()) == {"unknown"}, told
    watched.stack.s3.start()
    watched.until("repository", "ok")
    watched.until("wal-continuity", "ok")


def test_segments_that_are_deleted_are_missed_old_and_new(watched: Watched) -> None:
    for _ in range(6):
        watched.work()
    watched.until("measured-rpo", "ok", wide=True)
    watched.until("archiver", "ok")
    files = [file for file in watched.wal_files if len(file.name.partition(".")[0]) == 24]
    old, new = files[2], files[-3]
    kept = {file: file.read_bytes() for file in (old, new)}
    for file in kept:
        file.unlink()
    found = [one for one in watched.look(wide=True).findings if one.check == "wal-continuity"]
    assert {one.thing for one in found} == {file.name.partition(".")[0] for file in kept}
    assert {(one.status, one.reason) for one in found} == {("critical", "wal-gap")}
    assert all("there before" in one.found for one in found)
    # it stays so in the looks between, and after a restart
    later = Watcher(watched.stack.access)
    again = [one for one in later.look(("each look",)).findings if one.check == "wal-continuity"]
    later.close()
    assert {one.thing for one in again} == {one.thing for one in found}
    for file, content in kept.items():
        file.write_bytes(content)
    watched.until("wal-continuity", "ok", wide=True)


def test_a_base_backup_that_lost_a_part_and_a_slot_that_is_lost_are_told(watched: Watched) -> None:
    watched.until("base-backup-age", "ok", wide=True)
    folder = watched.stack.s3.folder / watched.stack.s3.bucket / watched.stack.cluster_name
    part = next(file for file in Path(folder).rglob("part_*") if "tar" in file.name)
    content = part.read_bytes()
    part.unlink()
    found = watched.until("base-backup-age", "critical", wide=True)
    assert found.reason == "damaged"
    part.write_bytes(content)
    watched.until("base-backup-age", "ok", wide=True)
    assert watched.stack.access.reports.read(KEY)

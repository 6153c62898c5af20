"""Where archived WAL ends: what is lost if production dies now, what no target can reach, and whose
end it is.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from pgdrill.access import Access
from pgdrill.backup import take_backup
from pgdrill.drill import drill, new_drill_id
from pgdrill.errors import ConfigError
from pgdrill.host.process import Runner
from pgdrill.postgres.binaries import as_ordinary_user
from pgdrill.postgres.server import LocalServer
from pgdrill.postgres.wal import Segment, parse_lsn
from pgdrill.recovery.planning import look_at_production
from pgdrill.reports.model import CheckResult, Report
from pgdrill.repository.archiver import wait_archived
from pgdrill.retention.collect import take_inventory
from pgdrill.retention.window import window_of
from pgdrill_demo.stack import Stack, binaries, preferred_tool
from tests.integration.conftest import nothing_left

RECOVERY = ("recovery",)


@pytest.fixture(scope="module")
def quiet() -> Iterator[Stack]:
    """Production on which nobody writes but these tests, with a base backup."""
    stack = Stack(
        Path(tempfile.mkdtemp(prefix="pgdrill-")), tool=preferred_tool(), archive_timeout_seconds=0
    )
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RCLONE_DIR_CACHE_TIME", "1ms")  # objects go behind its back
            stack.create(sample=False)
            stack.primary.options["autovacuum"] = "off"  # type: ignore[index]
            stack.start()
        with stack.connect() as connection:
            connection.execute(
                "CREATE TABLE work (at timestamptz DEFAULT clock_timestamp(), n int)"
            )
        take_backup(stack.access)
        yield stack
    finally:
        stack.remove()


def commit(stack: Stack) -> tuple[datetime, datetime]:
    """A transaction; the server's clock just before and just after its commit."""
    with stack.connect() as connection:
        times = [
            connection.execute(query).fetchone()
            for query in (
                "SELECT clock_timestamp()",
                "INSERT INTO work VALUES (DEFAULT, 1) RETURNING at",
                "SELECT clock_timestamp()",
            )
        ]
    return times[0][0], times[2][0]


def archive(stack: Stack) -> None:
    """Everything that was written is archived when it returns."""
    with stack.connect() as connection:
        lsn, line = connection.execute(
            "SELECT pg_switch_wal()::text, substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
        ).fetchone()
        wait_archived(
            connection,
            stack.access.repository,
            Segment.holding(parse_lsn(lsn) - 1, int(line, 16)),
            60,
        )


def looked(access: Access, folder: Path, started_at: datetime, *, latest: bool) -> Report:
    report = Report(
        drill_id=new_drill_id(),
        cluster="agents",
        started_at=started_at,
        rpo_seconds=60,
        rto_seconds=3600,
    )
    look_at_production(access, report, Runner(), folder, latest=latest)
    return report


def gone(stack: Stack) -> Access:
    server = stack.cluster.server.model_copy(update={"dsn": f"host={stack.home}/gone"})
    # these tests are about what is compared then
    drill = stack.cluster.drill.model_copy(update={"without_production": 100})
    return dataclasses.replace(
        stack.access, cluster=stack.cluster.model_copy(update={"server": server, "drill": drill})
    )


# --- What is lost ---


@pytest.mark.parametrize("latest", [True, False])
def test_after_idle_minutes_work_is_lost_since_the_first_commit_that_was_not_archived(
    quiet: Stack, tmp_path: Path, latest: bool
) -> None:
    _, archived = commit(quiet)
    archive(quiet)
    before, after = commit(quiet)
    commit(quiet)
    assert before > archived
    # as if this long had gone by: the clock is all that is read
    start = datetime.now(UTC) + timedelta(minutes=3)
    report = looked(quiet.access, tmp_path, start, latest=latest)
    lost, unsure = report.measured_rpo_seconds, report.clock_uncertainty_seconds
    assert lost is not None
    assert unsure is not None
    assert (
        (start - after).total_seconds() - unsure
        <= lost
        <= (start - before).total_seconds() + unsure
    )
    assert lost < (start - archived).total_seconds()


@pytest.mark.parametrize("latest", [True, False])
def test_what_was_committed_after_the_drill_began_is_not_lost(
    quiet: Stack, tmp_path: Path, latest: bool
) -> None:
    archive(quiet)
    start = datetime.now(UTC)
    commit(quiet)
    assert (
        looked(
            quiet.access, tmp_path, start - timedelta(seconds=1), latest=latest
        ).measured_rpo_seconds
        == 0
    )


def test_nothing_written_since_is_nothing_lost(quiet: Stack, tmp_path: Path) -> None:
    commit(quiet)
    archive(quiet)
    assert (
        looked(
            quiet.access, tmp_path, datetime.now(UTC) + timedelta(hours=1), latest=False
        ).measured_rpo_seconds
        == 0
    )


def restarted(stack: Stack, archive_command: str) -> str:
    """The server with another archive_command; gives the one before."""
    before = stack.primary.options["archive_command"]
    stack.primary.stop()
    stack.primary.options["archive_command"] = archive_command  # type: ignore[index]
    stack.primary.start()
    return before


def test_an_archive_command_that_does_not_get_on_gives_a_bound_and_says_so(
    quiet: Stack, tmp_path: Path
) -> None:
    before, _ = commit(quiet)
    archive(quiet)
    command = restarted(quiet, "false")
    try:
        commit(quiet)
        start = datetime.now(UTC) + timedelta(minutes=3)
        settings = quiet.cluster.drill.model_copy(update={"rpo_seconds": 1.0})
        access = dataclasses.replace(
            quiet.access, cluster=quiet.cluster.model_copy(update={"drill": settings})
        )
        report = looked(access, tmp_path, start, latest=False)
        assert report.measured_rpo_seconds == pytest.approx((start - before).total_seconds(), abs=1)
        assert report.measured_rpo_note.startswith("at most")
    finally:
        restarted(quiet, command)
    archive(quiet)


# --- What cannot be reached ---


def refused(access: Access, target: str, **more: str) -> ConfigError:
    """A drill that is refused before anything is restored, and leaves nothing."""
    drill_id = new_drill_id()
    with pytest.raises(ConfigError) as caught:
        drill(access, target=target, drill_id=drill_id, **more)
    nothing_left(access, drill_id)
    return caught.value


def test_an_instant_that_has_not_come_is_refused_with_the_nearest_that_is_possible(
    quiet: Stack,
) -> None:
    commit(quiet)
    before, after = commit(quiet)
    archive(quiet)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for access in (quiet.access, gone(quiet)):
        for kind in ("time", "before"):
            error = refused(access, f"{kind}:{tomorrow.isoformat()}").problem
            assert error.reason == "target-in-the-future"
            nearest = datetime.fromisoformat(
                error.expected.rpartition("time:")[2].replace("Z", "+00:00")
            )
            assert before <= nearest <= after
    error = refused(quiet.access, f"time:{after.isoformat()}").problem
    assert error.reason == "target-not-archived"
    report = drill(quiet.access, target=f"time:{nearest.isoformat()}", families=RECOVERY)
    assert report.restore.status == "ok", "the nearest that was named is possible"


def test_an_lsn_that_is_not_written_yet_is_refused(quiet: Stack) -> None:
    error = refused(quiet.access, "lsn:FF/28").problem
    assert error.reason == "target-in-the-future"
    assert "the nearest is lsn:0/" in error.expected


def test_a_mistyped_restore_point_is_refused_with_those_that_are_there(quiet: Stack) -> None:
    with quiet.connect() as connection:
        connection.execute("SELECT pg_create_restore_point('before_migration_7')")
        connection.execute("SELECT pg_create_restore_point('something else')")
    archive(quiet)
    for access in (quiet.access, gone(quiet)):
        error = refused(access, "name:before_migraton_7").problem
        assert error.reason == "no-such-restore-point"
        assert "name:before_migration_7" in error.expected
    report = drill(quiet.access, target="name:before_migration_7", families=RECOVERY)
    assert report.restore.status == "ok", report.restore.trouble


def test_a_restore_point_before_the_newest_backup_is_reached_from_an_older_one(
    quiet: Stack,
) -> None:
    with quiet.connect() as connection:
        connection.execute("SELECT pg_create_restore_point('of old')")
    older = quiet.access.repository.backups()[-1].name
    newer = take_backup(quiet.access).name
    archive(quiet)
    report = drill(quiet.access, target="name:of old", families=RECOVERY)
    assert report.restore.status == "ok", report.restore.trouble
    assert report.backup == older
    assert (
        refused(quiet.access, "name:of old", backup=newer).problem.reason == "no-such-restore-point"
    )


# --- Whose end it is ---


def leave_a_stray(stack: Stack) -> int:
    """Somebody restores by hand, promotes, and leaves archive_command on; gives the position where
    it left production.
    """
    home = stack.home / "stray"
    socket = stack.home / "st"
    words = {**os.environ, "PGPASSWORD": stack.passwords["postgres"]}
    subprocess.run(
        [
            *as_ordinary_user(),
            binaries().path("pg_basebackup"),
            "-D",
            str(home),
            "-h",
            str(stack.home),
            "-U",
            "postgres",
            "--checkpoint=fast",
        ],
        check=True,
        capture_output=True,
        env=words,
    )
    (home / "recovery.signal").touch()
    options = {**stack.primary.options, "restore_command": "false"}
    server = LocalServer(
        binaries(),
        home,
        socket,
        stack.home / "stray.log",
        options=options,
        environment=stack.primary.environment,
    )
    server.start()
    try:
        with psycopg.connect(
            stack.conninfo().replace(str(stack.home), str(socket)), autocommit=True
        ) as connection:
            # A standby that can be read is "ready" too
            server.wait_until(
                lambda: connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,),
                "was promoted",
                60,
            )
            for _ in range(2):
                connection.execute("INSERT INTO work VALUES (DEFAULT, 666)")
                lsn, line = connection.execute(
                    "SELECT pg_switch_wal()::text, substr(pg_walfile_name(pg_current_wal_lsn()),"
                    " 1, 8)"
                ).fetchone()
            assert line == "00000002"
            wait_archived(
                connection, stack.access.repository, Segment.holding(parse_lsn(lsn) - 1, 2), 60
            )
    finally:
        server.stop()
        shutil.rmtree(home)
    return parse_lsn(lsn)


@pytest.fixture
def stray(quiet: Stack) -> Iterator[Stack]:
    """Production went on behind the place where a copy of it left its timeline."""
    try:
        leave_a_stray(quiet)
        for _ in range(2):
            commit(quiet)
            archive(quiet)
        yield quiet
    finally:
        for file in objects(quiet, "00000002"):
            file.unlink()


def objects(stack: Stack, prefix: str) -> list[Path]:
    return [
        file
        for file in (stack.s3.folder / stack.s3.bucket).rglob(f"{prefix}*")
        if file.is_file() and "pgdrill" not in file.parts
    ]


def answers(report: Report, name: str) -> list[CheckResult]:
    return [result for result in report.results if result.name == name]


def test_a_stray_timeline_fails_every_drill_and_is_named_with_the_step_that_removes_it(
    stray: Stack,
) -> None:
    archived = commit(stray)[1]
    commit(stray)
    archive(stray)
    for target in ("latest", f"time:{archived.isoformat()}"):
        report = drill(stray.access, target=target, families=RECOVERY)
        assert report.restore.status == "ok", report.restore.trouble
        assert report.restored
        assert report.restored.recovered_timeline == 1, "production's is followed"
        assert [r.status for r in answers(report, "timeline")] == ["pass", "pass"]
        (found,) = answers(report, "stray-timeline")
        assert found.status == "fail"
        assert found.thing == "00000002.history"
        assert re.match(r"[23] segments, from 00000002", str(found.value))
        assert "--include '00000002*'" in found.hint
        assert report.verdict == "failed"
        assert "stray-timeline" in report.reason
    window = window_of(
        "agents", take_inventory(stray.access, Runner()), stray.cluster.retention, datetime.now(UTC)
    )
    assert window.timeline == 1
    assert [(end.timeline, end.stray) for end in window.other_ends] == [(2, True)]
    for file in objects(stray, "00000002"):  # what the command that it names deletes
        file.unlink()
    report = drill(stray.access, families=RECOVERY)
    assert [r.status for r in answers(report, "stray-timeline")] == ["pass"]


def test_production_gone_both_ends_are_named_and_neither_is_called_good(stray: Stack) -> None:
    commit(stray)
    archive(stray)
    report = drill(gone(stray), families=RECOVERY)
    assert report.restore.status == "ok", report.restore.trouble
    (found,) = answers(report, "stray-timeline")
    assert (found.status, found.required) == ("skip", True)
    assert found.thing == "00000002.history"
    assert report.restored
    assert report.restored.reached_lsn in found.threshold
    assert "cannot be told" in found.message
    assert report.verdict == "could not verify"
    inventory = take_inventory(gone(stray), Runner())
    window = window_of("agents", inventory, stray.cluster.retention, datetime.now(UTC))
    assert {window.timeline, *(end.timeline for end in window.other_ends)} == {1, 2}


def test_a_strays_history_that_nobody_can_read_is_no_pass_either(stray: Stack) -> None:
    (history,) = objects(stray, "00000002.history")
    history.write_bytes(b"no history")
    report = drill(stray.access, families=RECOVERY)
    assert report.verdict == "failed"
    assert report.restore.trouble
    assert "00000002.history" in report.restore.trouble.thing

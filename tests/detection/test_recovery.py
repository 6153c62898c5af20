"""A restored cluster that did not get where it should, not cleanly, or not once, is red; so is one
of another instant.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
import psycopg
import pytest

from pgdrill.baseline import Baseline
from pgdrill.checks import Context, run_checks
from pgdrill.checks.runner import checking
from pgdrill.config import Cluster
from pgdrill.host.fence.watch import Bounds, Watch
from pgdrill.host.process import Runner
from pgdrill.postgres.sandbox_settings import AUTO_CONF_ASIDE
from pgdrill.recovery.timelines import archived_timelines, branches
from pgdrill.reports import store
from pgdrill.reports.model import CheckResult, Heartbeats, InstantProof, Report, Target
from tests.damage.repository import put_wal
from tests.detection.conftest import DATABASE, STATEMENT_SECONDS, Copy

FAMILIES = ("recovery",)


def report_of(copy: Copy) -> Report:
    access = copy.mould.stack.access
    return store.load_report(access, store.list_reports(access)[-1]).model_copy(deep=True)


def answers(
    copy: Copy,
    *,
    report: Report | None = None,
    production: Baseline | None = None,
    cluster: Cluster | None = None,
    log: bool = True,
    watch: Watch | None = None,
) -> list[CheckResult]:
    """The family's answers, the log being the restore's and the copy's own behind it."""
    log_file = copy.data.parent / "whole.log"
    if log:
        log_file.write_text(
            (copy.mould.folder.parents[1] / "server.log").read_text()
            + copy.server.log_file.read_text()
        )
    known = production or copy.mould.baseline
    context = Context(
        cluster=cluster or copy.mould.stack.cluster,
        connect=checking(
            lambda name: copy.server.connect(name, autocommit=False), STATEMENT_SECONDS
        ),
        databases=(DATABASE,),
        baseline=known,
        production=known,
        report=report or report_of(copy),
        prepare=copy.server.connect,
        log_file=log_file,
        data_directory=copy.data,
        configuration=copy.configuration,
        watch=watch,
    )
    return [*run_checks(context, FAMILIES), *run_checks(context, FAMILIES, last=True)]


def of(results: list[CheckResult], *statuses: str) -> dict[str, str]:
    """The checks that gave such an answer -> the things they name."""
    found: dict[str, str] = {}
    for result in results:
        if result.status in statuses:
            found[result.name] = (
                f"{found.get(result.name, '')}{result.thing} {result.value} {result.message}; "
            )
    return found


def red(copy: Copy, **more: object) -> dict[str, str]:
    return of(answers(copy, **more), "fail")  # type: ignore[arg-type]


def started_as_standby(copy: Copy) -> None:
    copy.server.stop()
    (copy.data / "standby.signal").touch()
    copy.server.launch()
    copy.server.wait_until(lambda: copy.server.status() in ("standby", "ready"), "is a standby", 30)


def test_a_second_promotion_and_a_server_in_recovery_are_seen(copy: Copy) -> None:
    assert not of(answers(copy), "fail", "warn"), "not clean before it is damaged"
    started_as_standby(copy)
    found = red(copy)
    assert "in recovery" in found["promoted"]
    assert "standby.signal" in found["recovery-leftovers"]
    with psycopg.connect(copy.server.conninfo(DATABASE), autocommit=True) as connection:
        connection.execute("SELECT pg_promote()")
    found = red(copy)
    assert "2 promotions" in found["promoted-once"]
    assert "timeline 3" in found["promoted-once"]
    assert "new 3" in found["timeline"]


def test_a_restore_that_followed_another_timeline_than_productions_is_seen(copy: Copy) -> None:
    failed_over = copy.mould.baseline.model_copy(update={"timeline": 2})
    assert "followed 1" in red(copy, production=failed_over)["timeline"]
    # A server that archives on timeline 2 already would be overwritten by one that begins it anew.
    report = report_of(copy)
    assert report.restored
    report.restored.newest_archived_timeline = 2
    assert red(copy, report=report) == {"timeline": "new 2 one higher than any archived; "}
    (copy.data / "pg_wal" / "00000002.history").unlink()
    found = red(copy)
    assert "without a history" in found["timeline"]
    assert "history" in found["promoted-once"]


def test_a_stray_timeline_in_the_archive_is_named_and_one_that_is_gone_is_not(copy: Copy) -> None:
    """As by a server that was restored by hand, promoted, and left to archive."""
    access, runner = copy.mould.stack.access, Runner()

    def archived() -> Report:
        wal = access.wal_reader(runner, copy.data.parent)
        found = archived_timelines(wal, access.repository.wal(), least=1)
        report = report_of(copy)
        report.branches = branches(access, found, 1, [], production=True)
        return report

    assert "stray-timeline" not in red(copy, report=archived())
    left = f"1\t{copy.one('SELECT pg_current_wal_lsn()')}\tno recovery target specified\n".encode()
    keys = [
        put_wal(access, "00000002.history", left),
        put_wal(access, "000000020000000000000009", bytes(16 * 2**20)),
    ]
    try:
        assert set(found := red(copy, report=archived())) == {"stray-timeline"}
        assert (
            "00000002.history 1 segments, from 000000020000000000000009 on"
            in (found["stray-timeline"])
        )
    finally:
        obstore.delete(access.objects.store, keys)
    assert "stray-timeline" not in red(copy, report=archived())


def test_a_program_that_the_restored_server_starts_is_seen(copy: Copy) -> None:
    """As by somebody's function that runs by itself. It waits at a pipe for the test's end."""
    postgres = str(Path(copy.mould.stack.access.binaries.path("postgres")).resolve())
    folders = (copy.data.parent, copy.server.socket_directory, copy.server.log_file)
    watch = Watch(
        copy.server.process, Bounds((postgres,), tuple(str(Path(one).resolve()) for one in folders))
    )
    assert "harmless" not in red(copy, watch=watch)
    assert watch.looks
    pipe = copy.data / "pipe"
    os.mkfifo(pipe)
    try:
        with psycopg.connect(copy.server.conninfo(DATABASE), autocommit=True) as connection:
            connection.execute("CREATE TABLE spy (line text)")
            with ThreadPoolExecutor(1) as other:
                acting = other.submit(connection.execute, f"COPY spy FROM PROGRAM 'cat {pipe}'")
                with pipe.open("w"):  # which waits for its reader
                    found = red(copy, watch=watch)
                acting.result()
    finally:
        pipe.unlink()
    assert f"cat {pipe}" in found["harmless"]


def test_another_clusters_data_and_a_stop_before_the_target_are_seen(copy: Copy) -> None:
    other = copy.mould.baseline.model_copy(update={"system_identifier": 7})
    assert set(red(copy, production=other)) == {"system-identifier"}
    report = report_of(copy)
    assert report.target
    report.target.lsn = "FF/0"
    report.measured_rpo_seconds = 500.0
    assert set(red(copy, report=report)) == {"target-reached", "measured-rpo"}


def test_a_damaged_page_and_a_crash_stand_in_the_log_and_a_lost_connection_is_none(
    copy: Copy,
) -> None:
    with contextlib.suppress(psycopg.OperationalError):
        copy.server.connect("nowhere")
    copy.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND"
        " backend_type = 'client backend'"
    )
    assert red(copy) == {}
    path = copy.one("SELECT pg_relation_filepath('embeddings')")

    def flip(data: Path) -> None:
        with (data / str(path)).open("r+b") as file:
            file.seek(5000)
            byte = file.read(1)
            file.seek(5000)
            file.write(bytes([byte[0] ^ 1]))

    copy.stopped(flip)
    with pytest.raises(psycopg.errors.DataCorrupted):
        copy.sql("SET enable_indexonlyscan = off", "SELECT count(*) FROM embeddings")
    assert f'invalid page in block 0 of relation "{path}"' in red(copy)["server-log"]
    with pytest.raises(psycopg.OperationalError), copy.server.connect(DATABASE) as victim:
        pid = victim.info.backend_pid
        next(
            child
            for process in [copy.server.process()]
            if process
            for child in process.children(recursive=True)
            if child.pid == pid
        ).kill()
        victim.execute("SELECT 1")
    log = copy.server.log_file
    copy.server.wait_until(
        lambda: "reinitializing" in log.read_text() and copy.server.status() == "ready",
        "is ready again",
        30,
    )
    assert "terminated by signal 9" in red(copy)["server-log"]
    (copy.data.parent / "whole.log").write_text("")
    assert "empty or missing" in red(copy, log=False)["server-log"]


def test_read_only_and_recovery_settings_that_production_does_not_have_are_seen(copy: Copy) -> None:
    copy.sql(
        "ALTER DATABASE agents SET default_transaction_read_only = on",
        "ALTER ROLE agents_app SET transaction_read_only = 'on'",
    )
    found = red(copy)["recovery-leftovers"]
    assert "every role in database agents" in found
    assert "role agents_app in every database" in found
    same = copy.mould.baseline.model_copy(
        update={"read_only": ["every role in database agents", "role agents_app in every database"]}
    )
    assert red(copy, production=same) == {}
    copy.sql(
        "SET default_transaction_read_only = off",
        "ALTER DATABASE agents RESET default_transaction_read_only",
        "ALTER ROLE agents_app RESET ALL",
    )
    (copy.data / "recovery.signal").touch()
    assert "recovery.signal" in red(copy)["recovery-leftovers"]
    (copy.data / "recovery.signal").unlink()
    (copy.configuration / AUTO_CONF_ASIDE).write_text(
        "recovery_target_time = '2026-11-01'\nprimary_conninfo = 'host=old"
        " password=hunter2'\nDefault_Transaction_Read_Only = yes\nhot_standby = on\n#"
        " recovery_target_xid = '7'\n"
    )
    results = answers(copy)
    warned = of(results, "warn")["recovery-leftovers"]
    for name in ("recovery_target_time", "primary_conninfo", "default_transaction_read_only"):
        assert f"{name} in postgresql.auto.conf" in warned
    assert "hot_standby" not in warned
    assert "xid" not in warned
    assert "hunter2" not in "".join(result.model_dump_json() for result in results)
    assert not of(results, "fail")
    settings = copy.mould.baseline.settings | {
        "primary_conninfo": "set",
        "recovery_target_time": "2026",
        "default_transaction_read_only": "on",
    }
    assert not of(
        answers(copy, production=copy.mould.baseline.model_copy(update={"settings": settings})),
        "warn",
    )


def test_preload_libraries_that_are_missing_or_broken_here_are_seen(copy: Copy) -> None:
    broken = copy.data.parent / "broken.so"
    broken.write_text("no library")
    names = {
        "shared_preload_libraries": "vector, pg_cron, nowhere",
        "session_preload_libraries": str(broken),
        "local_preload_libraries": "lost",
    }
    production = copy.mould.baseline.model_copy(
        update={"settings": copy.mould.baseline.settings | names}
    )
    cluster = copy.mould.stack.cluster
    allowing = cluster.model_copy(
        update={"drill": cluster.drill.model_copy(update={"allowed_libraries": (str(broken),)})}
    )
    results = answers(copy, production=production, cluster=allowing)
    found = of(results, "fail")["preload-libraries"]
    for line in (
        "pg_cron (shared_preload_libraries) no such file",
        "nowhere (shared_preload_libraries) no such file",
        "lost (local_preload_libraries) no such file",
        f"{broken} (session_preload_libraries) cannot be loaded",
    ):
        assert line in found
    assert "vector (shared_preload_libraries) loaded" in of(results, "pass")["preload-libraries"]
    # What is not known to do nothing by itself is looked for and not loaded.
    acting = copy.data.parent / "pg_cron"
    shutil.copy(broken, acting)
    production.settings |= {
        "shared_preload_libraries": str(acting),
        "session_preload_libraries": "",
        "local_preload_libraries": "",
    }
    results = answers(copy, production=production)
    found = of(results, "skip")["preload-libraries"]
    assert "not loaded" in found
    assert f'drill.allowed_libraries = ["{acting}"]' in found


def test_a_heartbeat_older_than_the_instant_allows_is_seen_and_one_that_production_lacks_is_explained(  # noqa: E501
    copy: Copy,
) -> None:
    report = report_of(copy)
    newest = copy.one("SELECT max(at) FROM pgdrill_heartbeat")
    assert report.heartbeats
    assert report.heartbeats.newest_at == newest
    assert isinstance(newest, datetime)

    def at(instant: datetime, seen: datetime | None) -> tuple[str, str]:
        asked = report.model_copy(
            update={
                "target": Target(kind="random", value=instant.isoformat()),
                "heartbeats": Heartbeats(newest_at=newest, at_target=seen),
            }
        )
        (answer,) = [result for result in answers(copy, report=asked) if result.name == "heartbeat"]
        return answer.status, answer.message

    minute = timedelta(minutes=1)
    assert at(newest + minute / 2, newest)[0] == "pass"
    assert at(newest + 2 * minute, newest) == (
        "warn",
        "production has no newer one of that time either",
    )
    assert at(newest + 2 * minute, newest + minute) == ("fail", "too old for that instant")
    assert at(newest + 2 * minute, None) == ("fail", "too old for that instant")
    assert at(newest - minute, newest) == ("fail", "after the instant")
    copy.sql("UPDATE pgdrill_heartbeat SET at = at - interval '1 second'")
    assert "heartbeat" in red(copy)
    copy.sql("TRUNCATE pgdrill_heartbeat")
    assert "none" in red(copy)["heartbeat"]
    assert at(newest, newest) == ("fail", "production has some of that time")
    assert at(newest, None) == ("warn", "nobody wrote any yet")
    copy.sql("DROP TABLE pgdrill_heartbeat")
    assert "none" in red(copy)["heartbeat"]


def test_a_replay_that_stopped_at_another_instant_is_seen(copy: Copy) -> None:
    asked = datetime(2026, 11, 20, 11, tzinfo=UTC)
    second = timedelta(seconds=1)

    def seen(
        last: datetime | None,
        following: datetime | None,
        replayed: datetime | None,
        kind: str = "time",
    ) -> str:
        report = report_of(copy).model_copy(
            update={
                "target": Target.model_validate({"kind": kind, "value": asked.isoformat()}),
                "instant": InstantProof(last_at=last, next_at=following),
            }
        )
        assert report.restored
        report.restored.last_transaction_time = replayed
        return of(answers(copy, report=report), "fail").get("instant", "")

    assert seen(asked - second, asked + second, asked - second) == ""
    assert seen(asked, asked + second, asked) == ""
    assert "last replayed" in seen(asked, asked + second, asked, "before"), (
        "of that very instant, and it was to stop before"
    )
    assert "next in the archive" in seen(asked - second, asked - second / 2, asked - second), (
        "it stopped too early"
    )
    assert "last replayed" in seen(asked + second, asked + 2 * second, asked + second), (
        "it stopped too late"
    )
    assert "no transaction" in seen(asked - second, None, asked - second)
    assert "the archive's last" in seen(asked - second, asked + second, asked - 2 * second)


def test_clocks_that_differ_are_a_warning_unless_that_is_all_uncertainty(copy: Copy) -> None:
    def warned(offset: float, uncertainty: float) -> bool:
        clock = {"clock_offset_seconds": offset, "clock_uncertainty_seconds": uncertainty}
        return "clock-difference" in of(
            answers(copy, production=copy.mould.baseline.model_copy(update=clock)), "warn"
        )

    assert [warned(90, 0.1), warned(-90, 0.1), warned(0.2, 0.001), warned(8, 4)] == [
        True,
        True,
        False,
        False,
    ]
    stopped = replace(
        copy.mould,
        baseline=copy.mould.baseline.model_copy(
            update={"restore_point_at": datetime.now(UTC) + timedelta(hours=1)}
        ),
    )
    assert (
        "before the restore point"
        in of(answers(copy, production=stopped.baseline), "warn")["heartbeat"]
    )

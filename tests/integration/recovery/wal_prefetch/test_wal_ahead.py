"""Whole restores with WAL fetched ahead: real servers, real tools, a store that can be made to
fail.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pgdrill.access import Access
from pgdrill.backup import take_backup
from pgdrill.drill import destroy_stage, drill, new_drill_id, restore_stage
from pgdrill.host.process import Runner
from pgdrill.postgres.wal import Segment, format_lsn, parse_lsn
from pgdrill.recovery import restore as restoring
from pgdrill.recovery.goal import Goal
from pgdrill.recovery.restore import Restoring, plan_restore
from pgdrill.recovery.targets import parse_target
from pgdrill.recovery.wal_prefetch.plan import order_for, wal_ahead
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports.model import Report, Timings
from pgdrill.repository.archiver import wait_archived
from pgdrill_demo.stack import Stack
from tests.conftest import need
from tests.integration.conftest import Copy, Relay, nothing_left, once


def restored(repository: Copy, /, **access: dict[str, object]) -> Report:
    """A restore to the third mark that has to succeed, with all rows of that mark."""
    opened, drill_id = repository.access(**access), new_drill_id()
    try:
        report = restore_stage(
            opened, drill_id, target=f"lsn:{format_lsn(repository.golden.marks[2].lsn)}"
        )
        assert report.restore.status == "ok", report.restore.trouble
        with Workspace.of(opened, drill_id).server(opened).connect("agents") as connection:
            assert connection.execute("SELECT count(*) FROM canary").fetchone() == (
                repository.golden.marks[2].rows,
            )
    finally:
        destroy_stage(opened, drill_id)
    nothing_left(opened, drill_id)
    return report


def test_a_restore_reads_the_repository_itself_and_compares_with_the_tool(repository: Copy) -> None:
    wal = restored(repository).timings.wal
    assert wal
    needed = (
        repository.golden.marks[2].segment.number
        - repository.golden.backup.first_segment().number
        + 1
    )
    assert wal.segments >= needed
    assert (wal.by_reader, wal.by_tool) == (wal.segments, 0)
    assert wal.compared >= 2  # the first and the last
    assert wal.read_bytes > 0


def test_the_tool_alone_restores_as_before(repository: Copy) -> None:
    once(repository)
    assert restored(repository, drill={"wal_fetch": "tool"}).timings.wal is None


def test_a_flipped_bit_stops_recovery_at_its_segment(repository: Copy) -> None:
    segment = repository.golden.marks[1].segment
    file = repository.segment(segment)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    verdict, trouble = repository.trouble(target="name:mark3")
    assert (verdict, trouble.reason) == ("failed", "wal-damaged")
    assert segment.name in trouble.thing
    assert file.name in trouble.thing


def test_a_tool_that_fetches_other_bytes_than_there_are_fails_the_drill(
    repository: Copy, tmp_path: Path
) -> None:
    if repository.golden.stack.tool != "wal-g":
        pytest.skip("barman-cloud has no one program that a liar could stand in for")
    liar = tmp_path / "wal-g"
    liar.write_text(
        '#!/bin/sh\n"$REAL" "$@" || exit\n[ "$1" != wal-fetch ] || printf x | dd of="$3" bs=1'
        " seek=9000 conv=notrunc 2>/dev/null\n".replace("$REAL", repository.access().tool.binary)
    )  # type: ignore[attr-defined]
    liar.chmod(0o755)
    verdict, trouble = repository.trouble(
        repository.access(repository={"binary": str(liar)}), target="name:mark3"
    )
    assert (verdict, trouble.reason) == ("failed", "wal-differs")
    assert repository.golden.backup.first_segment().name in trouble.thing


@pytest.mark.parametrize("wal_fetch", ["auto", "tool"])
def test_a_prefetcher_killed_in_the_middle_stops_recovery_and_nothing_is_promoted_short(
    repository: Copy, relay: Relay, wal_fetch: str
) -> None:
    once(repository)
    relay.misbehave(rf"GET \S*{repository.golden.marks[1].segment.name}", "hang")
    access = repository.access(
        repository={"endpoint_url": relay.endpoint_url}, drill={"wal_fetch": wal_fetch}
    )
    drill_id = new_drill_id()

    def kill() -> None:
        assert relay.matched.wait(180)
        relay.misbehave("(?!)", "hang")  # for whoever asks next
        pid = json.loads(Workspace.of(access, drill_id).wal_pid_file.read_text())["pid"]
        psutil.Process(pid).kill()

    killer = threading.Thread(target=kill)
    killer.start()
    report = repository.drill(access, drill_id=drill_id)
    killer.join()
    assert report.restore.trouble is not None
    assert (report.verdict, report.restore.trouble.reason) == (
        "could not verify",
        "wal-fetch-ended",
    )
    assert "SIGKILL" in report.restore.trouble.found
    assert report.restored is None


def test_a_server_restarted_in_the_middle_goes_on_from_where_it_has_to(
    repository: Copy, relay: Relay
) -> None:
    once(repository)
    relay.misbehave(rf"GET \S*{repository.golden.marks[2].segment.name}", "hang")
    access = repository.access(repository={"endpoint_url": relay.endpoint_url})
    workspace = Workspace.of(access, new_drill_id())
    goal = Goal("LATEST", parse_target(f"lsn:{format_lsn(repository.golden.marks[2].lsn)}"))
    plan = plan_restore(access, workspace, goal, Runner())
    fence = workspace.fence(access)
    work = Restoring(access, workspace, goal, plan, Runner(), fence, progress=lambda *_: None)
    restoring._fetch(work, Timings())
    try:
        with wal_ahead(access, workspace, owner=fence.uid) as ahead:
            ahead.start(order_for(access, workspace, plan, goal.segment_bytes))
            server = restoring._configure(work, ahead)
            launched = server.launch()
            before = repository.golden.marks[1].segment.name
            server.wait_until(
                lambda: f'restored log file "{before}"' in server.log_file.read_text(),
                "has come that far",
                30,
                launched,
            )
            assert relay.matched.wait(180)
            server.stop()
            launched.wait()
            relay.behave()
            launched = server.launch()
            server.wait_until(
                lambda: server.status() == "ready", "reaches its target", 30, launched
            )
            with server.connect("agents") as connection:
                assert connection.execute("SELECT count(*) FROM canary").fetchone() == (
                    repository.golden.marks[2].rows,
                )
            server.stop()
            assert ahead.finish()
    finally:
        workspace.destroy()


# --- what the restored server has of the keys: nothing ---

PLANTED = {
    "PGPASSWORD": "canary-password",
    "AIRFLOW_CONN_STORE": "aws://canary-connection",
    "WALG_CANARY": "canary-tool",
    "CANARY": "canary-other",
}


def holds_nothing(access: Access, drill_id: str, secrets: list[str]) -> None:
    """No process of the server has a variable that it needs no more than an attacker should, no
    file of its a secret.
    """
    workspace = Workspace.of(access, drill_id)
    postmaster = workspace.server(access).process()
    assert postmaster
    parent = postmaster.parent()
    for process in (
        postmaster,
        *postmaster.children(recursive=True),
        *([parent] if parent else []),
    ):
        try:
            variables, words = process.environ(), process.cmdline()
        except psutil.NoSuchProcess:  # a worker that ended meanwhile
            assert process != postmaster
            continue
        assert set(variables) <= {
            "PATH",
            "LD_LIBRARY_PATH",
            "LC_ALL",
            "TZ",
            "PG_GRANDPARENT_PID",
            "PWD",
            "SHLVL",
            "_",
        }, process
        assert not [secret for secret in secrets if secret in str(variables) + str(words)]
    for folder in (workspace.cluster, workspace.configuration):
        for file in (file for file in folder.rglob("*") if file.is_file()):
            assert not [secret for secret in secrets if secret.encode() in file.read_bytes()], file


@pytest.mark.parametrize("wal_fetch", ["auto", "tool"])
def test_the_restored_server_holds_no_key(
    repository: Copy, wal_fetch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    access = repository.access(drill={"wal_fetch": wal_fetch, "timeout_seconds": 240.0})
    drill_id = new_drill_id()
    try:
        report = restore_stage(
            access, drill_id, target=f"lsn:{format_lsn(repository.golden.marks[2].lsn)}"
        )
        assert report.restore.status == "ok", report.restore.trouble
        secrets = [
            value
            for name, value in access.environment.items()
            if "SECRET" in name or "KEY_ID" in name
        ]
        assert secrets
        holds_nothing(access, drill_id, [*secrets, *PLANTED.values()])
    finally:
        destroy_stage(access, drill_id)


# --- other clusters ---


@pytest.fixture
def small() -> Iterator[Stack]:
    """A small stack of a test's own, with environment variables of the test's choice."""
    need("wal-g")
    stack = Stack(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool="wal-g")
    yield stack
    stack.remove()


def fill(stack: Stack, segments: int = 6) -> None:
    """Production with a backup and some segments behind it."""
    stack.create(sample=False)
    stack.start()
    with stack.connect() as connection:
        connection.execute("CREATE TABLE canary AS SELECT generate_series(1, 1000) AS n")
        take_backup(stack.access)
        for _ in range(segments):
            connection.execute("INSERT INTO canary SELECT generate_series(1, 1000)")
            row = connection.execute(
                "SELECT pg_switch_wal()::text, substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
            ).fetchone()
        assert row
        last = Segment.holding(parse_lsn(row[0]) - 1, int(row[1], 16), stack.segment_bytes)
        wait_archived(connection, stack.access.repository, last, 60)


def drilled(stack: Stack) -> Report:
    """A restore of it that has to succeed."""
    drill_id = new_drill_id()
    report = drill(stack.access, drill_id=drill_id, families=("recovery",))
    assert report.restore.status == "ok", report.restore.trouble
    nothing_left(stack.access, drill_id)
    return report


def test_a_cluster_with_other_segments_than_usual(small: Stack) -> None:
    small.segment_bytes = 4 * 2**20
    fill(small)
    wal = drilled(small).timings.wal
    assert wal
    assert wal.by_reader == wal.segments >= 7
    assert wal.compared >= 2


def test_an_encrypted_repository_is_read_by_the_tool_ahead(
    small: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key, home = tmp_path / "key.asc", str(small.home / "gpg")  # gpg's sockets want a short path
    Path(home).mkdir(mode=0o700)
    words = ["gpg", "--homedir", home, "--batch", "--passphrase", ""]
    try:
        subprocess.run(
            [*words, "--quick-generate-key", "drill", "rsa2048", "cert,encr"],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("no gpg here (Debian: gnupg)")
    key.write_bytes(
        subprocess.run(
            [*words, "--armor", "--export-secret-keys"], check=True, capture_output=True
        ).stdout
    )
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)
    monkeypatch.setenv("WALG_PGP_KEY", key.read_text())
    fill(small)
    drill_id = new_drill_id()
    try:
        report = restore_stage(small.access, drill_id)
        assert report.restore.status == "ok", report.restore.trouble
        holds_nothing(
            small.access,
            drill_id,
            [key.read_text().splitlines()[5], *small.access.environment.values()],
        )
    finally:
        destroy_stage(small.access, drill_id)
    wal = report.timings.wal
    assert wal
    assert wal.by_tool == wal.segments >= 7
    assert (wal.by_reader, wal.read_bytes) == (0, 0)

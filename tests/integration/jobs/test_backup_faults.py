"""Base backups that cannot be good: refused before they start, or never listed."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgdrill.access import Access, Credentials
from pgdrill.backup import take_backup
from pgdrill.errors import BackupFault, ConfigError, CouldNotVerify, PgdrillError
from pgdrill.host import lock
from pgdrill.host.private import remembered
from pgdrill.postgres.binaries import as_ordinary_user
from pgdrill.postgres.server import LocalServer
from pgdrill.recovery.preflight import choose_backup
from pgdrill.recovery.targets import RecoveryTarget
from pgdrill.repository import object_store
from pgdrill_demo.stack import Stack, binaries
from tests.integration.conftest import Golden, Relay, processes_in, rows_of


def access_to(
    golden: Golden, *, credentials: Credentials | None = None, **sections: dict[str, object]
) -> Access:
    """The golden stack's, with other settings."""
    stack = golden.stack
    cluster = stack.cluster
    own = {"drill": {"work_directory": stack.home / "backups"}, **sections}
    changed = {
        name: getattr(cluster, name).model_copy(update=values) for name, values in own.items()
    }
    return Access(cluster.model_copy(update=changed), credentials or stack.credentials)


def listed(golden: Golden) -> list[str]:
    access = golden.stack.access
    return [backup.name for backup in access.repository.backups()]


def refused(
    golden: Golden, access: Access, kind: type[PgdrillError], within_seconds: float = 5
) -> str:
    """The words of the error a backup must end with; the repository's list and production are as
    before.
    """
    before, rows, started = listed(golden), rows_of(golden.stack), time.monotonic()
    with pytest.raises(kind) as caught:
        take_backup(access)
    assert time.monotonic() - started < within_seconds
    assert listed(golden) == before
    assert rows_of(golden.stack) == rows
    problem = caught.value.problem
    assert all((problem.thing, problem.found, problem.expected, problem.hint))
    return f"{problem.reason}: {problem.thing}: {problem.found}"


def test_a_folder_without_a_cluster_is_refused(golden: Golden, tmp_path: Path) -> None:
    said = refused(golden, access_to(golden, server={"data_directory": tmp_path}), ConfigError)
    assert said.startswith("no-data-directory")
    assert str(tmp_path) in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_data_directory_that_cannot_be_read_names_its_owner_and_how_to_become_it(
    golden: Golden, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir(mode=0)
    try:
        assert refused(
            golden, access_to(golden, server={"data_directory": tmp_path / "data"}), ConfigError
        ).startswith("not-the-owner")
    finally:
        (tmp_path / "data").chmod(0o700)


def test_a_server_that_is_not_the_configured_one_is_refused(golden: Golden) -> None:
    assert refused(
        golden, access_to(golden, server={"system_identifier": 1}), CouldNotVerify
    ).startswith("wrong-server")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """Another cluster, which archives nothing and trusts everybody on its socket."""
    home = Path(tempfile.mkdtemp(prefix="pgdrill-"))
    subprocess.run(
        [
            *as_ordinary_user(),
            binaries().path("initdb"),
            "-D",
            home / "data",
            "-U",
            "postgres",
            "--auth=trust",
            "--no-sync",
            "--encoding=UTF8",
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    server = LocalServer(
        binaries(),
        home / "data",
        home,
        home / "log",
        options={"listen_addresses": "", "fsync": "off"},
    )
    server.start()
    with server.connect() as connection:
        connection.execute("CREATE ROLE pgdrill LOGIN; GRANT pg_monitor TO pgdrill")
    yield server
    server.stop()
    subprocess.run(["rm", "-rf", str(home)], check=True)


def test_archiving_that_is_off_is_refused(golden: Golden, stranger: LocalServer) -> None:
    access = access_to(
        golden,
        server={
            "dsn": f"host={stranger.socket_directory} dbname=postgres",
            "data_directory": stranger.data_directory,
        },
    )
    said = refused(golden, access, BackupFault)
    assert said.startswith("archiving-off")
    assert "archive_mode=off" in said


def test_a_data_directory_of_another_server_is_refused(
    golden: Golden, stranger: LocalServer
) -> None:
    said = refused(
        golden, access_to(golden, server={"data_directory": stranger.data_directory}), ConfigError
    )
    assert said.startswith("wrong-server")


def test_a_server_that_is_down_is_told_as_such(golden: Golden) -> None:
    said = refused(
        golden, access_to(golden, server={"dsn": f"host={golden.stack.home}/gone"}), CouldNotVerify
    )
    assert said.startswith("server-unreachable")


def test_a_wrong_password_is_told_and_not_shown(golden: Golden) -> None:
    secret = "canary-wrong-password"
    wrong = Credentials({"user": "pgdrill", "password": secret}, golden.stack.s3.environment)
    said = refused(golden, access_to(golden, credentials=wrong), CouldNotVerify)
    assert said.startswith("login-refused")
    assert secret not in said


def test_a_role_without_the_rights_is_told_which_are_missing(golden: Golden) -> None:
    with golden.stack.connect() as connection:
        connection.execute("CREATE ROLE feeble LOGIN PASSWORD 'feeble'; GRANT pg_monitor TO feeble")
    try:
        feeble = Credentials({"user": "feeble", "password": "feeble"}, golden.stack.s3.environment)
        said = refused(golden, access_to(golden, credentials=feeble), CouldNotVerify, 20)
        assert said.startswith("missing-privilege")
        assert "pg_backup_start(text, boolean)" in said
    finally:
        with golden.stack.connect() as connection:
            connection.execute("DROP ROLE feeble")


def test_a_refused_store_ends_the_backup_at_once(golden: Golden) -> None:
    wrong = {**golden.stack.s3.environment, "AWS_SECRET_ACCESS_KEY": "canary-wrong-secret"}
    said = refused(
        golden,
        access_to(golden, credentials=Credentials(golden.stack.credentials.postgres, wrong)),
        CouldNotVerify,
    )
    assert said.startswith("storage-refused")
    assert "canary" not in said


def test_a_store_that_is_down_ends_the_backup_at_once(
    golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "REQUEST_TIMEOUT", "1s")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    said = refused(
        golden,
        access_to(golden, repository={"endpoint_url": f"http://127.0.0.1:{port}"}),
        CouldNotVerify,
        15,
    )
    assert said.startswith("storage-unreachable")


def test_an_archive_command_that_fails_is_told_before_the_backup(golden: Golden) -> None:
    stack = golden.stack
    working = dict(stack.primary.options)
    stack.primary.stop()
    stack.primary.options["archive_command"] = "false"  # type: ignore[index]
    stack.primary.start()
    try:
        with stack.connect() as connection:
            connection.execute("INSERT INTO canary SELECT max(n) + 1 FROM canary")
            connection.execute("SELECT pg_switch_wal()")
            until = time.monotonic() + 10
            while connection.execute("SELECT failed_count FROM pg_stat_archiver").fetchone() == (
                0,
            ):
                assert time.monotonic() < until
                time.sleep(0.05)
        assert refused(golden, access_to(golden), CouldNotVerify).startswith("archiving-fails")
    finally:
        stack.primary.stop()
        stack.primary.options.update(working)  # type: ignore[attr-defined]
        stack.primary.start()
    with stack.connect() as connection:
        connection.execute("SELECT pg_switch_wal()")
        until = time.monotonic() + 30
        query = (
            "SELECT last_archived_time > coalesce(last_failed_time, '-infinity') FROM"
            " pg_stat_archiver"
        )
        while connection.execute(query).fetchone() != (True,):
            assert time.monotonic() < until
            time.sleep(0.1)


def _backup_in_a_process(access: Access) -> None:
    take_backup(access)


def test_a_killed_backup_is_never_listed_and_the_next_one_is_good(
    golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at once on the way: the second is refused while the first runs."""
    monkeypatch.setitem(lock.ClusterLock.hold.__wrapped__.__kwdefaults__, "wait_seconds", 0.5)  # type: ignore[attr-defined]
    before = listed(golden)
    relay = Relay(golden.stack.s3.endpoint_url)
    relay.misbehave(r"(PUT|POST) \S*(part_001|data\.tar)", "hang")
    access = access_to(golden, repository={"endpoint_url": relay.endpoint_url})
    process = multiprocessing.get_context("spawn").Process(
        target=_backup_in_a_process, args=(access,)
    )
    process.start()
    try:
        assert relay.matched.wait(180)
        with pytest.raises(CouldNotVerify) as caught:
            take_backup(access_to(golden))
        assert caught.value.problem.reason == "busy"
    finally:
        process.kill()
        process.join()
    until = time.monotonic() + 6
    while left := [
        line
        for line in processes_in(golden.stack.home / "backups")
        if "barman" in line or "wal-g" in line
    ]:
        assert time.monotonic() < until, left
        time.sleep(0.05)
    relay.close()
    short = remembered(access_to(golden).cluster.state_directory / "backup" / "tmp")
    assert short is not None
    assert short.exists()
    assert listed(golden) == before
    with golden.stack.connect() as connection:
        assert connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%backup_start%' AND pid <>"
            " pg_backend_pid()"
        ).fetchone() == (0,)
    taken = take_backup(access_to(golden))
    assert listed(golden) == [*before, taken.name]
    home = access_to(golden).cluster.state_directory / "backup"
    assert not home.exists(), "what the killed one had made is left"
    assert not short.exists()
    access = golden.stack.access
    backups = access.repository.backups()
    assert choose_backup(backups, "LATEST", RecoveryTarget("latest"), "here").name == taken.name


def test_the_stack_is_as_it_was(golden: Golden) -> None:
    """The tests above share it."""
    assert isinstance(golden.stack, Stack)
    assert golden.stack.primary.status() == "ready"

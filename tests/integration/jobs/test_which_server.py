"""The server that is backed up is the one whose files are copied, however many the connection
string names; and all of its files are.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import lz4.frame
import pytest

from pgdrill.access import Access
from pgdrill.backup import take_backup
from pgdrill.baseline.beside import Beside, beside_the_server, check_origin
from pgdrill.drill import drill
from pgdrill.errors import BackupFault, ConfigError, CouldNotVerify
from pgdrill.host.process import Command, Completed, Runner
from pgdrill.logical.take import take_dump
from pgdrill.postgres.address import environment_of
from pgdrill.postgres.backup_label import BackupLabel
from pgdrill.postgres.wal import DEFAULT_SEGMENT_BYTES, parse_lsn
from pgdrill_demo.stack import preferred_tool
from tests.conftest import TOOLS, need
from tests.damage.small import SmallStack
from tests.integration.worlds import delete, drilled, healthy, production


class Watching(Runner):
    """Keeps what it was told to run."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: list[Command] = []

    def run(self, command: Command, **more: object) -> Completed:  # type: ignore[override]
        self.commands.append(command)
        return super().run(command, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=TOOLS)
def pair(request: pytest.FixtureRequest) -> Iterator[SmallStack]:
    """A primary and its streaming standby; the connection string names the standby first, as that
    of a Patroni cluster may.
    """
    with production(need(request.param)) as stack:
        stack.start_standby()
        yield stack


def once(stack: SmallStack) -> None:
    """For what no tool has a part in."""
    if stack.tool != preferred_tool():
        pytest.skip("no business of the tool: seen with the other one")


def both_hosts(stack: SmallStack) -> Access:
    """Access by a connection string with both, and the wish for the one that takes writes."""
    server = stack.cluster.server.model_copy(
        update={
            "dsn": (
                f"host={stack.standby.socket_directory},{stack.home} port=5432,5432 dbname=agents"
                " target_session_attrs=read-write"
            )
        }
    )
    return Access(stack.cluster.model_copy(update={"server": server}), stack.credentials)


def test_of_several_hosts_the_tool_is_given_the_one_that_answered(
    pair: SmallStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "standby")  # of somebody's shell
    runner, access = Watching(), both_hosts(pair)
    with access.connect() as connection:
        address = environment_of(connection)
        (lsn,) = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
    assert (address["PGHOST"], address["PGPORT"]) == (str(pair.home), "5432")
    result = take_backup(access, runner=runner)
    told = next(
        one
        for one in runner.commands
        if "backup" in "".join(one.argv[:2]) and "PGHOST" in one.environment
    )
    assert {**told.environment, **address} == told.environment
    assert "PGTARGETSESSIONATTRS" in told.without
    assert parse_lsn(result.start_lsn) >= parse_lsn(lsn)
    healthy(drill(access))


def test_a_dump_goes_to_the_server_that_exported_the_snapshot(pair: SmallStack) -> None:
    once(pair)
    access = both_hosts(pair)
    manifest = take_dump(access)
    assert not manifest.from_standby
    assert [one.name for one in manifest.databases] == ["agents", "postgres"]


def test_a_standby_is_refused_before_anything_is_taken(pair: SmallStack) -> None:
    once(pair)
    server = pair.cluster.server.model_copy(
        update={
            "dsn": f"host={pair.standby.socket_directory} dbname=agents",
            "data_directory": pair.standby.data_directory,
        }
    )
    with pytest.raises(CouldNotVerify) as caught:
        take_backup(Access(pair.cluster.model_copy(update={"server": server}), pair.credentials))
    assert caught.value.problem.reason == "standby"


def test_files_of_the_standby_are_not_taken_for_the_primarys(pair: SmallStack) -> None:
    once(pair)
    server = pair.cluster.server.model_copy(update={"data_directory": pair.standby.data_directory})
    with pytest.raises(ConfigError) as caught:
        take_backup(Access(pair.cluster.model_copy(update={"server": server}), pair.credentials))
    assert caught.value.problem.reason == "wrong-server"
    assert str(pair.home) in caught.value.problem.expected


def test_a_backup_that_the_standby_began_is_no_good_backup(
    pair: SmallStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an older pgdrill took it, and as any tool would that goes its own way."""
    if pair.tool == "wal-g":
        pytest.skip(
            "wal-g itself refuses where the two servers' paths differ, as they have to on one host"
        )
    astray = {"PGHOST": str(pair.standby.socket_directory), "PGPORT": "5432"}

    def led_astray(access: Access) -> Beside:
        seen = beside_the_server(access)
        return Beside(
            seen.system_identifier,
            seen.timeline,
            seen.lsn,
            seen.segment_bytes,
            0,
            {**seen.environment, **astray, "PGTARGETSESSIONATTRS": "any"},
        )

    with pair.connect() as connection:
        connection.execute("CHECKPOINT")
    monkeypatch.setattr("pgdrill.backup.beside_the_server", led_astray)
    access = both_hosts(pair)
    with pytest.raises(BackupFault) as caught:
        take_backup(access)
    assert caught.value.problem.reason == "wrong-server"
    assert "delete this backup" in caught.value.problem.hint
    newest = max(access.repository.backups(), key=lambda one: one.finish_time)
    delete(pair, newest.name)


def test_a_label_that_tells_of_a_standby_is_judged_before_recovery_refuses_it(
    pair: SmallStack,
) -> None:
    """The primary's files with a standby's label: what wal-g left of servers with equal paths."""
    if pair.tool != "wal-g":
        pytest.skip("barman-cloud keeps the label in the archive of all files: seen with wal-g")
    name = take_backup(pair.access).name
    bucket = pair.s3.folder / pair.s3.bucket
    part = next(file for file in bucket.rglob("backup_label.tar.lz4") if name in file.parts)
    kept = part.read_bytes()
    part.write_bytes(
        lz4.frame.compress(
            lz4.frame.decompress(kept).replace(b"BACKUP FROM: primary", b"BACKUP FROM: standby")
        )
    )
    record = next(bucket.rglob(f"pgdrill/backups/{name}.json"))
    record.rename(record.with_suffix(".aside"))
    try:
        report = drill(pair.access)
        assert report.restore.trouble
        assert (report.verdict, report.restore.trouble.reason) == ("failed", "wrong-server")
    finally:
        part.write_bytes(kept)
        record.with_suffix(".aside").rename(record)


def test_a_label_of_a_standby_is_no_label_of_the_primarys_backup(pair: SmallStack) -> None:
    once(pair)
    access = pair.access
    name = take_backup(access).name
    backup = next(one for one in access.repository.backups() if one.name == name)
    beside = Beside(
        backup.system_identifier, backup.timeline, backup.start_lsn, DEFAULT_SEGMENT_BYTES, 0, {}
    )
    check_origin(access, backup, BackupLabel(backup.start_lsn, backup.timeline), beside)
    for wrong in (
        BackupLabel(backup.start_lsn, backup.timeline, True),
        BackupLabel(backup.start_lsn + 40, backup.timeline),
        None,
    ):
        with pytest.raises(BackupFault) as caught:
            check_origin(access, backup, wrong, beside)
        assert caught.value.problem.reason == "wrong-server"


def test_the_address_goes_to_the_tool_and_the_name_where_a_certificate_has_to_fit_it(
    pair: SmallStack, tmp_path: Path
) -> None:
    if pair.tool != "wal-g":
        pytest.skip("barman-cloud uses libpq, which knows PGHOSTADDR")
    from pgdrill.host.tuning import Tuning

    words = {"PGHOST": "db.example", "PGHOSTADDR": "192.0.2.7", "PGSSLMODE": "require"}
    tool = pair.access.tool
    assert (
        tool.backup(tmp_path, words, tmp_path, Tuning(1, 1, 2**30)).environment["PGHOST"]
        == "192.0.2.7"
    )
    strict = {**words, "PGSSLMODE": "verify-full"}
    assert (
        tool.backup(tmp_path, strict, tmp_path, Tuning(1, 1, 2**30)).environment["PGHOST"]
        == "db.example"
    )


# --- symbolic links in the data directory ---


def lay_elsewhere(stack: SmallStack, name: str) -> None:
    """Move a folder or file of the stopped primary to another place, with a link to it."""
    place = stack.home / "primary" / name
    elsewhere = stack.home / "elsewhere" / name.replace("/", "_")
    elsewhere.parent.mkdir(exist_ok=True)
    shutil.move(place, elsewhere)
    place.symlink_to(elsewhere)


def put_back(stack: SmallStack) -> None:
    for link in sorted((stack.home / "primary").rglob("*")):
        if link.is_symlink() and stack.home / "elsewhere" in link.resolve().parents:
            there = link.resolve()
            link.unlink()
            shutil.move(there, link)


@pytest.fixture(scope="module", params=TOOLS)
def single(request: pytest.FixtureRequest) -> Iterator[SmallStack]:
    with production(need(request.param)) as stack:
        yield stack


@pytest.fixture
def restarted(single: SmallStack) -> Iterator[SmallStack]:
    """Stopped for the test to move files; as it was afterwards."""
    single.primary.stop()
    yield single
    single.primary.stop()
    put_back(single)
    single.primary.start()


def a_database(stack: SmallStack) -> str:
    return next(
        f"base/{folder.name}"
        for folder in (stack.home / "primary" / "base").iterdir()
        if int(folder.name) >= 16384
    )


def test_a_folder_of_data_that_is_a_link_is_refused_by_its_name(restarted: SmallStack) -> None:
    name = a_database(restarted)
    once(restarted)
    for one in (name, "pg_xact", "pg_notify"):
        lay_elsewhere(restarted, one)
        restarted.primary.start()
        with pytest.raises(BackupFault) as caught:
            take_backup(restarted.access)
        problem = caught.value.problem
        assert problem.reason == "symbolic-link"
        assert f"{restarted.home}/primary/{one} -> " in problem.thing
        assert "bind-mount" in problem.hint
        restarted.primary.stop()
        put_back(restarted)


def test_a_backup_that_holds_a_link_in_a_files_place_is_judged_by_that_name(
    restarted: SmallStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an older pgdrill took it."""
    file = next(
        f
        for f in (restarted.home / "primary" / a_database(restarted)).iterdir()
        if f.name.isdecimal() and int(f.name) >= 16384
    )
    name = str(file.relative_to(restarted.home / "primary"))
    lay_elsewhere(restarted, name)
    restarted.primary.start()
    monkeypatch.setattr("pgdrill.baseline.beside.check_links", lambda directory: None)
    result = take_backup(restarted.access)
    report = drill(restarted.access, backup=result.name)
    assert report.restore.trouble
    assert (report.verdict, report.restore.trouble.reason) == ("failed", "symbolic-link")
    assert name in report.restore.trouble.thing
    delete(restarted, result.name)


def test_links_to_keys_logs_and_statistics_are_told_and_the_backup_is_good(
    restarted: SmallStack, caplog: pytest.LogCaptureFixture
) -> None:
    (restarted.home / "primary" / "server.key").write_text("no key")
    for name in ("server.key", "pg_stat_tmp"):
        lay_elsewhere(restarted, name)
    wal = restarted.home / "elsewhere" / "pg_wal"
    shutil.move(restarted.home / "primary" / "pg_wal", wal)
    (restarted.home / "primary" / "pg_wal").symlink_to(wal)
    restarted.primary.start()
    with caplog.at_level(logging.WARNING):
        take_backup(restarted.access)
    assert "primary/server.key -> " in caplog.text
    assert "primary/pg_wal" not in caplog.text
    drilled(restarted)

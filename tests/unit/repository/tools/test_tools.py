"""The adapters' pure side: arguments, environments, and repositories read from listings."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pgdrill.config import RepositorySettings
from pgdrill.errors import BackupFault, CouldNotVerify
from pgdrill.host.process import Command
from pgdrill.host.tuning import Tuning
from pgdrill.repository.object_store import Storage
from pgdrill.repository.repository import Repository
from pgdrill.repository.tools import BackupTool, BaseBackup, archive_command, restore_command
from pgdrill.repository.tools.barman import BarmanCloud, parse_backup_info
from pgdrill.repository.tools.pgbackrest import PgBackRest
from pgdrill.repository.tools.server_commands import WAL_SCRIPT
from pgdrill.repository.tools.walg import WalG, parse_sentinel
from pgdrill.tool_facts import TOOLS

SECRETS = {"AWS_ACCESS_KEY_ID": "canary-key", "AWS_SECRET_ACCESS_KEY": "canary-secret"}
LIBPQ = {
    "PGHOST": "/run/pg",
    "PGUSER": "pgdrill",
    "PGPASSWORD": "canary-password",
    "PGDATABASE": "agents",
}
NAME = "base_000000010000000000000002"
BACKUP = BaseBackup(
    NAME,
    7,
    18,
    1,
    0x2000028,
    0x2000100,
    datetime(2026, 11, 1, tzinfo=UTC),
    datetime(2026, 11, 1, tzinfo=UTC),
)
SPACED = replace(BACKUP, tablespaces={"16390": "/mnt/fast"}, tablespace_names={"16390": "fast"})
HOME, INTO = Path("/srv/home"), Path("/srv/data")
TUNING = Tuning(streams=3, readers=2, part_bytes=64 * 2**20)


def repository(tool: str, **more: Any) -> RepositorySettings:
    return RepositorySettings.model_validate(
        {"url": "s3://bucket/agents", "tool": tool, "endpoint_url": "http://127.0.0.1:9", **more}
    )


def walg(**more: Any) -> WalG:
    return WalG("/opt/wal-g", repository("wal-g", **more), SECRETS)


def barman(**more: Any) -> BarmanCloud:
    return BarmanCloud(Path("/opt/bin"), "agents", repository("barman-cloud", **more), SECRETS)


def pgbackrest() -> PgBackRest:
    settings = repository("pgbackrest", endpoint_url="https://127.0.0.1:9")
    return PgBackRest("/opt/pgbackrest", "agents", Path("/pgdata"), settings, SECRETS)


def commands(tool: BackupTool) -> list[Command]:
    return [
        tool.version(),
        tool.backup(Path("/pgdata"), LIBPQ, HOME, TUNING),
        tool.fetch(BACKUP, INTO, {}, HOME, 3).command,
        tool.fetch(SPACED, INTO, {"16390": Path("/srv/t/16390")}, HOME, 3).command,
    ]


@pytest.mark.parametrize("tool", [walg(), barman(), pgbackrest()], ids=lambda tool: tool.name)
def test_no_secret_is_ever_an_argument(tool: BackupTool) -> None:
    for command in commands(tool):
        assert "canary" not in " ".join(command.argv)
    for line in (archive_command(tool, 1 << 24), restore_command(tool, 1 << 24)):
        assert "canary" not in line
        assert "%f" in line
        assert "%p" in line
    assert "canary" not in repr(tool)
    assert SECRETS.items() <= tool.environment().items()
    assert SECRETS.items() <= tool.wal_environment(HOME).items()


@pytest.mark.parametrize("tool", [walg(), barman(), pgbackrest()], ids=lambda tool: tool.name)
def test_a_tool_gets_a_home_of_its_own_and_the_database_by_environment(tool: BackupTool) -> None:
    backup = tool.backup(Path("/pgdata"), LIBPQ, HOME, TUNING).environment
    assert LIBPQ.items() <= backup.items()
    assert backup["HOME"] == str(HOME)
    assert tool.wal_environment(HOME)["HOME"] == str(HOME)
    assert tool.fetch(BACKUP, INTO, {}, HOME, 3).command.environment["HOME"] == str(HOME)


def test_wal_g_is_called_by_full_name_with_few_retries() -> None:
    command = walg().fetch(BACKUP, INTO, {}, HOME, 3).command
    assert command.argv == ("/opt/wal-g", "backup-fetch", "/srv/data", NAME)
    assert int(command.environment["WALG_DOWNLOAD_FILE_RETRIES"]) <= 2
    assert command.environment["WALG_TAR_DISABLE_FSYNC"] == "true"  # restore() syncs all at once
    assert command.environment["WALG_PREFETCH_DIR"].startswith(str(HOME))  # not in pg_wal
    assert command.environment["WALG_PREVENT_WAL_OVERWRITE"] == "true"
    assert int(command.environment["WALG_S3_MAX_RETRIES"]) <= 5


def test_streams_and_parts_are_passed_on() -> None:
    backup = walg().backup(Path("/pgdata"), LIBPQ, HOME, TUNING)
    fetch = walg().fetch(BACKUP, INTO, {}, HOME, 3)
    assert backup.environment["WALG_UPLOAD_CONCURRENCY"] == "3"
    assert backup.environment["WALG_UPLOAD_DISK_CONCURRENCY"] == "2"
    assert backup.environment["WALG_TAR_SIZE_THRESHOLD"] == str(64 * 2**20)
    assert fetch.command.environment["WALG_DOWNLOAD_CONCURRENCY"] == "3"
    argv = barman().backup(Path("/pgdata"), LIBPQ, HOME, TUNING).argv
    assert argv[argv.index("--jobs") + 1] == "3"


def test_wal_g_moves_tablespaces_by_a_file() -> None:
    fetch = walg().fetch(SPACED, INTO, {"16390": Path("/srv/t/16390")}, HOME, 3)
    ((file, content),) = fetch.files.items()
    assert fetch.command.argv[-2:] == ("--restore-spec", str(file))
    assert json.loads(content) == {
        "base_prefix": "/srv/data",
        "tablespaces": ["16390"],
        "16390": {"loc": "/srv/t/16390", "link": "pg_tblspc/16390"},
    }


def test_barman_moves_tablespaces_by_name() -> None:
    argv = barman().fetch(SPACED, INTO, {"16390": Path("/srv/t/16390")}, HOME, 3).command.argv
    assert argv[argv.index("--tablespace") + 1] == "fast:/srv/t/16390"
    assert argv[-4:] == ("s3://bucket/agents", "agents", NAME, "/srv/data")


def test_barman_does_not_wait_minutes_for_a_checkpoint() -> None:
    argv = barman().backup(Path("/pgdata"), LIBPQ, HOME, TUNING).argv
    assert "--immediate-checkpoint" in argv
    assert argv[argv.index("--dbname") + 1] == "agents"


def test_a_folder_as_repository_needs_no_keys() -> None:
    environment = walg(url="file:///mnt/backups", endpoint_url="").environment()
    assert environment["WALG_FILE_PREFIX"] == "/mnt/backups"
    assert not environment.keys() & {"WALG_S3_PREFIX", *SECRETS}


@pytest.mark.parametrize(
    ("tool", "compression"), [("wal-g", "none"), ("wal-g", "gzip"), ("barman-cloud", "zstd")]
)
def test_compressions_that_could_not_be_read_again_are_refused(tool: str, compression: str) -> None:
    with pytest.raises(ValidationError):
        repository(tool, compression=compression)


@pytest.mark.parametrize("tool", [walg(), barman(), pgbackrest()], ids=lambda tool: tool.name)
def test_the_servers_commands_pass_through_a_shell_unharmed(tool: BackupTool) -> None:
    words = shlex.split(restore_command(tool, 1 << 24))
    assert words[:7] == [
        "sh",
        str(WAL_SCRIPT),
        "fetch",
        str(tool.wal_absent_code),
        str(1 << 24),
        "%f",
        "%p",
    ]
    assert words[7:] == list(tool.wal_fetch())
    assert shlex.split(archive_command(tool, 1 << 20))[2:6] == ["push", str(1 << 20), "%f", "%p"]


# --- reading repositories ---


SENTINEL = {
    "LSN": 33554472,
    "FinishLSN": 33570056,
    "PgVersion": 180006,
    "SystemIdentifier": 7711508868310993863,
    "UncompressedSize": 30633861,
    "CompressedSize": 5514695,
    "Spec": None,
    "StartTime": "2026-11-23T23:12:54.701855Z",
    "FinishTime": "2026-11-23T23:12:55.462788Z",
}


def test_a_sentinel_is_read_with_its_numbers_whole() -> None:
    found = parse_sentinel(NAME, json.dumps(SENTINEL).encode())
    assert found.system_identifier == 7711508868310993863  # beyond 2^53
    assert (found.major_version, found.timeline, found.start_lsn, found.finish_lsn) == (
        18,
        1,
        0x2000028,
        0x2003D08,
    )
    assert found.start_time < found.finish_time
    assert found.finish_time.tzinfo
    assert not found.tablespaces


def test_tablespaces_are_read_from_a_sentinel() -> None:
    spec = {
        "base_prefix": "/pgdata",
        "tablespaces": ["16390"],
        "16390": {"loc": "/mnt/fast", "link": "pg_tblspc/16390"},
    }
    assert parse_sentinel(NAME, json.dumps(SENTINEL | {"Spec": spec}).encode()).tablespaces == {
        "16390": "/mnt/fast"
    }


@pytest.mark.parametrize("missing", [key for key in SENTINEL if key != "Spec"])
@pytest.mark.parametrize("value", [None, "nonsense", [], {}])
def test_every_odd_value_of_a_sentinel_is_the_backups_fault(missing: str, value: object) -> None:
    for content in (
        {k: v for k, v in SENTINEL.items() if k != missing},
        SENTINEL | {missing: value},
    ):
        with pytest.raises(BackupFault) as caught:
            parse_sentinel(NAME, json.dumps(content).encode())
        assert caught.value.problem.reason == "metadata-broken"
        assert NAME in caught.value.problem.thing


@pytest.mark.parametrize(
    "text", [None, b"", b"null", b"[]", b"1", b'"x"', b"{", b"\xff\xfe", b'{"Spec": 1}']
)
def test_what_is_no_sentinel_is_the_backups_fault(text: bytes | None) -> None:
    with pytest.raises(BackupFault):
        parse_sentinel(NAME, text)


INFO = """backup_label=None
begin_time=2026-11-23 23:13:00.778057+00:00
begin_xlog=0/2000028
end_time=2026-11-23 23:13:06.173606+00:00
end_xlog=0/2000120
size=4076863
status=DONE
systemid=7711508886798564438
tablespaces=[('fast', 16390, '/mnt/fast')]
timeline=1
version=180006
"""


def test_a_backup_info_is_read() -> None:
    found = parse_backup_info("20261123T231300", INFO.encode())
    assert found
    assert (found.system_identifier, found.major_version, found.start_lsn) == (
        7711508886798564438,
        18,
        0x2000028,
    )
    assert found.tablespaces == {"16390": "/mnt/fast"}
    assert found.tablespace_names == {"16390": "fast"}
    assert found.uncompressed_bytes in (0, 4076863)


@pytest.mark.parametrize("status", ["EMPTY", "STARTED", "FAILED", "SYNCING"])
def test_an_unfinished_backup_is_not_listed(status: str) -> None:
    assert parse_backup_info("x", INFO.replace("DONE", status).encode()) is None


@pytest.mark.parametrize(
    "key", ["begin_time", "begin_xlog", "end_time", "end_xlog", "systemid", "timeline", "version"]
)
def test_every_odd_value_of_a_backup_info_is_the_backups_fault(key: str) -> None:
    lines = INFO.splitlines()
    for changed in (
        [line for line in lines if not line.startswith(f"{key}=")],
        [f"{key}=None" if line.startswith(f"{key}=") else line for line in lines],
    ):
        with pytest.raises(BackupFault):
            parse_backup_info("x", "\n".join(changed).encode())


@pytest.mark.parametrize(
    "tablespaces", ["[(1,2)]", "__import__('os').abort()", "[", "{'a': 1}", "7"]
)
def test_a_backup_infos_tablespaces_are_data_and_nothing_else(tablespaces: str) -> None:
    with pytest.raises(BackupFault):
        parse_backup_info("x", INFO.replace("[('fast', 16390, '/mnt/fast')]", tablespaces).encode())


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    return Storage.open(f"file://{tmp_path}", {})


def put(store: Storage, *keys: str, content: bytes = b"x") -> None:
    for key in keys:
        store.write(key, content)


def a_walg_backup(store: Storage, name: str = NAME, **sentinel: object) -> None:
    folder = f"basebackups_005/{name}"
    put(
        store,
        f"{folder}/tar_partitions/part_001.tar.lz4",
        f"{folder}/tar_partitions/pg_control.tar.lz4",
        f"{folder}/metadata.json",
    )
    metadata = {
        "TarFileSets": {"part_001.tar.lz4": ["/base/1/1"], "pg_control.tar.lz4": []},
        "Files": {"/base/1/1": {}},
    }
    store.write(f"{folder}/files_metadata.json", json.dumps(metadata).encode())
    store.write(f"{folder}_backup_stop_sentinel.json", json.dumps(SENTINEL | sentinel).encode())


def problems(tool: BackupTool, store: Storage, backup: BaseBackup = BACKUP) -> list[str]:
    found = tool.problems(store, backup, tool.parts(store, backup))
    return [f"{problem.reason} {problem.thing.rpartition('/')[2]}" for problem in found]


def test_a_whole_wal_g_backup_has_no_problem_and_only_its_own_parts(store: Storage) -> None:
    a_walg_backup(store)
    a_walg_backup(store, NAME[:-1] + "3")
    # a name that begins the same
    put(store, f"basebackups_005/{NAME}9/tar_partitions/part_001.tar.lz4")
    assert problems(walg(), store) == []
    assert all(
        key.startswith((f"basebackups_005/{NAME}/", f"basebackups_005/{NAME}_backup"))
        for key in walg().parts(store, BACKUP)
    )
    assert {backup.name for backup in walg().backups(store)} == {NAME, NAME[:-1] + "3"}


def test_only_what_has_a_sentinel_is_a_backup(store: Storage) -> None:
    a_walg_backup(store)
    put(
        store,
        f"basebackups_005/{NAME[:-1]}3/tar_partitions/part_001.tar.lz4",
        "basebackups_005/evil_backup_stop_sentinel.json",
    )
    assert [backup.name for backup in walg().backups(store)] == [NAME]


@pytest.mark.parametrize("part", ["part_001.tar.lz4", "pg_control.tar.lz4"])
def test_each_lacking_part_is_named(store: Storage, tmp_path: Path, part: str) -> None:
    a_walg_backup(store)
    (tmp_path / "basebackups_005" / NAME / "tar_partitions" / part).unlink()
    assert (
        problems(walg(), store)[0]
        == f"missing-part {part.removesuffix('.lz4') if 'control' in part else part}"
    )


def test_a_delta_needs_all_it_builds_on(store: Storage, tmp_path: Path) -> None:
    delta = "base_000000010000000000000004_D_000000010000000000000002"
    a_walg_backup(store)
    a_walg_backup(store, delta, DeltaFrom=NAME)
    latest = walg().backups(store)[-1]
    assert {backup.name for backup in walg().backups(store)} == {NAME, delta}
    newest = replace(latest, name=delta)
    assert problems(walg(), store, newest) == []
    (tmp_path / "basebackups_005" / NAME / "tar_partitions" / "part_001.tar.lz4").unlink()
    assert problems(walg(), store, newest) == ["missing-part part_001.tar.lz4"]


def test_a_chain_of_deltas_that_bites_its_tail_ends(store: Storage) -> None:
    one, two = (f"base_00000001000000000000000{n}_D_000000010000000000000002" for n in (4, 5))
    a_walg_backup(store, one, DeltaFrom=two)
    a_walg_backup(store, two, DeltaFrom=one)
    with pytest.raises(BackupFault, match="comes again"):
        problems(walg(), store, replace(BACKUP, name=one))


def test_nothing_stands_in_for_a_segment_whose_name_it_begins_with(store: Storage) -> None:
    segment = "000000010000000000000003"
    put(
        store,
        f"wal_005/{segment}.lz4",
        "wal_005/00000002.history.lz4",
        f"agents/wals/0000000100000000/{segment}.gz",
        "agents/wals/00000002.history",
        content=b"12345",
    )
    put(
        store,
        "agents/wals/0000000100000000/000000010000000000000002.00000028.backup.gz",
        "wal_005/strange.lz4",
        "agents/wals/0000000100000000/000000010000000000000009.partial",
        "wal_005/000000010000000000000009.partial.lz4",
        "wal_005/000000010000000000000002.00000028.backup.lz4",
        "agents/wals/0000000100000000/strange.gz",
    )
    for tool in (walg(), barman()):
        repository = Repository(None, store, tool)  # type: ignore[arg-type]
        assert repository.wal() == {segment: 5, "00000002.history": 5}


def a_barman_backup(store: Storage, *archives: str) -> None:
    put(store, *(f"agents/base/20261123T231300/{archive}" for archive in archives))
    store.write("agents/base/20261123T231300/backup.info", INFO.encode())


@pytest.mark.parametrize(
    ("archives", "lacking"),
    [
        (("data.tar.gz", "16390.tar.gz"), []),
        (("data.tar", "data_0001.tar", "16390.tar"), []),
        (("data.tar.gz",), ["missing-part 16390.tar"]),
        (("16390.tar.gz",), ["missing-part data.tar"]),
        (("data.tar.gz", "data_0002.tar.gz", "16390.tar.gz"), ["missing-part data_0001.tar"]),
        (("data_0001.tar.gz", "16390.tar.gz"), ["missing-part data.tar"]),
    ],
)
def test_holes_among_barmans_archives_are_seen(
    store: Storage, archives: tuple[str, ...], lacking: list[str]
) -> None:
    a_barman_backup(store, *archives)
    (backup,) = barman().backups(store)
    assert problems(barman(), store, backup) == lacking


def test_an_empty_object_is_a_problem_with_either_tool(store: Storage) -> None:
    a_barman_backup(store, "data.tar.gz")
    put(store, "agents/base/20261123T231300/16390.tar.gz", content=b"")
    (backup,) = barman().backups(store)
    assert problems(barman(), store, backup) == ["missing-part 16390.tar.gz"]
    a_walg_backup(store)
    put(store, f"basebackups_005/{NAME}/tar_partitions/part_001.tar.lz4", content=b"")
    assert problems(walg(), store) == ["missing-part part_001.tar.lz4"]


def test_a_tool_that_is_not_installed_says_where_it_was_looked_for(tmp_path: Path) -> None:
    from pgdrill.repository.tools import _found

    with pytest.raises(CouldNotVerify) as caught:
        _found(TOOLS["wal-g"], str(tmp_path / "wal-g"))
    assert caught.value.problem.reason == "tool-missing"
    assert str(tmp_path) in caught.value.problem.found

"""pgBackRest's documents and messages, as 2.55.1 writes them."""

from __future__ import annotations

import lz4.frame
import pytest

from pgdrill.config import RepositorySettings
from pgdrill.errors import BackupFault, CouldNotVerify
from pgdrill.postgres.wal import parse_lsn
from pgdrill.repository.object_store import Storage
from pgdrill.repository.repository import Repository
from pgdrill.repository.tools import pgbackrest_listing as listing
from pgdrill.repository.tools.pgbackrest import CONTROL, PgBackRest
from pgdrill.tool_facts import misfit

FULL, INCR = "20261130-204629F", "20261130-204629F_20261130-205936I"
LINE = (
    '{{"backrest-format":5,"backup-annotation":{keep},"backup-archive-start":'
    '"000000010000000000000005","backup-archive-stop":"000000010000000000000005",'
    '"backup-info-repo-size":5874480,"backup-info-size":30878540,"backup-lsn-start":"0/5000028",'
    '"backup-lsn-stop":"0/5000158",{more}"backup-timestamp-start":1796071589,'
    '"backup-timestamp-stop":1796071612,"backup-type":"full","db-id":1}}'
)
ARCHIVE_INFO = """[backrest]
backrest-format=5

[db]
db-id=2
db-system-id=7714066412178753512
db-version="18"
"""
LABEL = lz4.frame.compress(b"START WAL LOCATION: 0/5000028 (file 000000010000000000000005)\n")
PG_CONTROL = lz4.frame.compress(b"control" * 100)
MANIFEST = f"""[backup]
backup-label="{FULL}"

[backup:option]
option-compress-type="lz4"

[backup:target]
pg_data={{"path":"/srv/data","type":"path"}}
pg_tblspc/16398={{"path":"/srv/spc","tablespace-id":"16398","tablespace-name":"t","type":"link"}}

[target:file]
pg_data/backup_label={{"repo-size":{len(LABEL)},"size":62}}
pg_data/base/5/a=b={{"bni":2,"bno":1000,"repo-size":50,"size":8192}}
pg_data/empty={{"size":0}}
pg_data/global/pg_control={{"bni":1,"bno":3,"repo-size":{len(PG_CONTROL)},"size":700}}
"""


def tool(**more: object) -> PgBackRest:
    values = {"url": "s3://bucket/p", "tool": "pgbackrest", **more}
    settings = RepositorySettings.model_validate(values)
    return PgBackRest("/opt/pgbackrest", "agents", "/srv/data", settings)  # type: ignore[arg-type]


def backup_info(*, keep: str = "{}", incremental: str = "") -> bytes:
    lines = f"{FULL}={LINE.format(keep=keep, more='')}\n"
    if incremental:
        lines += f"{INCR}={LINE.format(keep='{}', more=incremental)}\n"
    history = '1={"db-system-id":7714066412178753512,"db-version":"18"}'
    return f"[backup:current]\n{lines}\n[db:history]\n{history}\n".encode()


@pytest.fixture
def store(tmp_path: object) -> Storage:
    made = Storage.open(f"file://{tmp_path}", {})
    made.write("backup/agents/backup.info", backup_info())
    made.write(f"backup/agents/{FULL}/backup.manifest", MANIFEST.encode())
    made.write(f"backup/agents/{FULL}/pg_data/backup_label.lz4", LABEL)
    made.write(f"backup/agents/{FULL}/bundle/1", b"xxx" + PG_CONTROL)
    made.write(f"backup/agents/{FULL}/bundle/2", bytes(1050))
    made.write("archive/agents/archive.info", ARCHIVE_INFO.encode())
    return made


def test_a_backup_is_read_from_backup_info_and_its_manifest(store: Storage) -> None:
    (backup,) = tool().backups(store)
    assert (backup.name, backup.major_version, backup.timeline) == (FULL, 18, 1)
    assert (backup.start_lsn, backup.finish_lsn) == (parse_lsn("0/5000028"), parse_lsn("0/5000158"))
    assert backup.system_identifier == 7714066412178753512
    assert backup.tablespaces == {"16398": "/srv/spc"}
    # whole seconds, rounded down: no target in the last one may lie before the backup's end
    assert backup.finish_time.timestamp() == 1796071613


def test_label_and_control_file_are_read_out_of_objects_and_bundles(store: Storage) -> None:
    (backup,) = tool().backups(store)
    parts = tool().parts(store, backup)
    assert tool().problems(store, backup, parts) == []
    assert str(tool().label(store, backup, parts, None)).startswith("START WAL")  # type: ignore[arg-type]
    assert tool().wal_needs(store, None)[CONTROL]() == b"control" * 100


def test_a_bundle_that_is_too_short_or_gone_is_named(store: Storage) -> None:
    (backup,) = tool().backups(store)
    store.write(f"backup/agents/{FULL}/bundle/2", bytes(1049))
    store.delete(f"backup/agents/{FULL}/bundle/1")
    found = tool().problems(store, backup, tool().parts(store, backup))
    assert [(one.reason, one.thing.rpartition("/")[2], one.found) for one in found] == [
        ("missing-part", "2", "1049 bytes of 1050 or more"),
        ("missing-part", "1", "no such object"),
    ]


@pytest.mark.parametrize("path", ["pg_data/../x", "etc/passwd", "pg_tblspc/../x"])
def test_a_path_that_leaves_the_data_directory_is_refused(store: Storage, path: str) -> None:
    evil = MANIFEST + f'{path}={{"size":3}}\n'
    store.write(f"backup/agents/{FULL}/backup.manifest", evil.encode())
    (backup,) = tool().backups(store)
    found = tool().problems(store, backup, tool().parts(store, backup))
    assert [one.reason for one in found] == ["unsafe-name"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0/5000158", "0/4000158"),
        ('"db-id":1', '"db-id":7'),
        ("1796071612", "99999999999999"),
        ("000000010000000000000005", "zz"),
        ('"backup-lsn-start"', '"x"'),
    ],
)
def test_a_line_that_no_postgresql_could_have_made_costs_its_backup(
    store: Storage, old: str, new: str
) -> None:
    store.write("backup/agents/backup.info", backup_info().replace(old.encode(), new.encode()))
    found = tool().backups(store)
    assert list(found) == []
    assert found.broken[FULL].reason == "metadata-broken"


def test_the_copy_stands_for_a_backup_info_that_is_broken(store: Storage) -> None:
    store.write("backup/agents/backup.info.copy", backup_info())
    store.write("backup/agents/backup.info", b"[backup:current]\nno line\n")
    assert [backup.name for backup in tool().backups(store)] == [FULL]
    store.delete("backup/agents/backup.info.copy")
    with pytest.raises(BackupFault, match=r"backup\.info"):
        tool().backups(store)


def test_an_encrypted_repository_is_refused_in_words(store: Storage) -> None:
    store.write("backup/agents/backup.info", b"Salted__" + bytes(100))
    with pytest.raises(CouldNotVerify, match="encrypted by pgBackRest"):
        tool().backups(store)


def test_wal_is_found_behind_its_digest_in_the_archive_of_the_cluster_as_it_is_now(
    store: Storage,
) -> None:
    folder, segment = "archive/agents/18-2", "000000010000000000000005"
    first, second = (f"{folder}/0000000100000000/{segment}-{c * 40}.lz4" for c in "ab")
    store.write(first, b"12345")
    store.write(f"{folder}/0000000100000000/{segment}.00000028.backup", b"1")
    store.write(f"{folder}/0000000100000000/{segment[:-1]}6.partial-{'a' * 40}.lz4", b"1")
    store.write(f"archive/agents/18-1/0000000100000000/{segment[:-1]}7-{'a' * 40}.lz4", b"1")
    store.write(f"{folder}/00000002.history", b"12345")
    repository = Repository(None, store, tool())  # type: ignore[arg-type]
    assert repository.wal() == {segment: 5, "00000002.history": 5}
    assert repository.lists_wal(segment)
    assert repository.lists_wal("00000002.history")
    assert not repository.lists_wal(segment[:-1] + "6")
    assert tool().wal_key(first) == segment
    store.write(second, b"12345")
    assert repository.wal().doubles == {segment: sorted([first, second])}


def test_what_an_expire_would_take_is_read_from_its_messages() -> None:
    output = f"""P00   INFO: [DRY-RUN] repo1: expire adhoc backup {FULL}
P00   INFO: [DRY-RUN] repo1: remove expired backup {FULL}
P00   INFO: [DRY-RUN] repo1: 18-1 remove archive, start = 000000010000000000000004, stop = 000000010000000000000005
P00   INFO: [DRY-RUN] repo1: 18-1 remove archive, start = 0000000200000000, stop = 0000000200000000
"""  # noqa: E501
    taken = (
        f"backup/agents/{FULL}/backup.manifest",
        f"archive/agents/18-1/0000000100000000/000000010000000000000004-{'a' * 40}.lz4",
        "archive/agents/18-1/0000000100000000/000000010000000000000005.00000028.backup",
        f"archive/agents/18-1/0000000200000000/000000020000000000000004-{'a' * 40}.lz4",
    )
    left = (
        f"backup/agents/{INCR}/backup.manifest",
        "backup/agents/backup.info",
        f"archive/agents/18-1/0000000100000000/000000010000000000000006-{'a' * 40}.lz4",
        f"archive/agents/18-2/0000000100000000/000000010000000000000004-{'a' * 40}.lz4",
    )
    assert listing.named(output, dict.fromkeys((*taken, *left), 1), "agents") == set(taken)


def test_a_backup_is_kept_by_its_annotation_and_wal_is_counted_from_the_oldest_free_one(
    store: Storage,
) -> None:
    assert not tool().permanent(store, FULL)
    store.write("backup/agents/backup.info", backup_info(keep='{"pgdrill-keep":"yes"}'))
    assert tool().permanent(store, FULL)
    (entry,) = tool().catalog(store)
    assert entry.permanent
    free, kept = {}, {"backup-annotation": {"pgdrill-keep": "yes"}}  # type: ignore[var-annotated]
    assert listing.fulls_to_reach({"1F": kept, "2F": free, "2F_3I": free, "4F": kept}) == 2
    assert listing.fulls_to_reach({"1F": kept}) == 0


def test_an_incremental_is_listed_with_what_it_builds_on(store: Storage) -> None:
    more = f'"backup-prior":"{FULL}","backup-reference":["{FULL}"],'
    store.write("backup/agents/backup.info", backup_info(incremental=more))
    reference = MANIFEST.replace('{"bni":2', f'{{"reference":"{FULL}","bni":2')
    store.write(f"backup/agents/{INCR}/backup.manifest", reference.encode())
    store.write(f"backup/agents/{INCR}/pg_data/backup_label.lz4", LABEL)
    store.write(f"backup/agents/{INCR}/bundle/1", b"xxx" + PG_CONTROL)
    backup = next(one for one in tool().backups(store) if one.name == INCR)
    assert backup.parent == FULL
    parts = tool().parts(store, backup)
    assert tool().problems(store, backup, parts) == []
    del parts[f"backup/agents/{FULL}/bundle/2"]
    assert [one.reason for one in tool().problems(store, backup, parts)] == ["missing-part"]


def test_a_label_without_a_line_is_no_finished_backup(store: Storage) -> None:
    store.write("backup/agents/20261130-210000F/backup.manifest.copy", b"x")
    found = {entry.name: entry.finished for entry in tool().catalog(store)}
    assert found == {FULL: True, "20261130-210000F": False}


def test_a_store_without_tls_is_refused() -> None:
    assert "https" in misfit("pgbackrest", "s3://bucket/p", "", "http://127.0.0.1:9")
    assert not misfit("pgbackrest", "s3://bucket/p", "", "https://127.0.0.1:9")
    environment = tool(endpoint_url="https://127.0.0.1:9/").environment()
    assert environment["PGBACKREST_REPO1_S3_ENDPOINT"] == "127.0.0.1:9"
    assert environment["PGBACKREST_REPO1_PATH"] == "/p"

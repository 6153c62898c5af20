"""Whatever lies in a bucket under a document's name ends in a sane value or in an error that names
the object.

Each document is taken as it should be, and changed in every way that JSON can be: nothing else than
pgdrill's own errors may come out, and no value that a path, an argument or a computation could be
hurt by.
"""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgdrill.access import Access
from pgdrill.baseline import backup_record
from pgdrill.config import load
from pgdrill.documents import StrictModel, ToolDocument, load_json, read_model, whole_number
from pgdrill.errors import PgdrillError
from pgdrill.logical import manifest
from pgdrill.postgres.backup_label import BackupLabel
from pgdrill.postgres.wal import read_history
from pgdrill.reports import store
from pgdrill.reports.model import Report
from pgdrill.repository.object_store import Storage
from pgdrill.repository.tools import BaseBackup
from pgdrill.repository.tools.barman import parse_backup_info
from pgdrill.repository.tools.base import BaseBackups
from pgdrill.repository.tools.walg import parse_sentinel
from pgdrill.retention import dumps
from tests.reports import passed_report
from tests.unit.repository.tools.test_tools import (
    BACKUP,
    INFO,
    NAME,
    SENTINEL,
    a_walg_backup,
    barman,
    put,
    walg,
)

QUICK = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
AT = "2026-11-20T11:00:00Z"
ABSURD = [
    None,
    True,
    -1,
    0,
    2**63,
    2**70,
    -(2**70),
    10**30,
    1e308,
    "",
    "x",
    "../..",
    "/some/path",
    "..",
    "\x00",
    "a\nb",
    "\x1b]52;c;eA==\x07",
    "0001-01-01T00:00:00",
    "9999-12-31T23:59:59Z",
    "2026-11-20T11:00:00",
    "1" * 400,
    "-x",
    [],
    {},
    [[]],
    [None],
    {"a": {"b": []}},
    ["../.."],
]
VALUES = (
    st.sampled_from(ABSURD)
    | st.integers()
    | st.text(max_size=20)
    | st.floats(allow_nan=False, allow_infinity=False)
)


@st.composite
def changed(draw: st.DrawFn, good: Any) -> Any:
    """A document with one to three of its places changed, taken out, or added to."""
    document = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        place = document
        while isinstance(place, dict | list) and place:
            key: Any = draw(
                st.sampled_from(sorted(place))
                if isinstance(place, dict)
                else st.integers(0, len(place) - 1)
            )
            if not isinstance(place[key], dict | list) or not place[key] or draw(st.booleans()):
                how = draw(st.sampled_from(["change", "remove", "add"]))
                if how == "change" or isinstance(place, list):
                    place[key] = copy.deepcopy(draw(VALUES))
                elif how == "remove":
                    del place[key]
                else:
                    place[draw(st.text(max_size=10))] = copy.deepcopy(draw(VALUES))
                break
            place = place[key]
    return document


def sane(backup: BaseBackup) -> None:
    """Nothing in it can be a path, an option or a number that breaks what is done with it."""
    assert 0 <= backup.start_lsn <= backup.finish_lsn < 2**63
    assert 0 < backup.system_identifier < 2**64
    assert 1 <= backup.timeline < 2**32
    assert 8 <= backup.major_version < 100
    assert 0 <= backup.uncompressed_bytes <= 2**60
    assert 0 <= backup.compressed_bytes <= 2**60
    assert all(
        re.fullmatch(r"[1-9][0-9]{0,9}", oid)
        for oid in (*backup.tablespaces, *backup.tablespace_names)
    )
    assert not any(re.search(r"^-|:|\n", name) for name in backup.tablespace_names.values())
    assert re.fullmatch(r"|base_[0-9A-F]{24}(_D_[0-9A-F]{24})?", backup.parent)
    for at in (backup.start_time, backup.finish_time):
        assert at.tzinfo is UTC
        assert 1990 <= at.year <= 2200
    assert len(backup.first_segment().name) == 24


SPACED = {
    "base_prefix": "/pgdata",
    "tablespaces": ["16390"],
    "16390": {"loc": "/mnt/fast", "link": "pg_tblspc/16390"},
}


@QUICK
@given(changed({**SENTINEL, "Spec": SPACED, "DeltaFrom": None, "UserData": {"any": [1]}}))
def test_any_sentinel_is_a_sane_backup_or_an_error(document: Any) -> None:
    try:
        found = parse_sentinel(NAME, json.dumps(document).encode())
    except PgdrillError as error:
        assert NAME in error.problem.thing
    else:
        sane(found)


LINES = [line.partition("=")[::2] for line in INFO.splitlines()]


@QUICK
@given(
    changed(dict(LINES)),
    st.sampled_from(["", "a=b=c", "\x00", "status=DONE", "tablespaces=[('x', 16390, '/y')]"]),
)
def test_any_backup_info_is_a_sane_backup_or_an_error(document: Any, more: str) -> None:
    lines = (
        [f"{key}={value}" for key, value in document.items()]
        if isinstance(document, dict)
        else [str(document)]
    )
    try:
        found = parse_backup_info(
            "20261123T231300", "\n".join([*lines, more]).encode(errors="replace")
        )
    except PgdrillError as error:
        assert "20261123T231300" in error.problem.thing
    else:
        if found:
            sane(found)


@pytest.mark.parametrize(
    "oid",
    [
        "/some/path",
        "../..",
        "..",
        ".",
        "",
        "1/2",
        "-1",
        "0",
        "4294967296",
        "1" * 30,
        "16390\n",
        "\u0661",
        None,
        16390.5,
        ["1"],
    ],
)
def test_a_tablespace_is_named_by_a_number_and_nothing_else(oid: Any) -> None:
    spec = {"tablespaces": [oid], str(oid): {"loc": "/x"}}
    with pytest.raises(PgdrillError):
        parse_sentinel(NAME, json.dumps(SENTINEL | {"Spec": spec}).encode())
    with pytest.raises(PgdrillError):
        parse_backup_info("x", INFO.replace("16390", repr(oid)).encode())


@pytest.mark.parametrize("name", ["a:/etc", "-x", "a\nb", "", "x" * 300])
def test_barman_is_given_no_tablespaces_name_that_means_something_else(name: str) -> None:
    with pytest.raises(PgdrillError):
        parse_backup_info("x", INFO.replace("'fast'", repr(name)).encode())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("LSN", -1),
        ("LSN", 2**70),
        ("FinishLSN", 1),
        ("FinishLSN", 2**63),
        ("UncompressedSize", 10**30),
        ("CompressedSize", -5),
        ("SystemIdentifier", 0),
        ("SystemIdentifier", 2**64),
        ("PgVersion", 10**9),
        ("StartTime", "2026-11-23T23:12:54"),
        ("FinishTime", "9999-12-31T00:00:00Z"),
        ("StartTime", "0001-01-01T00:00:00Z"),
        ("DeltaFrom", "../x"),
        ("DeltaFrom", f"{NAME}\n"),
    ],
)
def test_what_postgresql_could_not_have_written_is_not_believed(field: str, value: Any) -> None:
    with pytest.raises(PgdrillError):
        parse_sentinel(NAME, json.dumps(SENTINEL | {field: value}).encode())


@pytest.fixture
def bucket(tmp_path: Path) -> Storage:
    return Storage.open(f"file://{tmp_path}/bucket", {})


FILES_METADATA = {
    "TarFileSets": {"part_001.tar.lz4": ["/base/1/1"], "pg_control.tar.lz4": []},
    "Files": {"/base/1/1": {}},
}


@QUICK
@given(changed(FILES_METADATA))
def test_any_list_of_files_gives_problems_and_no_other_error(
    bucket: Storage, document: Any
) -> None:
    a_walg_backup(bucket)
    bucket.write(f"basebackups_005/{NAME}/files_metadata.json", json.dumps(document).encode())
    walg().problems(bucket, BACKUP, walg().parts(bucket, BACKUP))


@pytest.mark.parametrize("name", ["../evil", "/a/../b", "x\x00y", "x" * 5000])
@pytest.mark.parametrize("where", ["Files", "TarFileSets"])
def test_names_that_leave_the_folder_are_found_wherever_they_stand(
    bucket: Storage, name: str, where: str
) -> None:
    a_walg_backup(bucket)
    document = copy.deepcopy(FILES_METADATA)
    document[where][name] = []  # type: ignore[index]
    bucket.write(f"basebackups_005/{NAME}/files_metadata.json", json.dumps(document).encode())
    assert "unsafe-name" in {
        problem.reason for problem in walg().problems(bucket, BACKUP, walg().parts(bucket, BACKUP))
    }


# --- one broken document costs itself and no other ---


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"LSN": ' + b"9" * 5000 + b"}",
        json.dumps(SENTINEL | {"LSN": -1}).encode(),
    ],
    ids=["empty", "cut", "deep", "endless number", "absurd"],
)
def test_one_broken_description_hides_no_other_backup(bucket: Storage, content: bytes) -> None:
    broken = f"{NAME[:-1]}9"
    a_walg_backup(bucket)
    a_walg_backup(bucket, broken)
    bucket.write(f"basebackups_005/{broken}_backup_stop_sentinel.json", content)
    put(bucket, "agents/base/20261123T231300/backup.info", content=INFO.encode())
    put(bucket, "agents/base/20261124T231300/backup.info", content=content)
    for tool, good, bad in (
        (walg(), NAME, broken),
        (barman(), "20261123T231300", "20261124T231300"),
    ):
        found = tool.backups(bucket)
        assert [backup.name for backup in found] == [good]
        assert list(found.broken) == [bad]
        entries = {entry.name: entry for entry in tool.catalog(bucket)}
        assert entries[bad].trouble
        assert entries[bad].backup is None
        # wal-g's metadata.json is none here
        assert tool.name != "barman-cloud" or entries[good].backup


def test_an_object_that_is_too_large_is_not_read_and_hides_no_other(bucket: Storage) -> None:
    bucket.write("large", b"x" * 1001)
    bucket.write("small", b"x" * 1000)
    with pytest.raises(PgdrillError) as caught:
        bucket.read("large", 1000)
    assert caught.value.problem.reason == "too-large"
    assert "large" in caught.value.problem.thing
    assert bucket.read("small", 1000) == b"x" * 1000
    found = dict(bucket.read_all(["large", "small", "none"], 1000))
    assert isinstance(found["large"], PgdrillError)
    assert (found["small"], found["none"]) == (b"x" * 1000, None)


def test_a_store_that_lies_about_a_size_is_cut_off(
    bucket: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result whose stream is longer than its metadata say, as a hostile store could send."""
    taken = []

    def stream(min_chunk_size: int) -> Any:
        for number in range(10_000):
            taken.append(number)
            yield b"x" * 100

    monkeypatch.setattr(
        "pgdrill.repository.object_store.obstore.get",
        lambda *_: SimpleNamespace(meta={"size": 10}, stream=stream),
    )
    with pytest.raises(PgdrillError, match="1100 bytes or more"):
        bucket.read("x", 1000)
    assert len(taken) == 11


# --- JSON itself ---


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such object"),
        (b"", "empty"),
        (b"\xff\xfe{}", None),
        (b'{"a": NaN}', "NaN"),
        (b"[Infinity]", "Infinity"),
        (b"[1e999]", "large"),
        (b"[" * 200_000, "deep"),
        (b'{"a":' * 50_000, "deep"),
        (b"[" + b"1" * 100_000 + b"]", "digits"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"x": {"a": 1, "b": 2, "a": 1}}', "twice"),
        (b"{} {}", None),
        (b"{'a': 1}", None),
    ],
)
def test_json_that_was_made_to_do_harm_is_a_plain_error(
    content: bytes | None, said: str | None
) -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match=said):
        load_json(content)
    assert time.monotonic() - started < 2


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**300), 10**300) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_other_json_is_what_it_is(data: Any) -> None:
    assert load_json(json.dumps(data).encode()) == data


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1_0", " 1", "1\n", "0x1", "\u0661", "9" * 21, "11", "0"]
)
def test_a_number_is_its_digits_within_bounds(text: str) -> None:
    with pytest.raises(ValueError, match="is no number"):
        whole_number(text, 1, 10)


# --- pgdrill's own documents ---


@pytest.fixture
def access(tmp_path: Path) -> Access:
    file = tmp_path / "dr.toml"
    file.write_text(
        '[clusters.agents]\nowner = "x"\n[clusters.agents.server]\ndsn ='
        f' "host=/nowhere"\ndata_directory = "{tmp_path}"\n[clusters.agents.repository]\nurl ='
        f' "file://{tmp_path}/repository"\n[clusters.agents.drill]\nwork_directory ='
        f' "{tmp_path}/work"\n'
    )
    return Access(load(file).cluster("agents"))


REPORT = json.loads(passed_report("d1").model_dump_json())


@QUICK
@given(changed(REPORT))
def test_any_report_is_one_or_an_error_that_names_it(access: Access, document: Any) -> None:
    access.reports.write("reports/d1.json", json.dumps(document).encode())
    try:
        found = store.load_report(access, "d1")
    except PgdrillError as error:
        assert "d1" in error.problem.thing
    else:
        assert (found.drill_id, found.cluster) == ("d1", "agents")
        Report.model_validate_json(found.model_dump_json())


def good_manifest() -> dict[str, Any]:
    file = {"name": "agents.dump", "bytes": 5, "sha256": "0" * 64}
    content = {"rows": 1, "digest": "x", "columns": ["id"]}
    return {
        "version": 1,
        "dump_id": "20261201T040000Z-abcdef",
        "cluster": "agents",
        "system_identifier": "7",
        "server_version": "18.6",
        "server_major": 18,
        "from_standby": False,
        "pg_dump_version": "18.6",
        "started_at": AT,
        "ended_at": AT,
        "host": "h",
        "superuser": "postgres",
        "data_checksums": True,
        "preload_libraries": "",
        "global_objects": {**file, "name": "globals.sql"},
        "role_passwords": False,
        "seconds": 1.0,
        "databases": [
            {
                "name": "agents",
                "format": "custom",
                "compression": "gzip:1",
                "files": [file],
                "command": ["pg_dump"],
                "snapshot_lsn": "0/1",
                "snapshot_at": AT,
                "size_bytes": 5,
                "seconds": 1.0,
                "encoding": "UTF8",
                "locale_provider": "c",
                "collate": "C",
                "ctype": "C",
                "key": "k",
                "extensions": {"vector": "0.8"},
                "tables": {"public.t": content},
                "not_dumped": {},
                "sequences": {"s": {"first": 1, "last": 2}},
                "large_objects": content,
                "schema_objects": {},
                "labels": {},
                "vector_indexes": [],
            }
        ],
    }


@QUICK
@given(changed(good_manifest()))
def test_any_manifest_is_that_of_its_dump_or_an_error_that_names_it(
    access: Access, document: Any
) -> None:
    wanted = good_manifest()["dump_id"]
    access.dumps.write(manifest.key(wanted), json.dumps(document).encode())
    try:
        found = manifest.read(access, wanted)
    except PgdrillError as error:
        assert wanted in error.problem.thing
    else:
        assert found.dump_id == wanted
        for name in [
            found.global_objects.name,
            *(file.name for one in found.databases for file in one.files),
        ]:
            assert not name.startswith("/")
            assert ".." not in Path(name).parts
    (seen,) = dumps.read_dumps(access.dumps)
    assert seen.finished_at.tzinfo
    assert seen.damage  # nothing that a manifest says proves it


BASELINE = {
    "version": 3,
    "cluster": "agents",
    "taken_at": AT,
    "system_identifier": 7,
    "timeline": 1,
    "settings": {"wal_segment_size": "16777216"},
    "shared_objects": {"digest": "x", "salt": "y", "objects": {}},
    "databases": {},
}


@QUICK
@given(
    changed(
        {
            "version": 3,
            "name": NAME,
            "cluster": "agents",
            "tool": "wal-g",
            "finished_at": AT,
            "objects": {"a/b": 5},
            "baseline": BASELINE,
        }
    )
)
def test_any_record_is_that_of_its_backup_or_an_error_that_names_it(
    access: Access, document: Any
) -> None:
    access.reports.write(backup_record.key(NAME), json.dumps(document).encode())
    try:
        found = backup_record.read(access.reports, NAME)
    except PgdrillError as error:
        assert NAME in error.problem.thing
    else:
        if found:
            assert found.name == NAME
            assert found.baseline.segment_bytes in {2**power for power in range(20, 31)}
            backup_record.differences(found, "s3://x", {"a/b": 5}, datetime.now(UTC))


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/b", "..", "", "x" * 200, "a\nb", "/etc/passwd"]
)
@pytest.mark.parametrize(
    "read",
    [lambda a, n: backup_record.read(a.reports, n), store.load_report],
    ids=["record", "report"],
)
def test_a_name_from_a_document_never_becomes_a_path(
    access: Access, tmp_path: Path, name: str, read: Callable[[Access, str], Any]
) -> None:
    (tmp_path / "repository" / "pgdrill").mkdir(parents=True)
    try:
        assert read(access, name) is None
    except PgdrillError as error:
        assert error.problem.reason == "no-report"


def test_what_has_no_drills_name_is_no_report(access: Access) -> None:
    for key in (
        "reports/good.json",
        "reports/.hidden.json",
        "reports/-x.json",
        "reports/a b.json",
        "reports/below/x.json",
        "reports/x.txt",
    ):
        access.reports.write(key, b"{}")
    assert store.list_reports(access) == ["good"]


# --- WAL's own texts ---


@QUICK
@given(
    st.binary(max_size=80)
    | st.lists(
        st.sampled_from(["1", "2", "-1", "0/1", "0/5", "x", "\t", " ", "\n", "4294967296"]),
        max_size=9,
    ).map(lambda words: " ".join(words).encode())
)
def test_any_history_names_timelines_in_order_or_none(content: bytes) -> None:
    try:
        found = read_history(content)
    except ValueError:
        return
    assert found
    lines = [one.timeline for one in found]
    assert lines == sorted(set(lines))
    assert all(1 <= line < 2**32 for line in lines)


def test_an_endless_history_is_none() -> None:
    with pytest.raises(ValueError, match="endless"):
        read_history(b"1\t0/1\t" + b"x" * 2**20)


@given(st.text(max_size=200))
def test_any_backup_label_is_one_or_none(text: str) -> None:
    BackupLabel.parse(f"START WAL LOCATION: {text} (file)\nSTART TIMELINE: {text}\n")


def test_the_newest_backup_is_not_replaced_by_an_older_one_without_a_word() -> None:
    from pgdrill.recovery.preflight import choose_backup
    from pgdrill.recovery.targets import RecoveryTarget

    found = BaseBackups.read(
        {
            NAME: json.dumps(SENTINEL).encode(),
            f"{NAME[:-1]}9": b"{}",
            f"{NAME[:-1]}1": b"{}",
        }.items(),
        parse_sentinel,
    )
    latest = RecoveryTarget("latest")
    with pytest.raises(PgdrillError, match=f"{NAME[:-1]}9"):
        choose_backup(found, "LATEST", latest, "s3://b")
    assert choose_backup(found, NAME, latest, "s3://b").name == NAME
    del found.broken[f"{NAME[:-1]}9"]
    # an older one that is broken says nothing
    assert choose_backup(found, "LATEST", latest, "s3://b").name == NAME


class Numbered(StrictModel):
    """A document of pgdrill with a number."""

    number: int


class NumberedByTool(ToolDocument):
    """The same of a tool."""

    number: int


def test_a_number_of_pgdrills_own_document_is_no_string_and_a_tools_may_be_one() -> None:
    assert read_model(Numbered, b'{"number": 1}').number == 1
    for content in (b'{"number": "1"}', b'{"number": true}', b'{"number": 1, "more": 2}'):
        with pytest.raises(ValueError, match=r"number|more"):
            read_model(Numbered, content)
    assert read_model(NumberedByTool, b'{"number": "1", "more": 2}').number == 1


def test_nobody_writes_to_a_document_that_was_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read_model(Numbered, b'{"number": 1}').number = 2  # type: ignore[misc]


def test_every_model_of_pgdrill_is_a_strict_one() -> None:
    sources = Path("include/pgdrill").rglob("*.py")
    loose = [str(file) for file in sources if re.search(r"\(BaseModel\b", file.read_text("utf-8"))]
    assert loose == ["include/pgdrill/documents.py"]

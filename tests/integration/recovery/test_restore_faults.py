"""Repositories that are broken, stores that fail, hosts that are full: what each does to a restore.

Every fault must be named, in seconds, with whose fault it was; production and repository stay as
they were and nothing is left behind (``Copy.drill`` looks after that).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgdrill.drill import destroy_stage, new_drill_id, restore_stage
from pgdrill.errors import BackupFault, ConfigError, CouldNotVerify, PgdrillError
from pgdrill.host.process import Runner
from pgdrill.postgres.wal import format_lsn
from pgdrill.recovery.goal import Goal
from pgdrill.recovery.preflight import Plan
from pgdrill.recovery.restore import plan_restore
from pgdrill.recovery.targets import parse_target
from pgdrill.recovery.workspace import Workspace
from pgdrill.repository import object_store
from tests.integration.conftest import Copy, Relay, fingerprint, once


def plan(
    repository: Copy, /, *, target: str = "", backup: str = "LATEST", **access: dict[str, object]
) -> Plan:
    """Preflight alone: it may look at everything and fetch nothing."""
    opened = repository.access(**access)
    workspace = Workspace.of(opened, "preflight")
    before = fingerprint(repository.folder)
    wanted = parse_target(target or f"lsn:{format_lsn(repository.golden.marks[2].lsn)}")
    try:
        return plan_restore(opened, workspace, Goal(backup, wanted), Runner())
    finally:
        assert not any(workspace.data_directory.iterdir()), "something was fetched"
        assert fingerprint(repository.folder) == before
        workspace.destroy()


def refused(repository: Copy, kind: type[PgdrillError], /, **more: object) -> str:
    """The words of the one error that preflight must end with."""
    started = time.monotonic()
    with pytest.raises(kind) as caught:
        plan(repository, **more)  # type: ignore[arg-type]
    assert time.monotonic() - started < 5
    problem = caught.value.problem
    assert all((problem.thing, problem.found, problem.expected, problem.hint))
    return f"{problem.reason}: {problem.thing}: {problem.found}"


# --- what preflight sees ---


def test_an_undamaged_copy_can_be_restored(repository: Copy) -> None:
    found = plan(repository)
    assert (found.backup, found.timeline) == (repository.golden.backup, 1)
    assert found.record is not None
    assert (
        found.wal_segments
        == repository.golden.marks[2].segment.number - found.backup.first_segment().number + 1
    )


@pytest.mark.parametrize("record", ["recorded", "not recorded"])
def test_a_missing_part_is_named_before_a_byte_is_fetched(repository: Copy, record: str) -> None:
    if record == "not recorded":
        repository.record.unlink()
    part = repository.part
    part.unlink()
    said = refused(repository, BackupFault)
    assert said.startswith("missing-part")
    assert part.name.rpartition(".")[0] in said  # barman's listing does not tell the compression


@pytest.mark.parametrize("record", ["recorded", "not recorded"])
def test_an_empty_part_is_named_before_a_byte_is_fetched(repository: Copy, record: str) -> None:
    if record == "not recorded":
        repository.record.unlink()
    repository.part.write_bytes(b"")
    said = refused(repository, BackupFault)
    assert said.startswith("missing-part")
    assert repository.part.name in said
    assert "empty" in said


def test_a_shortened_part_is_known_by_its_recorded_size(repository: Copy) -> None:
    size = repository.part.stat().st_size
    os.truncate(repository.part, size // 2)
    said = refused(repository, BackupFault)
    assert said.startswith("changed-part")
    assert f"{size // 2} bytes" in said


def test_a_repository_without_backups_says_so(repository: Copy) -> None:
    repository.metadata.unlink()
    assert refused(repository, BackupFault).startswith("no-backups")


def test_a_repository_that_is_not_there_says_so(repository: Copy) -> None:
    with pytest.raises(PgdrillError) as caught:
        plan(repository, repository={"url": f"s3://{repository.store.bucket}/nowhere"})
    assert caught.value.problem.reason == "no-backups"


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b'{"LSN": ', b"\xff\xfe garbage", b"status=DONE\n"]
)
def test_a_broken_description_of_a_backup_is_named(repository: Copy, content: bytes) -> None:
    repository.metadata.write_bytes(content)
    said = refused(repository, BackupFault)
    assert said.startswith("metadata-broken")
    assert repository.golden.backup.name in said


@pytest.mark.parametrize("content", [None, b"", b"[1]", b'{"Files": {}}'])
def test_wal_gs_list_of_files_has_to_be_there(repository: Copy, content: bytes | None) -> None:
    file = files_metadata(repository)
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    said = refused(repository, BackupFault)
    assert said.startswith("missing-part")
    assert "files_metadata.json" in said


@pytest.mark.parametrize("name", ["../../../../tmp/evil", "/base/../../evil", ".."])
def test_a_file_that_would_leave_the_data_directory_is_refused(repository: Copy, name: str) -> None:
    file = files_metadata(repository)
    data = json.loads(file.read_text())
    data["Files"][name] = {
        "IsIncremented": False,
        "IsSkipped": False,
        "MTime": "2026-01-01T00:00:00Z",
    }
    file.write_text(json.dumps(data))
    said = refused(repository, BackupFault)
    assert said.startswith("unsafe-name")
    assert name in said


def files_metadata(repository: Copy) -> Path:
    found = list(repository.folder.rglob("files_metadata.json"))
    if not found:
        pytest.skip("barman-cloud keeps no list of files")
    return found[0]


@pytest.mark.parametrize("mark", ["the backup's own", 0, 2])
def test_a_gap_in_the_wal_is_named_by_its_segment(repository: Copy, mark: int | str) -> None:
    segment = (
        repository.golden.marks[mark].segment
        if isinstance(mark, int)
        else repository.golden.backup.first_segment()
    )
    repository.segment(segment).unlink()
    said = refused(repository, BackupFault)
    assert said.startswith("wal-gap")
    assert segment.name in said


def test_a_gap_after_the_target_does_not_matter(repository: Copy) -> None:
    repository.segment(repository.golden.marks[3].segment).unlink()
    assert plan(repository)


def test_an_empty_segment_is_as_good_as_none(repository: Copy) -> None:
    segment = repository.golden.marks[1].segment
    repository.segment(segment).write_bytes(b"")
    said = refused(repository, BackupFault)
    assert said.startswith("wal-empty")
    assert segment.name in said


def test_another_clusters_backup_is_refused(repository: Copy) -> None:
    said = refused(repository, BackupFault, server={"system_identifier": 1})
    assert said.startswith("wrong-system")
    assert str(repository.golden.backup.system_identifier) in said


def test_another_major_version_is_refused(repository: Copy, tmp_path: Path) -> None:
    program = tmp_path / "postgres"
    program.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 17.2'\n")
    program.chmod(0o755)
    said = refused(repository, CouldNotVerify, server={"bin_dir": tmp_path})
    assert said.startswith("wrong-major-version")
    assert "17" in said


def test_missing_server_programs_are_named(repository: Copy, tmp_path: Path) -> None:
    said = refused(repository, CouldNotVerify, server={"bin_dir": tmp_path})
    assert said.startswith("binaries")
    assert str(tmp_path) in said


def test_an_unknown_backup_is_the_callers_mistake(repository: Copy) -> None:
    said = refused(repository, ConfigError, backup=repository.golden.backup.name[:-1])
    assert said.startswith("unknown-backup")
    assert repository.golden.backup.name in said


@pytest.mark.parametrize("target", ["lsn:0/1000028", "time:2020-01-01T00:00:00Z"])
def test_a_target_before_the_oldest_backup_is_refused(repository: Copy, target: str) -> None:
    assert refused(repository, BackupFault, target=target).startswith("target-too-old")
    name = repository.golden.backup.name
    assert refused(repository, ConfigError, target=target, backup=name).startswith("target-too-old")


def test_a_disk_too_small_is_known_beforehand(
    repository: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6)
    )
    assert refused(repository, CouldNotVerify).startswith("no-space")


def test_a_folder_in_use_is_left_alone(repository: Copy) -> None:
    access = repository.access()
    workspace = Workspace.of(access, "occupied")
    workspace.create()
    (workspace.data_directory / "somebody's").write_text("work")
    with pytest.raises(CouldNotVerify) as caught:
        plan_restore(access, workspace, Goal("LATEST", parse_target("name:mark1")), Runner())
    assert caught.value.problem.reason == "directory-in-use"
    assert (workspace.data_directory / "somebody's").read_text() == "work"
    workspace.destroy()


# --- what only the restore itself can see ---


@pytest.mark.parametrize("how", ["shortened", "overwritten"])
def test_a_part_that_does_not_unpack_ends_the_restore_in_seconds(
    repository: Copy, how: str
) -> None:
    repository.record.unlink()  # nobody knows the size it had
    content = repository.part.read_bytes()
    middle = len(content) // 2
    # Long enough to hold more than literals: fewer bytes can unpack well, to other content.
    end = middle + 4096
    torn = (
        bytes(byte ^ 0xFF for byte in content[middle:end]) + content[end:]
        if how == "overwritten"
        else b""
    )
    repository.part.write_bytes(content[:middle] + torn)
    started = time.monotonic()
    verdict, trouble = repository.trouble()
    assert time.monotonic() - started < 60  # nobody waited for a limit, of minutes and hours
    assert verdict == "failed"
    # barman-cloud 3.19.1 reads a tar header that is none as the end of the archive, and exits with
    # 0 after half of it. Whether the damage ends up in a header is chance; what is written last is
    # then not there.
    quiet = repository.golden.stack.tool == "barman-cloud"
    assert trouble.reason in (
        ("corrupt-part", "incomplete-restore") if quiet else ("corrupt-part",)
    )


def test_a_backup_that_lies_about_its_cluster_is_found_out(repository: Copy) -> None:
    told, true = "1234567890123456789", str(repository.golden.backup.system_identifier)
    repository.metadata.write_text(repository.metadata.read_text().replace(true, told))
    repository.record.unlink()
    verdict, trouble = repository.trouble()
    assert (verdict, trouble.reason) == ("failed", "wrong-system")
    assert true in trouble.found
    assert told in trouble.expected


def test_a_damaged_segment_stops_the_server_instead_of_promoting_it(repository: Copy) -> None:
    file = repository.segment(repository.golden.marks[0].segment)
    file.write_bytes(os.urandom(file.stat().st_size))
    verdict, trouble = repository.trouble(target="name:mark2")
    assert (verdict, trouble.reason) == ("failed", "wal-damaged")
    assert repository.golden.marks[0].segment.name in trouble.thing
    verdict, trouble = repository.trouble(
        repository.access(drill={"wal_fetch": "tool"}), target="name:mark2"
    )
    assert (verdict, trouble.reason) == ("failed", "wal-damaged")
    assert repository.golden.marks[0].segment.name in trouble.thing


def test_a_restore_point_that_does_not_exist_is_refused_before_a_byte_is_fetched(
    repository: Copy,
) -> None:
    once(repository)
    with pytest.raises(ConfigError) as caught:
        repository.drill(target="name:mark5")
    assert caught.value.problem.reason == "no-such-restore-point"
    assert "name:mark4" in caught.value.problem.expected


def test_a_restore_point_in_wal_that_is_damaged_is_not_called_mistyped(repository: Copy) -> None:
    once(repository)
    segment = repository.segment(repository.golden.marks[1].segment)
    segment.write_bytes(b"no segment")
    verdict, trouble = repository.trouble(target="name:mark3")
    assert verdict == "failed"
    assert repository.golden.marks[1].segment.name in f"{trouble.thing} {trouble.found}"


@pytest.mark.parametrize("kind", ["lsn", "time", "name"])
def test_a_target_is_met_exactly(repository: Copy, kind: str) -> None:
    if kind != "time":
        once(repository)
    mark = repository.golden.marks[0]
    value = {"lsn": format_lsn(mark.lsn), "time": mark.at.isoformat(), "name": mark.name}[kind]
    access, drill_id = repository.access(), new_drill_id()
    try:
        report = restore_stage(access, drill_id, target=f"{kind}:{value}")
        assert report.restore.status == "ok", report.restore.trouble
        with Workspace.of(access, drill_id).server(access).connect("agents") as connection:
            assert connection.execute("SELECT count(*) FROM canary").fetchone() == (mark.rows,)
    finally:
        destroy_stage(access, drill_id)


# --- stores that fail ---


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage that gives up in a second instead of twenty."""
    monkeypatch.setattr(object_store, "REQUEST_TIMEOUT", "1s")


def test_a_store_that_is_not_there_is_nobodys_broken_backup(repository: Copy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    started = time.monotonic()
    verdict, trouble = repository.trouble(
        repository.access(repository={"endpoint_url": f"http://127.0.0.1:{port}"})
    )
    assert time.monotonic() - started < 30
    assert (verdict, trouble.reason) == ("could not verify", "storage-unreachable")


def test_a_wrong_key_is_told_as_such_and_not_shown(repository: Copy) -> None:
    access = repository.access(secrets={"AWS_SECRET_ACCESS_KEY": "canary-wrong-secret"})
    verdict, trouble = repository.trouble(access)
    assert (verdict, trouble.reason) == ("could not verify", "storage-refused")
    assert "canary" not in trouble.model_dump_json()


def test_a_store_that_never_answers_is_given_up(
    repository: Copy, relay: Relay, impatient: None
) -> None:
    once(repository)
    relay.misbehave(".", "hang")
    started = time.monotonic()
    verdict, trouble = repository.trouble(
        repository.access(repository={"endpoint_url": relay.endpoint_url})
    )
    assert time.monotonic() - started < 40
    assert (verdict, trouble.reason) == ("could not verify", "storage-unreachable")


def test_a_connection_that_is_cut_on_its_way_is_no_torn_part(
    repository: Copy, relay: Relay
) -> None:
    """The tool's requests alone are cut, as by a proxy's time limit: read by itself the part is
    whole.
    """
    agent = {"wal-g": "aws-sdk-go", "barman-cloud": "[Bb]oto3"}[repository.golden.stack.tool]
    relay.misbehave(rf"(?s)GET \S*{repository.part.name.split('.')[0]}.*{agent}", "cut")
    verdict, trouble = repository.trouble(
        repository.access(repository={"endpoint_url": relay.endpoint_url})
    )
    assert relay.matched.is_set()
    assert (verdict, trouble.reason) in (
        ("could not verify", "connection-cut"),
        ("could not verify", "storage-unreachable"),
    )
    if repository.golden.stack.tool == "wal-g":
        assert "read by itself" in trouble.found


@pytest.mark.parametrize("how", ["hang", "reset", "503"])
def test_a_store_that_fails_in_the_middle_of_the_fetch_is_not_the_backups_fault(
    repository: Copy, relay: Relay, how: str
) -> None:
    relay.misbehave(rf"GET \S*{repository.part.name.split('.')[0]}", how)
    access = repository.access(
        repository={"endpoint_url": relay.endpoint_url}, drill={"stall_seconds": 15.0}
    )
    started = time.monotonic()
    verdict, trouble = repository.trouble(access)
    assert time.monotonic() - started < 40
    assert relay.matched.is_set()
    assert verdict == "could not verify"
    assert trouble.reason == ("storage-stalled" if how == "hang" else "storage-unreachable")


@pytest.mark.parametrize("how", ["hang", "reset", "503"])
def test_a_store_that_fails_in_the_middle_of_the_replay_is_not_the_backups_fault(
    repository: Copy, relay: Relay, how: str
) -> None:
    if how == "hang":
        once(repository)
    relay.misbehave(rf"(GET|HEAD) \S*{repository.golden.marks[0].segment.name}", how)
    access = repository.access(
        repository={"endpoint_url": relay.endpoint_url}, drill={"stall_seconds": 15.0}
    )
    started = time.monotonic()
    verdict, trouble = repository.trouble(
        access, target=f"lsn:{format_lsn(repository.golden.marks[1].lsn)}"
    )
    assert time.monotonic() - started < 60
    assert relay.matched.is_set()
    assert verdict == "could not verify"
    assert trouble.reason == ("storage-stalled" if how == "hang" else "storage-unreachable")


# --- hosts that fail ---


@pytest.fixture
def small_disk(repository: Copy) -> Iterator[Path]:
    """A disk of 24 MB where the drill works."""
    repository.work.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "pgdrill", repository.work],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small disk here")
    yield repository.work
    subprocess.run(["umount", repository.work], check=True)


def test_a_disk_that_fills_up_ends_the_restore_in_seconds(
    repository: Copy, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgdrill.recovery.preflight.ROOM_FACTOR", -100)
    started = time.monotonic()
    verdict, trouble = repository.trouble(repository.access(drill={"keep_free_bytes": 1}))
    assert time.monotonic() - started < 60  # nobody waited for a limit, of minutes and hours
    assert (verdict, trouble.reason) == ("could not verify", "no-space")

"""Repositories that look whole: WAL whose damage recovery takes for its end, and right names over
wrong content.

Every one of these lets a server start that lacks or mixes data. The backup was good before
(``test_restore_faults`` proves that of an undamaged copy); what is drilled is a copy of it, broken
in one way.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgdrill.backup import take_backup
from pgdrill.drill import destroy_stage, new_drill_id, restore_stage
from pgdrill.errors import BackupFault
from pgdrill.host.process import Runner
from pgdrill.postgres.binaries import as_ordinary_user
from pgdrill.postgres.wal import format_lsn
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports.model import Trouble
from tests.integration.conftest import Copy, Golden, once
from tests.integration.recovery.test_restore_faults import plan, refused
from tests.integration.repository.wal_damage import END_OF_WAL, find_record, pack, unpacked

Members = list[tuple[tarfile.TarInfo, bytes]]
# What fetches WAL ahead looks at every page header and names the segment; what it cannot see,
# recovery takes for the end.
CUT_SHORT = ("target-not-reached", "wal-damaged")


def members(file: Path) -> Members:
    """What an archive of the base backup holds."""
    with tarfile.open(fileobj=io.BytesIO(unpacked(file))) as archive:
        return [
            (member, stream.read() if (stream := archive.extractfile(member)) else b"")
            for member in archive
        ]


def write_members(file: Path, content: Members) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, data in content:
            archive.addfile(member, io.BytesIO(data) if member.isreg() else None)
    pack(file, out.getvalue())


def archives(repository: Copy) -> list[Path]:
    return [file for file in sorted(repository.folder.rglob("*.tar.*")) if file.is_file()]


def failed(repository: Copy, /, **more: object) -> Trouble:
    verdict, trouble = repository.trouble(**more)  # type: ignore[arg-type]
    assert verdict == "failed"
    return trouble


def in_archive(repository: Copy, name: str) -> Path:
    """An object beside the archived segments."""
    return repository.segment(repository.golden.marks[0].segment).with_name(name)


# --- WAL ---


@pytest.mark.parametrize("defect", END_OF_WAL)
def test_wal_that_recovery_takes_for_its_end_does_not_reach_the_target(
    repository: Copy, tmp_path: Path, defect: str
) -> None:
    once(repository)
    mark = repository.golden.marks[0]
    file = repository.segment(mark.segment)
    wal = find_record(
        unpacked(file), mark.segment, repository.access().binaries, tmp_path, "XLOG/RESTORE_POINT"
    )
    damage, _ = END_OF_WAL[defect]
    damage(wal)
    pack(file, bytes(wal.content))
    trouble = failed(repository)
    assert trouble.reason in CUT_SHORT
    assert mark.segment.name in trouble.thing + trouble.found


def test_each_of_those_defects_is_the_one_it_is_called(repository: Copy, tmp_path: Path) -> None:
    """In the words of PostgreSQL's own reader: a defect that it does not see, or sees elsewhere,
    would prove nothing.
    """
    once(repository)
    mark, binaries = repository.golden.marks[0], repository.access().binaries
    content = unpacked(repository.segment(mark.segment))
    said = {}
    for name, (damage, words) in END_OF_WAL.items():
        wal = find_record(content, mark.segment, binaries, tmp_path, "XLOG/RESTORE_POINT")
        damage(wal)
        file = tmp_path / mark.segment.name
        file.write_bytes(wal.content)
        done = subprocess.run(
            [*as_ordinary_user(), binaries.path("pg_waldump"), str(file)],
            capture_output=True,
            text=True,
            check=False,
        )
        if words not in done.stderr:
            said[name] = done.stderr
    assert said == {}


def test_garbage_of_the_right_size_is_no_segment(repository: Copy) -> None:
    segment = repository.golden.marks[0].segment
    pack(repository.segment(segment), os.urandom(segment.size_bytes))
    trouble = failed(repository)
    assert trouble.reason in CUT_SHORT
    assert segment.name in trouble.thing + trouble.found


def test_a_segment_under_the_name_of_the_next_is_not_replayed(repository: Copy) -> None:
    this, following = (repository.golden.marks[n].segment for n in (0, 1))
    shutil.copyfile(repository.segment(this), repository.segment(following))
    trouble = failed(repository)
    assert trouble.reason in CUT_SHORT
    assert following.name in trouble.thing + trouble.found


def test_an_archive_of_garbage_lacks_every_segment(repository: Copy) -> None:
    for number, file in enumerate(
        sorted(repository.segment(repository.golden.backup.first_segment()).parent.glob("0*"))
    ):
        file.rename(file.with_name(f"garbage-{number}"))
    assert refused(repository, BackupFault).startswith("wal-gap")


def restored_rows(repository: Copy, target: str) -> int:
    """A restore that succeeds: the canary's rows."""
    access, drill_id = repository.access(), new_drill_id()
    try:
        report = restore_stage(access, drill_id, target=target)
        assert report.restore.status == "ok", report.restore.trouble
        with Workspace.of(access, drill_id).server(access).connect("agents") as connection:
            return int(connection.execute("SELECT count(*) FROM canary").fetchone()[0])
    finally:
        destroy_stage(access, drill_id)


def test_names_that_are_no_segments_do_not_stand_for_one_and_do_no_harm(repository: Copy) -> None:
    first, second = (repository.golden.marks[n].segment for n in (0, 1))
    file = repository.segment(second)
    content = file.read_bytes()
    for name in (
        f"{second.name}.partial",
        f"{second.name}.00000028.backup.lz4",
        f"{second.name[:-1]}.lz4",
        f"{second.name}0.lz4",
        f"{second.name.lower()}x.lz4",
        f"{second.name[:-1]}G.lz4",
        "evil name.lz4",
        "%s.history",
        "archive_status",
    ):
        in_archive(repository, name).write_bytes(content)
    mark = repository.golden.marks[2]
    assert restored_rows(repository, f"lsn:{format_lsn(mark.lsn)}") == mark.rows
    file.unlink()
    said = refused(repository, BackupFault)
    assert said.startswith("wal-gap")
    assert second.name in said
    assert first.name not in said


def test_a_second_object_for_a_segment_is_refused(repository: Copy) -> None:
    """In another compression: another timeline's clone, or a torn upload.

    Which of the two wal-g takes is chance.
    """
    this, other = (repository.golden.marks[n].segment for n in (0, 1))
    in_archive(repository, f"{this.name}.gz").write_bytes(
        gzip.compress(unpacked(repository.segment(other)), 1)
    )
    said = refused(repository, BackupFault)
    assert said.startswith("wal-duplicate")
    assert this.name in said
    assert ".gz" in said


def test_the_history_of_a_clone_does_not_lead_a_restore_astray(repository: Copy) -> None:
    """A clone that was promoted archived into production's repository: its timeline goes on from
    the first mark.
    """
    first, second, third = repository.golden.marks[:3]
    line = f'1\t{format_lsn(first.lsn)}\tat restore point "mark1"\n'
    file = (
        in_archive(repository, "00000002.history")
        if repository.golden.stack.tool == "wal-g"
        else (
            repository.folder / repository.golden.stack.cluster_name / "wals" / "00000002.history"
        )
    )
    if repository.golden.stack.tool == "wal-g":
        pack(file.with_name(f"{file.name}.lz4"), line.encode())
    else:
        file.write_bytes(line.encode())
    clone = repository.segment(second.segment)
    place = repository.folder / str(clone.relative_to(repository.folder)).replace(
        "00000001", "00000002", 2
    )
    place.parent.mkdir(exist_ok=True)
    shutil.copyfile(clone, place)
    assert restored_rows(repository, f"lsn:{format_lsn(third.lsn)}") == third.rows


@pytest.mark.parametrize(
    "content", [b"", b"1\t", b"\xff\xfe", b"# nothing"], ids=["empty", "cut", "no text", "comment"]
)
def test_a_history_that_is_none_is_named(repository: Copy, content: bytes, tmp_path: Path) -> None:
    segment = repository.segment(repository.golden.backup.first_segment())
    file = (
        segment.parent / "00000002.history.lz4"
        if repository.golden.stack.tool == "wal-g"
        else segment.parents[1] / "00000002.history"
    )
    pack(file, content) if repository.golden.stack.tool == "wal-g" else file.write_bytes(content)
    with pytest.raises(BackupFault) as caught:
        repository.access().wal_reader(Runner(), tmp_path).history(2)
    assert caught.value.problem.reason in ("history-broken", "history-missing")
    assert "00000002.history" in str(caught.value)


# --- the base backup ---


def test_a_backup_without_its_label_is_not_started(repository: Copy) -> None:
    """PostgreSQL would start from pg_control's checkpoint and silently lack what was written during
    the backup.
    """
    repository.record.unlink()  # it knows the sizes
    for file in archives(repository):
        content = members(file)
        kept = [
            (member, data) for member, data in content if Path(member.name).name != "backup_label"
        ]
        if len(kept) < len(content):
            write_members(file, kept)
    trouble = failed(repository)
    assert trouble.reason == "incomplete-restore"
    assert "backup_label" in trouble.thing


def test_a_label_of_another_start_is_found_out(repository: Copy) -> None:
    repository.record.unlink()
    start = format_lsn(repository.golden.backup.start_lsn).encode()
    for file in archives(repository):
        content = members(file)
        if any(Path(member.name).name == "backup_label" for member, _ in content):
            write_members(
                file,
                [
                    (
                        member,
                        data.replace(start, start[:-1] + b"9")
                        if Path(member.name).name == "backup_label"
                        else data,
                    )
                    for member, data in content
                ],
            )
    trouble = failed(repository)
    assert trouble.reason == "wrong-backup"
    assert start.decode() in trouble.expected


def test_a_restored_server_that_nobody_can_enter_is_the_backups_fault(repository: Copy) -> None:
    """Recovery needs no catalog; whoever connects does."""
    repository.record.unlink()
    for file in archives(repository):
        content = members(file)
        if any(member.name.endswith("base/5/1249") for member, _ in content):
            write_members(
                file,
                [
                    (
                        member,
                        bytes(byte ^ (place % 8192 == 4000) for place, byte in enumerate(data))
                        if member.name.endswith("base/5/1249")
                        else data,
                    )
                    for member, data in content
                ],
            )
    trouble = failed(repository)
    assert trouble.reason == "server-broken"
    assert "base/5/1249" in trouble.found


def test_the_bytes_of_one_part_under_the_name_of_another(repository: Copy) -> None:
    """wal-g unpacks it without a word, and exits with 0."""
    if repository.golden.stack.tool == "barman-cloud":
        pytest.skip("barman-cloud keeps a backup of this size in one archive")
    first, second = (next(repository.folder.rglob(f"part_00{n}.tar.*")) for n in (1, 2))
    shutil.copyfile(first, second)
    said = refused(repository, BackupFault)
    assert said.startswith("changed-part")
    assert second.name in said
    repository.record.unlink()  # nobody knows the sizes: the restored cluster itself has to tell
    report = repository.drill()
    assert report.verdict == "failed", report.reason
    if report.restore.trouble:
        assert report.restore.trouble.reason in (
            "incomplete-restore",
            "recovery-failed",
            "server-ended",
        )
    else:
        assert any(
            result.status == "fail" and result.value == "no file" for result in report.results
        )


def test_a_part_too_many_is_not_unpacked_over_the_others(repository: Copy) -> None:
    extra = repository.part.with_name(
        repository.part.name.replace("part_001", "part_009").replace("data.", "data_0001.")
    )
    shutil.copyfile(repository.part, extra)
    said = refused(repository, BackupFault)
    assert said.startswith("unexpected-part")
    assert extra.name in said
    repository.record.unlink()
    if repository.golden.stack.tool == "wal-g":  # whose own metadata lists the parts
        assert refused(repository, BackupFault).startswith("unexpected-part")


def test_files_that_are_no_part_of_the_backup_do_no_harm(repository: Copy) -> None:
    folder = (
        repository.part.parent.parent
        if repository.golden.stack.tool == "wal-g"
        else repository.part.parent
    )
    (folder / "annotations").mkdir()
    for name in ("README", "notes.txt", "annotations/keep"):
        (folder / name).write_text("somebody's")
    assert plan(repository)


@pytest.fixture(scope="module")
def two_backups(golden: Golden) -> Iterator[tuple[Path, str, str]]:
    """The repository with a second base backup, and the names of both."""
    older = golden.backup.name
    newer = take_backup(golden.stack.access).name
    yield golden.stack.s3.folder / golden.stack.s3.bucket / golden.stack.cluster_name, older, newer


@pytest.mark.parametrize("what", ["its metadata", "everything"])
def test_an_older_backup_under_the_name_of_the_newest(
    repository: Copy, two_backups: tuple[Path, str, str], what: str
) -> None:
    folder, older, newer = two_backups
    shutil.rmtree(repository.folder)
    shutil.copytree(folder, repository.folder, ignore=shutil.ignore_patterns("reports"))
    metadata = [
        file
        for file in repository.folder.rglob("*")
        if file.is_file()
        and older in str(file.relative_to(repository.folder))
        and "pgdrill" not in file.relative_to(repository.folder).parts
    ]
    for file in metadata:
        if what == "everything" or file.name == "backup.info" or "sentinel" in file.name:
            place = repository.folder / str(file.relative_to(repository.folder)).replace(
                older, newer
            )
            shutil.copyfile(file, place)
    said = refused(repository, BackupFault, target="name:mark4", backup=newer)
    assert said.startswith("wrong-backup")
    assert newer in said
    if what == "its metadata":
        (repository.folder / "pgdrill" / "backups" / f"{newer}.json").unlink()
        # what comes out of the parts contradicts it
        trouble = failed(repository, target="name:mark4", backup=newer)
        assert trouble.reason == "wrong-backup"

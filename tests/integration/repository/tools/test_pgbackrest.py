"""pgBackRest as the backup tool: with its repository in a folder, and in a store with TLS."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pgdrill.access import Access
from pgdrill.backup import take_backup
from pgdrill.drill import drill, new_drill_id
from pgdrill.host.process import Runner
from pgdrill.postgres.backup_label import BackupLabel
from pgdrill.postgres.wal import format_lsn
from pgdrill.reports.model import Report, Trouble
from pgdrill.retention import holds
from pgdrill.retention.collect import take_inventory
from pgdrill.retention.prune import look, prune
from pgdrill.retention.window import window_of
from pgdrill_demo.s3 import S3Server
from pgdrill_demo.stack import Stack
from tests.conftest import need
from tests.integration.conftest import CANARY, Mark, leave_marks, nothing_left
from tests.integration.pruning import LATER, access_of, permanent, whole

SEGMENTS = 24
pytestmark = pytest.mark.timeout(900)  # a drill of this many segments on a busy machine


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def tls_store(home: Path) -> S3Server:
    """A store with a certificate, whose authority is in ``root.crt`` beside it."""
    folder = home / "tls"
    folder.mkdir(parents=True)
    new = ("req", "-newkey", "rsa:2048", "-noenc", "-days", "2")
    openssl(folder, *new, "-x509", "-subj", "/CN=root", "-keyout", "root.key", "-out", "root.crt")
    by_root = ("-x509", "-CA", "root.crt", "-CAkey", "root.key", "-subj", "/CN=store")
    names = ("-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE")
    openssl(folder, *new, *by_root, *names, "-keyout", "store.key", "-out", "store.crt")
    return S3Server(home / "s3", certificate=folder / "store.crt")


@dataclass
class World:
    """A cluster with one base backup, and marks in many segments behind it."""

    stack: Stack
    marks: tuple[Mark, ...]

    @property
    def access(self) -> Access:
        return access_of(self.stack)

    @property
    def folder(self) -> Path:
        """The repository's objects as files."""
        if self.stack.url:
            return Path(self.stack.url.removeprefix("file://"))
        return self.stack.s3.folder / self.stack.s3.bucket / self.stack.cluster_name

    def drill(self, access: Access | None = None) -> Report:
        """A drill to the last mark but one."""
        access, drill_id = access or self.access, new_drill_id()
        target = f"lsn:{format_lsn(self.marks[-2].lsn)}"
        report = drill(access, target=target, drill_id=drill_id)
        nothing_left(access, drill_id)
        return report

    def failed(self) -> Trouble:
        """The trouble of a drill that the repository makes fail."""
        report = self.drill()
        assert report.verdict == "failed", report.reason
        assert report.restore.trouble is not None
        return report.restore.trouble


@pytest.fixture(scope="module", params=("folder", "store"))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    home = Path(tempfile.mkdtemp(prefix="pgdrill-"))
    stack = Stack(home, tool=need("pgbackrest"))
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "folder":
            stack.url = f"file://{home}/repository"
        else:
            stack.__dict__["s3"] = tls_store(home)
            patch.setenv("SSL_CERT_FILE", str(home / "tls" / "root.crt"))
            patch.setenv("RCLONE_DIR_CACHE_TIME", "1ms")  # files change behind its back
        try:
            stack.create(sample=False)
            stack.start()
            with stack.connect() as connection:
                connection.execute(CANARY)
                connection.execute("INSERT INTO canary SELECT generate_series(1, 1000)")
            take_backup(stack.access)
            yield World(stack, leave_marks(stack, SEGMENTS))
        finally:
            stack.remove()


@pytest.fixture
def broken(world: World) -> Iterator[Path]:
    """The repository's folder, put back as it was afterwards."""
    kept = world.stack.home / "kept"
    shutil.copytree(world.folder, kept, symlinks=True)
    try:
        yield world.folder
    finally:
        shutil.rmtree(world.folder)
        kept.rename(world.folder)


def bundle(folder: Path) -> Path:
    """The largest bundle of the backup."""
    return max(folder.glob("backup/agents/*F/bundle/*"), key=lambda file: file.stat().st_size)


def test_a_backup_is_listed_with_all_its_objects_and_its_label(world: World) -> None:
    repository = world.access.repository
    backups = repository.backups()
    (backup,), broken = backups, backups.broken
    assert not broken
    assert backup.major_version == 18
    assert backup.start_lsn < backup.finish_lsn <= world.marks[0].lsn
    parts = repository.parts(backup)
    assert any("/bundle/" in key for key in parts)
    assert repository.problems(backup, parts) == []
    label = BackupLabel.parse(str(repository.label(backup, parts, world.stack.home)))
    assert label is not None
    assert (label.start_lsn, label.timeline) == (backup.start_lsn, 1)
    archived = repository.wal()
    assert all(mark.segment.name in archived for mark in world.marks)
    assert repository.lists_wal(world.marks[0].segment.name)
    assert not repository.lists_wal("0000000100000FFF00000001")


def test_a_drill_replays_many_segments_and_archive_get_fetches_the_same(world: World) -> None:
    report = world.drill()
    assert report.restore.status == "ok", report.restore.trouble
    wal = report.timings.wal
    assert wal is not None
    assert wal.by_reader >= SEGMENTS - 3
    assert wal.compared >= 2, "the tool's own way was tried, too"


def test_a_drill_fetches_every_segment_by_archive_get_alone(world: World) -> None:
    if not world.stack.url:
        pytest.skip("no business of the store: seen with the folder")
    access = world.access
    alone = access.cluster.drill.model_copy(update={"wal_fetch": "tool"})
    report = world.drill(
        replace(access, cluster=access.cluster.model_copy(update={"drill": alone}))
    )
    assert report.restore.status == "ok", report.restore.trouble
    assert report.timings.wal_segments >= SEGMENTS - 3
    wal = report.timings.wal
    assert wal is None or wal.by_reader == 0


def test_a_damaged_bundle_is_named_as_damage_of_the_backup(world: World, broken: Path) -> None:
    file = bundle(broken)
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 5000] = bytes(5000)
    file.write_bytes(content)
    trouble = world.failed()
    assert trouble.reason == "corrupt-part"
    assert world.access.repository.backups()[0].name in trouble.thing


def test_a_bundle_that_is_gone_or_too_short_is_named_before_anything_is_fetched(
    world: World, broken: Path
) -> None:
    file = bundle(broken)
    file.write_bytes(file.read_bytes()[:1000])
    trouble = world.failed()
    assert trouble.reason in ("missing-part", "changed-part")
    assert trouble.thing.endswith(f"/bundle/{file.name}")
    file.unlink()
    trouble = world.failed()
    assert trouble.reason == "missing-part"
    assert trouble.thing.endswith(f"/bundle/{file.name}")


def test_a_segment_that_is_gone_is_named(world: World, broken: Path) -> None:
    segment = world.marks[5].segment.name
    next(broken.rglob(f"{segment}-*")).unlink()
    trouble = world.failed()
    assert trouble.reason == "wal-gap"
    assert segment in trouble.thing


def test_a_damaged_segment_is_named(world: World, broken: Path) -> None:
    file = next(broken.rglob(f"{world.marks[5].segment.name}-*"))
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    trouble = world.failed()
    assert trouble.reason == "wal-damaged"
    assert world.marks[5].segment.name in trouble.thing


def test_a_broken_backup_info_costs_nothing_while_its_copy_is_there(
    world: World, broken: Path
) -> None:
    (broken / "backup/agents/backup.info").write_text("[backup:current]\nno line\n")
    assert len(world.access.repository.backups()) == 1
    (broken / "backup/agents/backup.info.copy").unlink()
    trouble = world.failed()
    assert trouble.reason == "metadata-broken"
    assert "backup.info" in trouble.thing


def test_the_window_reaches_from_the_backup_to_the_newest_wal(world: World) -> None:
    access, now = world.access, datetime.now(UTC)
    inventory = take_inventory(access, Runner())
    assert [backup.damage for backup in inventory.backups] == [""]
    spans = window_of(access.cluster.name, inventory, access.cluster.retention, now).spans
    (backup,) = access.repository.backups()
    assert [span.start for span in spans] == [backup.finish_time]


def test_retention_takes_what_was_planned_and_nothing_else(world: World) -> None:
    """The last test here: the first backup is gone afterwards."""
    access = world.access
    for _ in range(2):
        take_backup(access)
        leave_marks(world.stack, 2)
    first, second, newest = (backup.name for backup in access.repository.backups())
    holds.add_hold(access, first, why="case 77/26", until=LATER + timedelta(days=1))
    before = access.objects.sizes()
    outlook = look(access, Runner(), now=LATER)
    assert outlook.refusals == ()
    assert outlook.plan.going("backup") == {second}
    assert access.objects.sizes() == before, "a dry run writes nothing"
    result = prune(access, Runner(), now=LATER, approved=outlook.plan.digest)
    assert (result.backups_deleted, result.locked, result.left) == (1, [], [])
    assert result.wal_segments_deleted == sum(run.count for run in outlook.plan.wal) > SEGMENTS
    assert [backup.name for backup in access.repository.backups()] == [first, newest]
    assert permanent(access) == [first]
    whole(access)
    holds.remove_hold(access, first)
    prune(access, Runner(), now=LATER)
    assert [backup.name for backup in access.repository.backups()] == [newest]
    whole(access)
    assert look(access, Runner(), now=LATER).plan.steps == ()

"""Damaged files are refused, also by whoever has only what lies in the bucket."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pgdrill.access import Access
from pgdrill.queues import record as records
from pgdrill.queues.access import QueueAccess
from pgdrill.queues.record import SnapshotRecord
from pgdrill.queues.report import SnapshotReport
from pgdrill.queues.take import take_snapshot
from pgdrill.queues.verify import verify
from tests.integration.queues.conftest import Server, World, programs

SIXTEENTHS = range(1, 16)
Damage = Callable[[bytes, int], bytes]


def truncated(content: bytes, part: int) -> bytes:
    return content[: len(content) * part // 16]


def flipped(content: bytes, part: int) -> bytes:
    place = len(content) * part // 16
    return content[:place] + bytes((content[place] ^ 0x10,)) + content[place + 1 :]


def file_of(access: QueueAccess, record: SnapshotRecord) -> Path:
    return Path(urlsplit(access.url).path, record.snapshot_id, record.file.name)


def fit(access: QueueAccess, record: SnapshotRecord, **more: object) -> None:
    """Rewrite the record for the file as it is, as whoever may write to the bucket would."""
    content = file_of(access, record).read_bytes()
    file = {
        **record.file.model_dump(),
        "bytes": len(content),
        "stored_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    data = {**json.loads(record.model_dump_json()), "file": file, **more}
    access.snapshots.write(records.key(record.snapshot_id), json.dumps(data).encode())


@pytest.fixture(scope="module")
def taken(world: World) -> Iterator[tuple[QueueAccess, SnapshotRecord, bytes]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUEUE_TEST_PASSWORD", "queue-password-nobody-sees")
        access = world.access()
        record = take_snapshot(access)
    yield access, record, file_of(access, record).read_bytes()


@pytest.mark.parametrize("damage", [truncated, flipped])
def test_a_file_that_was_damaged_in_the_store_is_refused_before_it_is_loaded(
    taken: tuple[QueueAccess, SnapshotRecord, bytes], damage: Damage
) -> None:
    access, record, content = taken
    for part in SIXTEENTHS:
        file_of(access, record).write_bytes(damage(content, part))
        report = verify(access)
        assert (report.verdict, report.reason) == ("failed", "restore: dump-damaged"), part
        assert report.load_seconds is None
    file_of(access, record).write_bytes(content)


@pytest.mark.parametrize("damage", [truncated, flipped])
def test_with_the_record_rewritten_to_fit_the_loading_refuses_it(
    taken: tuple[QueueAccess, SnapshotRecord, bytes], damage: Damage
) -> None:
    """On another host than the one that took it, which has no copy of the record."""
    access, record, content = taken
    own = records.local_file(access, record.snapshot_id)
    kept = own.read_bytes()
    own.unlink()
    try:
        for part in SIXTEENTHS:
            file_of(access, record).write_bytes(damage(content, part))
            fit(access, record)
            report = verify(access)
            assert report.verdict == "failed", (part, report.reason)
    finally:
        file_of(access, record).write_bytes(content)
        own.write_bytes(kept)
        access.snapshots.write(records.key(record.snapshot_id), kept)


def test_without_a_checksum_the_record_that_this_host_kept_refuses_it(
    world: World, tmp_path: Path
) -> None:
    folder = world.home / tmp_path.name
    folder.mkdir()
    server = Server(folder, {"rdbchecksum": "no"}).start()
    try:
        server.client().set("bull:q:id", "1")
        server.client().set("filler", "x" * 2000)
        access = world.access(host=str(server.socket))
        record = take_snapshot(access)
    finally:
        server.stop()
    assert not record.checksummed
    content = file_of(access, record).read_bytes()
    assert {one.name: one.status for one in verify(access).results}["queue-checksum"] == "warn"
    for part in SIXTEENTHS:
        file_of(access, record).write_bytes(flipped(content, part))
        fit(access, record)
        report = verify(access)
        assert (report.verdict, report.reason) == ("failed", "restore: record-changed"), part


def verdict_of(report: SnapshotReport) -> tuple[str, str]:
    return report.verdict, report.reason


def test_a_newer_format_than_the_loader_knows_is_not_verified_and_not_blamed(
    taken: tuple[QueueAccess, SnapshotRecord, bytes],
) -> None:
    access, record, content = taken
    own = records.local_file(access, record.snapshot_id)
    kept = own.read_bytes()
    own.unlink()
    try:
        file_of(access, record).write_bytes(b"REDIS0099" + content[9:])
        fit(access, record, rdb_magic="REDIS0099")
        assert verdict_of(verify(access)) == ("could not verify", "restore: newer-rdb")
        file_of(access, record).write_bytes(content)
        fit(access, record, server_major=9)
        assert verdict_of(verify(access)) == ("could not verify", "restore: other-major")
    finally:
        file_of(access, record).write_bytes(content)
        own.write_bytes(kept)
        access.snapshots.write(records.key(record.snapshot_id), kept)


def test_a_loader_that_starts_empty_because_of_appendonly_is_never_green(
    world: World, tmp_path: Path
) -> None:
    folder = world.home / tmp_path.name / "bin"
    folder.mkdir(parents=True)
    wrapper = folder / "redis-server"
    program = programs() / "redis-server"
    wrapper.write_text(f'#!/bin/sh\nexec {program} "$@" ${{2:+--appendonly yes}}\n')
    wrapper.chmod(0o755)
    (folder / "redis-cli").symlink_to(programs() / "redis-cli")
    access = world.access(bin_dir=str(folder))
    readable = {"fence_readable": (folder.parent, programs().parent)}
    drill = access.cluster.drill.model_copy(update=readable)
    owner = Access(access.cluster.model_copy(update={"drill": drill}))
    access = QueueAccess(access.queue, owner)
    take_snapshot(access)
    report = verify(access)
    assert report.verdict != "passed"
    assert report.reason == "restore: not-loaded", report.model_dump_json(indent=1)

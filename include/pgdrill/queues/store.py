"""A snapshot's file to and from the store, encrypted where the cluster's backups are."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pgdrill.errors import BackupFault
from pgdrill.host.process import Command, Runner
from pgdrill.logical.manifest import DumpFile
from pgdrill.logical.transfer import PIECE_BYTES, Moved, download, upload_file
from pgdrill.queues.access import QueueAccess
from pgdrill.queues.record import SnapshotRecord, StoredFile, key
from pgdrill.repository.failures import tool_failure

ENCRYPTED = ".enc"
Plain = Literal["dump.rdb", "dump.keys"]


def send(
    access: QueueAccess, snapshot_id: str, file: Path, runner: Runner, moved: Moved
) -> StoredFile:
    """Send a file; nothing of it is seen before it is whole."""
    if not access.encrypts:
        sent = upload_file(access.snapshots, key(snapshot_id, file.name), file, file.name, moved)
        return StoredFile(
            name=sent.name,
            bytes=sent.bytes,
            sha256=sent.sha256,
            stored_bytes=sent.bytes,
            encrypted=False,
        )
    name = f"{file.name}{ENCRYPTED}"
    place = key(snapshot_id, name)
    _by_tool(
        access, runner, ("put", str(file), place, "--no-compress"), f"sending {place} encrypted"
    )
    return StoredFile(
        name=name,
        bytes=file.stat().st_size,
        sha256=digest(file),
        stored_bytes=access.snapshots.sizes(f"{snapshot_id}/")[place],
        encrypted=True,
    )


def fetch(
    access: QueueAccess, record: SnapshotRecord, into: Path, runner: Runner, moved: Moved
) -> Path:
    """Fetch a snapshot's file into a folder, and compare it with what was sent.

    Raises BackupFault for one that is missing or is another.
    """
    stored = record.file
    place = key(record.snapshot_id, stored.name)
    file = into / stored.name.removesuffix(ENCRYPTED)
    if not stored.encrypted:
        sent = DumpFile(name=stored.name, bytes=stored.bytes, sha256=stored.sha256)
        download(access.snapshots, place, sent, file, moved)
        return file
    if place not in access.snapshots.sizes(f"{record.snapshot_id}/"):
        raise BackupFault(
            "missing-part",
            f"{access.url}/{place}",
            found="no such object",
            expected="the snapshot's file, as its record says",
            hint="choose another snapshot; find out what changes the bucket",
        )
    words = ("get", place, str(file), "--no-decompress")
    _by_tool(access, runner, words, f"fetching {place}")
    if (file.stat().st_size, digest(file)) != (stored.bytes, stored.sha256):
        raise BackupFault(
            "dump-damaged",
            f"{access.url}/{place}",
            found="other content",
            expected=f"{stored.bytes} bytes with the record's SHA-256",
            hint="choose another snapshot; find out what changes the bucket; take a new one",
        )
    return file


def _by_tool(access: QueueAccess, runner: Runner, words: tuple[str, ...], what: str) -> None:
    """Run the cluster's backup tool, which has the key."""
    home = access.state_directory / "home"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    program = access.tool.version().argv[0]
    environment = {**access.tool.environment(), "HOME": str(home)}
    command = Command((program, "st", *words), environment, access.tool.exit_codes)
    done = runner.run(command, timeout_seconds=access.queue.timeout_seconds, quiet=True)
    if done.code:
        raise tool_failure(what, done)


def digest(file: Path) -> str:
    """Return the SHA-256 of a file."""
    found = hashlib.sha256()
    with file.open("rb") as source:
        while piece := source.read(PIECE_BYTES):
            found.update(piece)
    return found.hexdigest()

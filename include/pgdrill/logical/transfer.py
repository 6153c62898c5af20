"""Large objects to and from the store in one pass.

Memory is bounded, digests are made on the way, and it is all or nothing.

An upload is one multipart upload. Its parts are sent again when they fail, and it is aborted when
anything else does: until it is completed nobody can see the object.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import obstore
from obstore.exceptions import NotFoundError

from pgdrill.errors import BackupFault, CouldNotVerify
from pgdrill.logical.manifest import DumpFile
from pgdrill.repository.object_store import Storage

PIECE_BYTES = 2**20
SMALLEST_PART_BYTES = 8 * 2**20
MOST_PARTS = 9_000  # S3 allows 10,000
PARTS_AT_ONCE = 4
Moved = Callable[[int], None]


class Abandoned(Exception):
    """The program that wrote ended badly: what came of it so far must not become an object."""


def part_bytes(expected_bytes: int) -> int:
    """Return the bytes of a part.

    An object of twice the expected size still fits into S3's number of parts.
    """
    return max(SMALLEST_PART_BYTES, -(-2 * expected_bytes // MOST_PARTS))


class Upload:
    """An upload of a program's stdout to an object.

    It is used as :meth:`pgdrill.host.process.Runner.run`'s ``on_stdout``.
    """

    def __init__(self, storage: Storage, key: str, *, expected_bytes: int, moved: Moved) -> None:
        self.storage, self.key, self.moved = storage, key, moved
        self.part_bytes = part_bytes(expected_bytes)
        self.bytes = 0
        self._digest = hashlib.sha256()

    def __call__(self, pipe: IO[bytes], exit_code: Callable[[], int]) -> None:
        """Send everything; the object comes to be only if the program ended well.

        Its exit code is its caller's to judge.
        """
        with self.storage.explained(self.key), contextlib.suppress(Abandoned):
            obstore.put(
                self.storage.patient.store,
                self.key,
                self._pieces(pipe, exit_code),
                chunk_size=self.part_bytes,
                max_concurrency=PARTS_AT_ONCE,
                use_multipart=True,
            )

    def _pieces(self, pipe: IO[bytes], exit_code: Callable[[], int]) -> Iterator[bytes]:
        while piece := pipe.read(PIECE_BYTES):
            self._digest.update(piece)
            self.bytes += len(piece)
            yield piece
            self.moved(self.bytes)
        if code := exit_code():
            raise Abandoned(f"exit code {code}")

    def file(self, name: str) -> DumpFile:
        """Return what was sent."""
        return DumpFile(name=name, bytes=self.bytes, sha256=self._digest.hexdigest())


def upload_file(storage: Storage, key: str, path: Path, name: str, moved: Moved) -> DumpFile:
    """Send a file."""
    upload = Upload(storage, key, expected_bytes=path.stat().st_size, moved=moved)
    with path.open("rb") as source:
        upload(source, lambda: 0)
    return upload.file(name)


def download(storage: Storage, key: str, file: DumpFile, into: Path, moved: Moved) -> None:
    """Fetch an object and compare it with what was sent.

    Another size or digest is a damaged dump.
    """
    digest, size = hashlib.sha256(), 0
    into.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    thing = f"{storage.url}/{key}"
    with storage.explained(key), into.open("wb") as sink:
        for data in _content(storage, key, file.bytes):
            digest.update(data)
            size += len(data)
            _put_down(sink, data)
            moved(size)
    found = (
        f"{size} bytes"
        if size != file.bytes
        else "other content"
        if digest.hexdigest() != file.sha256
        else ""
    )
    if found:
        raise BackupFault(
            "dump-damaged",
            thing,
            found=found,
            expected=f"{file.bytes} bytes with the manifest's SHA-256",
            hint="choose another dump; find out what changes the bucket; take a new dump",
        )


def _content(storage: Storage, key: str, size: int) -> Iterator[bytes]:
    try:
        for piece in obstore.get(storage.fetching(size).store, key).stream(
            min_chunk_size=PIECE_BYTES
        ):
            yield bytes(piece)
    except (NotFoundError, FileNotFoundError):
        raise BackupFault(
            "missing-part",
            f"{storage.url}/{key}",
            found="no such object",
            expected="a file of the dump, as its manifest says",
            hint="choose another dump; find out what changes the bucket",
        ) from None


def _put_down(sink: IO[bytes], data: bytes) -> None:
    """Write data. A full disk here is not the store's fault."""
    try:
        sink.write(data)
        sink.flush()
    except OSError as error:
        raise CouldNotVerify(
            "no-space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "disk",
            sink.name,
            found=f"{error.strerror}",
            expected="room for the dump",
            hint="make room, or set drill.work_directory to a larger disk",
        ) from None

"""Folders of this host: where drills work, and the protected server's files."""

from __future__ import annotations

import getpass
import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pgdrill import private
from pgdrill.beside import CLUSTER_BYTES, check_directory
from pgdrill.doctor.examination import examination
from pgdrill.doctor.model import Finding, green, red
from pgdrill.doctor.subject import Subject
from pgdrill.links import check_links
from pgdrill.preflight import ROOM_FACTOR
from pgdrill.room import check_room

PART = "folders"


@examination(
    "work-directory", PART, green="drill.work_directory is this user's own, and can be written",
    hint="make it for the user that runs the tasks", example="/var/lib/pgdrill: no such folder",
)  # fmt: skip
def work_directory(subject: Subject) -> Iterator[Finding]:
    """Tried with a folder that is made in it and taken away again."""
    folder = subject.access.cluster.drill.work_directory
    expected = f"a folder that {_me()} can write"
    make = f"`install -d -o {_me()} -m 0700 {folder}` as root, or choose another drill.work_directory"
    try:
        private.check_place(folder, above=0)
        Path(tempfile.mkdtemp(prefix=".doctor-", dir=folder)).rmdir()
    except FileNotFoundError:
        yield red(f"{folder}", "no such folder", expected, make)
    except OSError as error:
        yield red(f"{folder}", f"nothing can be written: {error.strerror}", expected, make)
    else:
        yield green(f"{folder}", f"of {_me()}, written to")


@examination(
    "room", PART, green="the work directory's file system has room for the cluster, and what is to stay free", needs=("work-directory", "login"),
    jobs=("drill", "dump"), hint="make room, or choose another drill.work_directory", example="/var/lib/pgdrill: 3.1 GB free, 40 GB needed",
)  # fmt: skip
def room(subject: Subject) -> Iterator[Finding]:
    """By the server's own word of its size."""
    drill = subject.access.cluster.drill
    row = subject.server.execute(CLUSTER_BYTES).fetchone()
    needed = int((row[0] if row else 0) * ROOM_FACTOR)
    check_room(drill.work_directory, needed, drill.keep_free_bytes)
    there = os.statvfs(drill.work_directory)
    yield green(f"{drill.work_directory}", f"{there.f_bavail * there.f_frsize / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed")


@examination(
    "data-directory", PART, green="server.data_directory is here, belongs to this user, and nothing of it lies behind a link", jobs=("backup",),
    hint="run base backups where the data directory is, as the user that owns it",
    example="/var/lib/postgresql/18/main: of postgres, this is root",
)  # fmt: skip
def data_directory(subject: Subject) -> Iterator[Finding]:
    """A base backup reads every file, and leaves its own in the work directory: as one user, the server's."""
    folder = subject.access.cluster.server.data_directory
    try:
        owner = folder.stat().st_uid if folder.exists() else None
    except OSError as error:
        yield red(f"{folder}", error.strerror or f"{error}", f"a folder that {_me()} can read", _as_owner(subject, None))
        return
    if owner is not None and owner != os.geteuid():
        yield red(f"{folder}", f"of {_name(owner)}, this is {_me()}", "the owner's own process: it reads every file", _as_owner(subject, owner))
        return
    check_links(check_directory(subject.access))
    yield green(f"{folder}", f"of {_me()}, readable")


def _as_owner(subject: Subject, owner: int | None) -> str:
    name = _name(owner) if owner is not None else "postgres"
    switch = "runuser -u" if os.geteuid() == 0 else "sudo -u"
    words = "--" if os.geteuid() == 0 else ""
    return f"run it as {name}: `{' '.join(filter(None, (switch, name, words)))} pgdrill doctor {subject.name}`; in Airflow, run the worker of that queue as {name}"


def _me() -> str:
    return _name(os.geteuid())


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return getpass.getuser() if uid == os.getuid() and os.environ.get("USER") else str(uid)

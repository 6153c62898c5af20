"""Examinations of this host's folders: where drills work, and the protected server's files."""

from __future__ import annotations

import os
from collections.abc import Iterator

from pgdrill.baseline.beside import (
    CLUSTER_BYTES,
    check_directory,
    check_files_readable,
    not_its_owner,
)
from pgdrill.doctor.examination import examination
from pgdrill.doctor.model import Finding, green, warn
from pgdrill.doctor.subject import Subject
from pgdrill.host import private
from pgdrill.host.links import check_links
from pgdrill.host.place import check_left, check_place, this_user
from pgdrill.recovery.preflight import ROOM_FACTOR
from pgdrill.recovery.room import check_room

PART = "folders"


@examination(
    "work-directory",
    PART,
    green="drill.work_directory can be written, and what this cluster has in it is this user's own",
    hint="make it for the user that runs the tasks",
    example=(
        "drill.work_directory /var/lib/pgdrill: no such folder, and postgres cannot make it"
        " (Permission denied)"
    ),
)
def work_directory(subject: Subject) -> Iterator[Finding]:
    """Try the work directory with a folder that is gone again.

    A work directory that is not there yet is made by the first job, where it may.
    """
    folder = subject.access.cluster.drill.work_directory
    there = check_place(folder)
    state = subject.access.cluster.state_directory
    check_left(state)
    check_place(state)
    # drills and dumps ask for folders of their own; root can do the rest in another's
    if {"drill", "dump"} & subject.jobs:
        private.check_place(state / "drills", above=1)
    private.check_way(folder)  # the folder may be a link
    private.short_place()
    yield green(
        f"{folder}",
        (
            f"of {this_user()}, written to"
            if there
            else f"not there yet: a job makes it as {this_user()}"
        ),
    )


@examination(
    "room",
    PART,
    green="the work directory's file system has room for the cluster, and what is to stay free",
    needs=("work-directory", "login"),
    jobs=("drill", "dump"),
    hint="make room, or choose another drill.work_directory",
    example="/var/lib/pgdrill: 3.1 GB free, 40 GB needed",
)
def room(subject: Subject) -> Iterator[Finding]:
    """Compare the free space with the size of the cluster, by the server's own word."""
    drill = subject.access.cluster.drill
    # the server walks through all of its files
    with subject.connected(seconds=subject.seconds) as connection:
        row = connection.execute(CLUSTER_BYTES).fetchone()
    needed = int((row[0] if row else 0) * ROOM_FACTOR)
    check_room(drill.work_directory, needed, drill.keep_free_bytes)
    there = os.statvfs(
        next(
            path for path in (drill.work_directory, *drill.work_directory.parents) if path.exists()
        )
    )
    yield green(
        f"{drill.work_directory}",
        f"{there.f_bavail * there.f_frsize / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed",
    )


@examination(
    "data-directory",
    PART,
    green="server.data_directory is here, belongs to this user, and each of its files can be read",
    jobs=("backup",),
    hint="run base backups where the data directory is, as the user that owns it",
    example=(
        "/var/lib/postgresql/18/main: …/server.key cannot be read by postgres: it is user 0's, mode"
        " 0600"
    ),
)
def data_directory(subject: Subject) -> Iterator[Finding]:
    """Look whether this user may read every file of the data directory.

    Whoever may can take a base backup, root among them; but the jobs' own user may be another.
    """
    folder = check_directory(subject.access)
    check_files_readable(subject.access, folder)
    owner = folder.stat().st_uid
    if owner == os.geteuid():
        yield green(f"{folder}", f"of {this_user()}, readable")
        return
    problem = not_its_owner(
        subject.access,
        f"of user {owner}, and readable for {this_user()}, as whom all of this was asked",
    ).problem
    hint = (
        "ask as the user that runs the jobs: from root"
        f" `{problem.hint.partition('`')[2].partition('`')[0].replace(' backup ', ' doctor ')}`"
    )
    yield warn(
        problem.thing,
        problem.found,
        "its owner to ask, and to run the jobs: what these leave belongs to who ran them",
        hint,
    )


@examination(
    "links",
    PART,
    green="nothing of the data directory lies behind a symbolic link, pg_wal and tablespaces aside",
    needs=("data-directory",),
    jobs=("backup",),
    hint="put the folder itself in the link's place",
    example="base/16384 in the data directory: a symbolic link: what it leads to is in no backup",
)
def links(subject: Subject) -> Iterator[Finding]:
    """Walk through every folder, as before each base backup, and look for links."""
    folder = check_directory(subject.access)
    check_links(folder)
    yield green(f"{folder}", "no link that a backup would leave out")

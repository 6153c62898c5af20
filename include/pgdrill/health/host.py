"""Is there room for the next backup and drill, and is nothing left of those before?"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pgdrill.health.answer import Answer, not_asked
from pgdrill.health.backup_facts import read_backups
from pgdrill.health.check import health_check
from pgdrill.health.subject import HealthSubject
from pgdrill.recovery.room import keep_free
from pgdrill.recovery.sweep import left_over
from pgdrill.reports.terminal import size

GROWS = 1.1  # a restored cluster with its WAL, as docs/how-to/install.md asks for


@health_check(
    "room",
    "promises",
    passing="the next drill fits into its work directory, and the next backup into the repository",
    hint="make room there, or name a larger place in dr.toml",
    example="/var/lib/pgdrill: 12 GB free, the next drill takes 44 GB and leaves 20 GB to others",
    needs=("repository",),
)
def room(subject: HealthSubject) -> Iterator[Answer]:
    """Compare the newest backup's size with what is free. What a bucket holds has no end."""
    cluster = subject.access.cluster
    counted = read_backups(subject).counted
    if not counted:
        yield not_asked("no base backup yet, whose size would tell", "no-backup")
        return
    newest = counted[-1]
    work = cluster.drill.work_directory
    usage = shutil.disk_usage(_existing(work))
    kept = keep_free(cluster.drill.keep_free_bytes, usage.total)
    needed = int(newest.uncompressed_bytes * GROWS)
    yield judge_room(f"{work}", "drill", usage.free, needed, kept)
    where = urlsplit(cluster.repository.url)
    if where.scheme == "file":
        free = shutil.disk_usage(_existing(Path(where.path))).free
        stored = newest.compressed_bytes or newest.uncompressed_bytes
        yield judge_room(where.path, "backup", free, int(stored * GROWS), 0)
    else:
        yield not_asked("a bucket has no end", "bucket", thing=cluster.repository.url)


def judge_room(thing: str, what: str, free: int, needed: int, kept: int) -> Answer:
    """Judge whether the next one fits beside what has to stay free."""
    wanted = needed + kept
    fits = free >= wanted
    stays = f" and leaves {size(kept)} to others" if kept else ""
    return Answer(
        "ok" if fits else "critical",
        f"{size(free)} free, the next {what} takes {size(needed)}{stays}",
        thing,
        f"{size(wanted)} free",
        float(free),
        float(wanted),
        "bytes",
        reason="" if fits else f"no-room-for-{what}",
    )


def _existing(path: Path) -> Path:
    return next(one for one in (path, *path.parents) if one.exists())


@health_check(
    "leftovers",
    "host",
    passing="no restored copy lies on this host that nobody has a right to any more",
    hint="`pgdrill sweep` ends its server and removes it",
    example="/var/lib/pgdrill/agents/drills/20261127T…: its time was over at 15:00:00 UTC",
)
def leftovers(subject: HealthSubject) -> Iterator[Answer]:
    """Look for restored copies whose time is over, and touch none."""
    cluster = subject.access.cluster
    found = left_over((*cluster.work_directories, cluster.drill.work_directory))
    for one in found:
        yield Answer("warning", one.why, f"{one.folder}", "none", reason="left-over")
    if not found:
        yield Answer("ok", "none", f"{cluster.drill.work_directory}", "none")

"""Small repositories to prune, and what is asked of them afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pgdrill.access import Access
from pgdrill.backup import take_backup
from pgdrill.host.process import Runner
from pgdrill.postgres.wal import Segment
from pgdrill.repository.archiver import wait_archived
from pgdrill.repository.leases import board_of, exclusive
from pgdrill.retention.keeping import Keeping
from pgdrill.retention.prune import Outlook, look, prune
from pgdrill_demo.stack import Stack

# Long after every backup of these tests: the newest is the window's anchor, and the older ones are
# free to go.
LATER = datetime.now(UTC) + timedelta(days=100)
EASY = {"weekly": 1, "dumps_monthly": 0, "require_drill": False, "max_share": 1.0}


@contextlib.contextmanager
def small_stack(tool: str, backups: int, delta_steps: int = 0) -> Iterator[Stack]:
    """A stack with some base backups, and segments before, between and after them; gone
    afterwards."""
    stack = Stack(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool=tool)
    try:
        stack.create(sample=False)
        stack.start()
        _fill(stack, backups, delta_steps)
        yield stack
    finally:
        stack.remove()


def _fill(stack: Stack, backups: int, delta_steps: int) -> None:
    access = access_of(stack, backup={"delta_steps": delta_steps})
    with stack.connect() as connection:
        connection.execute("CREATE TABLE t (n int)")
        for number in range(backups + 1):
            for _ in range(2):
                connection.execute("INSERT INTO t SELECT generate_series(1, 100)")
                line, lsn = connection.execute(
                    "SELECT pg_walfile_name(pg_current_wal_lsn()), pg_switch_wal()"
                ).fetchone()
                assert lsn
            if number < backups:
                take_backup(access)
        wait_archived(connection, access.repository, Segment.parse(line), 60)


def access_of(stack: Stack, folder: Path | None = None, **sections: dict[str, object]) -> Access:
    cluster = stack.cluster
    where = {"url": f"file://{folder}", "endpoint_url": ""} if folder else {}
    own = {
        "drill": {"work_directory": stack.home / "work" / (folder.name if folder else "s3")},
        "retention": EASY,
    }
    wanted = {"repository": where, **own, **sections}
    changed = {
        name: getattr(cluster, name).model_copy(update=values) for name, values in wanted.items()
    }
    return Access(cluster.model_copy(update=changed), stack.credentials)


def wal_g(folder: Path, *words: str) -> str:
    environment = {
        "WALG_FILE_PREFIX": str(folder),
        "WALG_COMPRESSION_METHOD": "lz4",
        "HOME": str(folder.parent),
        "TMPDIR": str(folder.parent),
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run(
        ["wal-g", *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def names(access: Access) -> list[str]:
    return [entry.name for entry in access.repository.catalog()]


def permanent(access: Access) -> list[str]:
    return [entry.name for entry in access.repository.catalog() if entry.permanent]


@contextlib.contextmanager
def asked_before(access: Access, outlook: Outlook) -> Iterator[Keeping]:
    """As a run has it that carries this plan out."""
    with exclusive(board_of(access), "prune", "test", life_seconds=60, wait_seconds=0) as lease:
        yield Keeping(access, lease, outlook.inventory, outlook.plan, outlook.now)


def whole(access: Access) -> None:
    """Every backup that is listed is as it was recorded, with the WAL it needs."""
    found = look(access, Runner(), now=LATER).inventory
    assert [backup.damage for backup in found.backups] == [""] * len(found.backups)


def pruned_and_killed(access: Access, at_step: int) -> None:
    """For a process of its own, which is gone when that step comes."""

    def progress(_kind: str, at: int, _total: int) -> None:
        if at == at_step:
            os._exit(9)

    prune(access, Runner(), now=LATER, progress=progress)


def pruned_and_stopped(access: Access, kind: str) -> None:
    """For a process of its own, which stops itself right before its first step of that kind, and
    may be let go on.
    """
    kinds = iter([kind])

    def progress(found: str, _at: int, _total: int) -> None:
        if found == kind and next(kinds, None):
            os.kill(os.getpid(), signal.SIGSTOP)

    prune(access, Runner(), now=LATER, progress=progress)

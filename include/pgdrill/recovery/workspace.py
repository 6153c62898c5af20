"""A drill's folder: everything a restored cluster consists of.

To destroy the cluster is to remove the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pgdrill.access import Access
from pgdrill.errors import ConfigError, CouldNotVerify
from pgdrill.host import private
from pgdrill.host.fence.choose import Fence, choose, environment
from pgdrill.host.fence.watch import Bounds, Watch
from pgdrill.host.kept_server import KEEPER_MARK
from pgdrill.host.owner import FolderLease, Owner
from pgdrill.host.priority import low_priority_words
from pgdrill.host.process import POLL_SECONDS, end_homed, end_marked, marked
from pgdrill.host.removal import put_away
from pgdrill.postgres.entry import Entry
from pgdrill.postgres.server import LocalServer
from pgdrill.reports.drill_id import DRILL_ID

REMOVE_SECONDS = 10.0
QUIT_SECONDS = 5.0
UNCLAIMED_SECONDS = 4 * 3600.0  # of a folder that somebody made outside of a drill


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folders of one drill."""

    directory: Path

    @classmethod
    def of(cls, access: Access, drill_id: str) -> Workspace:
        """Return the workspace of the drill of that id.

        The name becomes a path that is removed: nothing but plain words.
        """
        if not DRILL_ID.fullmatch(drill_id):
            raise ConfigError(
                "bad-drill-id",
                f"drill id {drill_id!r}",
                found="other characters than letters, digits, - and _",
                expected="the id of a drill",
                hint="take it from `pgdrill report --list`",
            )
        return cls(access.cluster.state_directory / "drills" / drill_id)

    @property
    def cluster(self) -> Path:
        """The folder of all that the restored server itself may write.

        What lies in it is not to be trusted: its code may be anybody's.
        """
        return self.directory / "cluster"

    @property
    def configuration(self) -> Path:
        """The restored server's configuration files, which it can read and not change."""
        return self.directory / "conf"

    @property
    def data_directory(self) -> Path:
        """PGDATA of the restored cluster."""
        return self.cluster / "data"

    @property
    def tablespaces(self) -> Path:
        """The folder with a folder for each tablespace, by oid.

        The tablespaces in the restored cluster's data directory have none there.
        """
        return self.cluster / "tablespaces"

    @property
    def home(self) -> Path:
        """HOME of the tool, with its caches and prefetched WAL."""
        return self.directory / "home"

    @property
    def log_file(self) -> Path:
        """The restored server's log."""
        return self.directory / "server.log"

    @property
    def lease_file(self) -> Path:
        """The file that says until when all this may be there, and whose it is.

        It is a :class:`pgdrill.host.owner.FolderLease`.
        """
        return self.directory / "lease.json"

    @property
    def entry_file(self) -> Path:
        """The file that says how to get into its server (:class:`pgdrill.postgres.entry.Entry`)."""
        return self.directory / "entry.json"

    @property
    def server_pid_file(self) -> Path:
        """The file that names the process of the restored server, by its keeper."""
        return self.directory / "server.pid"

    @property
    def tool_pid_file(self) -> Path:
        """The file that names the process that fetches, for whoever has to end it."""
        return self.directory / "tool.pid"

    @property
    def spool(self) -> Path:
        """The folder of WAL fetched ahead, beside the data directory: delivering it is a rename."""
        return self.cluster / "spool"

    @property
    def incoming(self) -> Path:
        """The folder of WAL on its way into the spool.

        It is on the same file system, and the restored server does not see it.
        """
        return self.directory / "incoming"

    @property
    def wal_pid_file(self) -> Path:
        """The file that names the process that fetches WAL ahead."""
        return self.directory / "walfetch.pid"

    @property
    def new_root(self) -> Path:
        """An empty folder, where the restored server's own file system is put together."""
        return self.directory / "root"

    @property
    def socket_directory(self) -> Path:
        """The folder of the server's socket, private to the owner, with a short name by chance.

        A link here remembers it; the link's own path if there is none.
        """
        return private.remembered(self._socket, self._owners) or self._socket

    @property
    def _socket(self) -> Path:
        return self.directory / "socket"

    @property
    def _owners(self) -> tuple[int, ...]:
        """The user that the restored server runs as, to whom its folders were given."""
        return (self.cluster.stat().st_uid,) if self.cluster.is_dir() else ()

    @property
    def lease(self) -> FolderLease | None:
        """The lease in :attr:`lease_file`, or None where there is none."""
        return FolderLease.read(str(self.lease_file))

    @property
    def expires_at(self) -> datetime:
        """The time when what is in it ends at the latest."""
        lease = self.lease
        return datetime.fromtimestamp(lease.expires_at if lease else time.time(), UTC)

    def claim(
        self, why: str, expires_at: float, *, owner: Owner | None = None, make: bool = True
    ) -> None:
        """Say until when the folder may be there, and whose it is, before anything else is in it.

        With ``make`` it is made; without, one that is gone stays gone.
        """
        lease = FolderLease(self.directory.name, owner, expires_at, why)
        while make or self.directory.exists():
            if make:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            # a sweep may have been there just now
            with contextlib.suppress(FileNotFoundError), locked(self.directory):
                lease.write(str(self.lease_file))
                return

    def create(self) -> None:
        """Make the folders, closed to others.

        They are this process's own, unless they are claimed already.
        """
        private.check_place(self.directory, above=2)  # the drills' and the cluster's folders
        if not self.lease_file.exists():
            self.claim("work", time.time() + UNCLAIMED_SECONDS, owner=Owner.of(os.getpid()))
        for folder in (self.directory, self.home, self.configuration, self.cluster, self.new_root):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        private.short_folder(self._socket, self._owners)
        self.data_directory.mkdir(mode=0o700, exist_ok=True)

    def fence(self, access: Access) -> Fence:
        """Choose and try the fence for its server.

        The folders of the cluster then belong to the server's user.
        """
        drill = access.cluster.drill
        return choose(
            drill.fence,
            programs=access.binaries.folder,
            writable=(self.cluster, self.socket_directory),
            readable=(self.configuration, *drill.fence_readable),
            root=self.new_root,
        )

    def server(self, access: Access, **more: object) -> LocalServer:
        """Return the restored server (started or not).

        It gets nothing of this process's environment: no key is in there.
        """
        entry = Entry.read(self.entry_file) or Entry(access.cluster.server.superuser, "postgres")
        return LocalServer(
            access.binaries,
            self.data_directory,
            self.socket_directory,
            self.log_file,
            superuser=entry.superuser,
            database=entry.database,
            environment=environment(access.binaries.folder),
            bare=True,
            before=low_priority_words(access.cluster.drill.priority),
            lease_file=self.lease_file,
            pid_file=self.server_pid_file,
            **more,  # type: ignore[arg-type]
        )

    def watch(self, access: Access, helpers: str = "") -> Watch:
        """Return a watch over its server."""
        programs = (str(Path(access.binaries.path("postgres")).resolve()),)
        own = (self.cluster, self.socket_directory, self.log_file)
        # they may lie behind a link
        folders = dict.fromkeys(path for one in own for path in (str(one), str(one.resolve())))
        return Watch(
            lambda: marked(self.server_pid_file), Bounds(programs, tuple(folders), helpers)
        )

    def end(self) -> bool:
        """End what runs in it; return whether a tool's orphan was there.

        Such a process may have made folders meanwhile.
        """
        for pid_file in (self.tool_pid_file, self.wal_pid_file):
            end_marked(pid_file)
        for pid_file in (self.directory / KEEPER_MARK, self.server_pid_file):
            # No time for it to write and archive what nobody will read.
            end_marked(pid_file, first=signal.SIGQUIT, seconds=QUIT_SECONDS)
        # wal-g fetches ahead in processes that outlive the restore_command, and make their folders
        # anew.
        orphans = end_homed(self.home)
        private.forget(self._socket, self._owners)
        return orphans

    def destroy(self) -> None:
        """End what runs in it, and remove it; done already is fine.

        Works while a killed restore is still writing.
        """
        deadline = time.monotonic() + REMOVE_SECONDS
        while True:
            orphans = self.end()
            try:
                put_away(self.directory)
                if not orphans and not self.directory.exists():
                    return
                found = "somebody makes it anew"
            except OSError as error:
                found = str(error)
            if time.monotonic() > deadline:
                raise CouldNotVerify(
                    "not-destroyed",
                    f"{self.directory}",
                    found=found,
                    expected="the restored cluster gone",
                    hint="see who writes there (`fuser -v`), end it, then `pgdrill sweep`",
                )
            time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Keep two that would claim or remove a drill's folder apart.

    Raises FileNotFoundError where it has just been removed, and BlockingIOError rather than wait.
    """
    file = folder / "lock"
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        if os.fstat(descriptor).st_ino != file.stat().st_ino:
            raise FileNotFoundError(file)
        yield
    finally:
        os.close(descriptor)

"""A drill's folder: everything a restored cluster consists of, so that destroying it is removing it."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from pgdrill import private
from pgdrill.access import Access
from pgdrill.errors import ConfigError, CouldNotVerify
from pgdrill.postgres.server import LocalServer
from pgdrill.process import end_homed, end_marked

DRILL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,54}")
REMOVE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folders of one drill."""

    directory: Path

    @classmethod
    def of(cls, access: Access, drill_id: str) -> Workspace:
        """Where the drill of that id works. The name becomes a path that is removed: nothing but plain words."""
        if not DRILL_ID.fullmatch(drill_id):
            raise ConfigError(
                "bad-drill-id", f"drill id {drill_id!r}", found="other characters than letters, digits, - and _",
                expected="the id of a drill", mend="take it from `pgdrill report --list`",
            )  # fmt: skip
        return cls(access.cluster.state_directory / "drills" / drill_id)

    @property
    def cluster(self) -> Path:
        """All that the restored server itself may write. What lies in it is not to be trusted: its code may be anybody's."""
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
        """A folder for each tablespace of the restored cluster but those in its data directory, by oid."""
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
    def tool_pid_file(self) -> Path:
        """The process that fetches, for whoever has to end it."""
        return self.directory / "tool.pid"

    @property
    def spool(self) -> Path:
        """WAL fetched ahead: beside the data directory, so that delivering it is a rename."""
        return self.cluster / "spool"

    @property
    def wal_pid_file(self) -> Path:
        """The process that fetches WAL ahead."""
        return self.directory / "walfetch.pid"

    @property
    def socket_directory(self) -> Path:
        """Private to the owner, with a short name by chance, which a link here remembers; the link's own path if there is none."""
        return private.remembered(self._socket, self._owners) or self._socket

    @property
    def _socket(self) -> Path:
        return self.directory / "socket"

    @property
    def _owners(self) -> tuple[int, ...]:
        """The user that the restored server runs as, to whom its folders were given."""
        return (self.cluster.stat().st_uid,) if self.cluster.is_dir() else ()

    def create(self) -> None:
        """Make the folders, closed to others."""
        private.check_place(self.directory, above=2)  # the drills' and the cluster's folders
        for folder in (self.directory, self.home, self.configuration, self.cluster):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        private.short_folder(self._socket, self._owners)
        self.data_directory.mkdir(mode=0o700, exist_ok=True)

    def server(self, access: Access, **more: object) -> LocalServer:
        """The restored server (started or not)."""
        return LocalServer(
            access.binaries, self.data_directory, self.socket_directory, self.log_file,
            superuser=access.cluster.server.superuser, **more,  # type: ignore[arg-type]
        )  # fmt: skip

    def destroy(self, access: Access) -> None:
        """End what runs in it, remove it; done already is fine. Works while a killed restore is still writing."""
        deadline = time.monotonic() + REMOVE_SECONDS
        while True:
            for pid_file in (self.tool_pid_file, self.wal_pid_file):
                end_marked(pid_file)
            self.server(access).stop(to_be_removed=True)
            # wal-g fetches ahead in processes that outlive the restore_command, and make their folders anew.
            orphans = end_homed(self.home)
            private.forget(self._socket, self._owners)
            shutil.rmtree(self.directory, ignore_errors=True)
            if not orphans and not self.directory.exists():
                return
            if time.monotonic() > deadline:
                raise CouldNotVerify(
                    "not-destroyed", f"{self.directory}", found="files that cannot be removed",
                    expected="the restored cluster gone", mend="see who writes there (`fuser -v`), end it, remove the folder",
                )  # fmt: skip

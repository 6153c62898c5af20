"""The service: it looks, beats and tells until it is told to stop, whatever becomes of dr.toml."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgdrill.health.watch_beat import KEY
from pgdrill.postgres.server import LocalServer
from tests.integration.alerts.servers import Listening, listening
from tests.integration.worlds import empty_server

PATIENCE_SECONDS = 240.0  # a busy machine takes a minute to start it
HEARTBEATS = "CREATE TABLE pgdrill_heartbeat (at timestamptz NOT NULL DEFAULT clock_timestamp())"
WRONG = """
[clusters.broken.server]
data_directory = "/pgdata"
[clusters.broken.repository]
url = "ftp://host/place"
"""

pytestmark = pytest.mark.timeout(900)


def until(what: Callable[[], Any]) -> Any:
    """Wait until something holds."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while not (found := what()):
        assert time.monotonic() < ends, what
        time.sleep(0.1)
    return found


@dataclass
class Place:
    """A server, a hook and the configuration of a service beside them."""

    folder: Path
    server: LocalServer
    hook: Listening
    process: subprocess.Popen[str] | None = None
    told: list[str] = field(default_factory=list)

    def cluster(self, name: str = "agents", host: Path | None = None) -> str:
        return f"""
[clusters.{name}.server]
dsn = "host={host or self.server.socket_directory} port=5432 user=postgres dbname=postgres"
data_directory = "{self.server.data_directory}"
[clusters.{name}.repository]
url = "file://{self.folder}/store-{name}"
[clusters.{name}.drill]
work_directory = "{self.folder}/work"
heartbeat = "public.pgdrill_heartbeat.at"
heartbeat_seconds = 1
"""

    def write(self, *parts: str) -> None:
        alerts = f"""
[watch]
look_seconds = 5
listen = ""
[[alerts.channels]]
name = "hook"
type = "webhook"
url = "{self.hook.url}"
secret_variable = "ALERT_SECRET"
timeout_seconds = 5
"""
        new = self.folder / "new.toml"
        new.write_text("".join(parts) + alerts)
        new.rename(self.file)

    @property
    def file(self) -> Path:
        return self.folder / "dr.toml"

    def messages(self, cause: str, cluster: str = "agents") -> list[str]:
        found = [json.loads(one.content) for one in self.hook.requests]
        ours = [one for one in found if (one["cluster"], one["cause"]) == (cluster, cause)]
        return [one["kind"] for one in ours]

    @contextmanager
    def service(self, **environment: str) -> Iterator[subprocess.Popen[str]]:
        words = [sys.executable, "-m", "pgdrill", "--config", str(self.file), "watch"]
        log = (self.folder / "log").open("a")
        process = subprocess.Popen(
            words,
            env={**os.environ, "ALERT_SECRET": "sekret", **environment},
            stderr=log,
            text=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            log.close()

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with empty_server() as server, listening() as hook:
        with server.connect() as connection:
            connection.execute(HEARTBEATS)
        made = Place(tmp_path, server, hook)
        made.write(made.cluster())
        yield made


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """What systemd listens at."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(PATIENCE_SECONDS)
        yield listener


def words(manager: socket.socket, wanted: str) -> str:
    """Receive until somebody says that."""
    while True:
        said = manager.recv(4096).decode()
        if wanted in said:
            return said


def beats(server: LocalServer) -> int:
    with server.connect() as connection:
        row = connection.execute("SELECT count(*) FROM pgdrill_heartbeat").fetchone()
        assert row is not None
        return int(row[0])


def test_it_tells_systemd_beats_looks_tells_and_ends_at_once(
    place: Place, manager: socket.socket, tmp_path: Path
) -> None:
    told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "6000000"}
    with place.service(**told) as process:
        assert "STATUS=watching agents" in words(manager, "READY=1")
        words(manager, "WATCHDOG=1")
        until(lambda: beats(place.server) > 2)
        until((tmp_path / "store-agents/pgdrill" / KEY).exists)
        until(lambda: place.messages("drill-age"))
        place.server.stop()
        until(lambda: place.messages("server") == ["start"])
        place.server.start()
        until(lambda: place.messages("server") == ["start", "end"])
        written = beats(place.server)
        until(lambda: beats(place.server) > written)  # they go on after the restart
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        words(manager, "STOPPING=1")
        assert process.wait(PATIENCE_SECONDS) == 0
        assert time.monotonic() - began < 30  # an interpreter's end on a busy machine, too
    assert place.messages("drill-age") == ["start"]
    # it is told once over restarts, too
    with place.service(**told) as process:
        words(manager, "READY=1")
        until(lambda: place.log.count("watching agents") == 2)
        until(lambda: beats(place.server) > written + 3)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 0
    assert place.messages("drill-age") == ["start"]
    assert place.messages("server") == ["start", "end"]


def test_a_cluster_that_becomes_wrong_goes_on_as_it_was_and_a_new_one_is_watched(
    place: Place,
) -> None:
    with place.service() as process:
        until(lambda: "watching agents" in place.log)
        gone = place.folder / "nobody"
        place.write(place.cluster(), place.cluster("other", gone), WRONG)
        process.send_signal(signal.SIGHUP)
        until(lambda: place.messages("server", "other") == ["start"])
        until(lambda: place.messages("configuration") == ["start"])
        bad = json.loads(
            next(one.content for one in place.hook.requests if b'"configuration"' in one.content)
        )
        assert "cluster broken, which nobody watches" in json.dumps(bad)
        assert place.messages("server") == []

        # changed without a signal; agents is wrong now, and its watch goes on
        place.write(place.cluster().replace("file://", "ftp://"), place.cluster("other"))
        until(lambda: place.messages("server", "other") == ["start", "end"])
        place.server.stop()
        until(lambda: place.messages("server") == ["start"])
        place.server.start()
        until(lambda: place.messages("server") == ["start", "end"])

        place.file.write_text("no toml [")
        until(lambda: "what it said before still holds" in place.log)
        place.write(place.cluster())
        until(lambda: place.messages("configuration") == ["start", "end"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0


def test_what_cannot_be_used_from_the_beginning_ends_with_words(place: Place) -> None:
    place.file.write_text(WRONG)
    with place.service() as process:
        assert process.wait(PATIENCE_SECONDS) == 2
    assert "repository.url" in place.log


def test_a_server_that_hangs_keeps_it_from_nothing(place: Place) -> None:
    """Neither from other clusters nor from its end."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        dsn = f"host=127.0.0.1 port={deaf.getsockname()[1]}"
        hanging = place.cluster("hanging").replace(
            f"host={place.server.socket_directory} port=5432", dsn
        )
        place.write(place.cluster(), hanging)
        with place.service() as process:
            before = beats(place.server)
            until(lambda: beats(place.server) > before + 2)
            until(lambda: place.messages("drill-age"))
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_SECONDS) == 0
            assert time.monotonic() - began < 30


def test_a_table_for_heartbeats_that_is_made_later_is_written_to(place: Place) -> None:
    with place.server.connect() as connection:
        connection.execute("DROP TABLE pgdrill_heartbeat")
    with place.service():
        until(lambda: "no heartbeat" in place.log)
        with place.server.connect() as connection:
            connection.execute(HEARTBEATS)
        until(lambda: _beats_or_none(place.server))


def _beats_or_none(server: LocalServer) -> int:
    try:
        return beats(server)
    except psycopg.Error:
        return 0

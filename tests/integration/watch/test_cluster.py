"""A look becomes messages: once, whoever looks, over restarts, from two hosts at the same time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgdrill.access import Access
from pgdrill.config import load
from pgdrill.postgres.server import LocalServer
from pgdrill.watch import once
from tests.integration.alerts.servers import Listening, listening
from tests.integration.worlds import empty_server

# Looks all the time, until its standard input ends.
LOOKING = """
import select, sys
from pathlib import Path
from pgdrill.access import Access
from pgdrill.config import load
from pgdrill.watch import ClusterWatch
settings = load(Path(sys.argv[1]))
with ClusterWatch(Access(settings.cluster("agents")), settings) as watch:
    while not select.select([sys.stdin], [], [], 0.1)[0]:
        report = watch.look(("each look",)).report
        status = next(one.status for one in report.findings if one.check == "server")
        print(status, flush=True)
"""


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with empty_server() as found:
        found.stop()
        yield found


@pytest.fixture
def hook() -> Iterator[Listening]:
    with listening() as found:
        yield found


def written(folder: Path, server: LocalServer, hook: Listening, host: str) -> Path:
    """The configuration of a host: its own work directory, the same stores."""
    file = folder / f"{host}.toml"
    file.write_text(f"""
[clusters.agents.server]
dsn = "host={server.socket_directory} port=5432 user=postgres dbname=postgres"
data_directory = "{server.data_directory}"
[clusters.agents.repository]
url = "file://{folder}/store"
[clusters.agents.drill]
work_directory = "{folder}/{host}"
[[alerts.channels]]
name = "hook"
type = "webhook"
url = "{hook.url}"
secret_variable = "ALERT_SECRET"
timeout_seconds = 5
""")
    return file


def told(hook: Listening, cause: str) -> list[str]:
    found = [json.loads(one.content) for one in hook.requests]
    return [one["kind"] for one in found if one["cause"] == cause]


def test_one_look_tells_what_is_wrong_and_what_it_hides_and_the_next_does_not_again(
    tmp_path: Path, server: LocalServer, hook: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALERT_SECRET", "sekret")
    settings = load(written(tmp_path, server, hook, "db1"))
    access = Access(settings.cluster("agents"))
    first = once(access, settings)
    assert [one.cause for one in first.messages].count("server") == 1
    gone = next(json.loads(one.content) for one in hook.requests if b'"server"' in one.content)
    assert "archiver" in gone["hides"]
    assert told(hook, "server") == ["start"]
    assert told(hook, "archiver") + told(hook, "archiver.unknown") == []
    again = once(access, settings)
    assert (again.messages, again.nobody) == ((), "")
    server.start()
    for _ in range(2):
        once(access, settings)
    assert told(hook, "server") == ["start", "end"]


def test_two_hosts_that_look_at_one_cluster_at_the_same_time_tell_once(
    tmp_path: Path, server: LocalServer, hook: Listening
) -> None:
    environment = {**os.environ, "ALERT_SECRET": "sekret"}
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", LOOKING, written(tmp_path, server, hook, host)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for host in ("db1", "db2")
    ]
    try:
        seen = [[_next(one) for _ in range(3)] for one in hosts]
        assert seen == [["critical"] * 3] * 2
        server.start()
        for one in hosts:
            while _next(one) != "ok":
                pass
            assert [_next(one) for _ in range(3)] == ["ok"] * 3
    finally:
        for one in hosts:
            one.communicate("stop\n", timeout=60)
    assert [one.returncode for one in hosts] == [0, 0]
    assert told(hook, "server") == ["start", "end"]


def _next(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()

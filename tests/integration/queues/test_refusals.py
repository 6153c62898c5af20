"""What cannot be copied is refused in words, and nothing of it is left half-stored."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgdrill.errors import PgdrillError
from pgdrill.host.process import Runner
from pgdrill.queues.access import QueueAccess
from pgdrill.queues.take import take_snapshot
from pgdrill.queues.verify import verify
from tests.integration.queues.conftest import PASSWORD, Server, World


def refused(access: QueueAccess, runner: Runner | None = None) -> str:
    """The reason; and nothing is left, here or in the store."""
    with pytest.raises(PgdrillError) as caught:
        take_snapshot(access, runner=runner)
    assert PASSWORD not in str(caught.value)
    left = [name for name in access.snapshots.sizes() if not name.startswith("lease")]
    assert left == []
    folder = access.cluster.state_directory / "snapshots"
    assert not folder.exists() or not list(folder.iterdir())
    return caught.value.problem.reason


@pytest.fixture
def other(world: World, tmp_path: Path) -> Iterator[Server]:
    """Another server, not started."""
    folder = world.home / tmp_path.name
    folder.mkdir()
    made = Server(folder)
    yield made
    made.stop()


def test_a_wrong_password_a_user_without_rights_and_a_server_that_is_gone(
    world: World, monkeypatch: pytest.MonkeyPatch, other: Server
) -> None:
    assert refused(world.access(host=str(other.socket))) == "server-unreachable"
    client = world.server.client()
    client.execute_command("ACL", "SETUSER", "nobody", "reset", "on", f">{PASSWORD}")
    assert refused(world.access(username="nobody")) == "no-right"
    client.execute_command("ACL", "DELUSER", "nobody")
    monkeypatch.setenv("QUEUE_TEST_PASSWORD", "wrong")
    assert refused(world.access()) == "login-refused"


def test_a_cluster_and_an_empty_server_are_refused(world: World, other: Server) -> None:
    other.options = {"cluster-enabled": "yes"}
    other.start()
    assert refused(world.access(host=str(other.socket))) == "redis-cluster"
    other.stop()
    other.options = {}
    other.start()
    assert refused(world.access(host=str(other.socket))) == "empty"
    access = world.access(host=str(other.socket), may_be_empty=True)
    assert take_snapshot(access).keys_before == 0
    assert verify(access).verdict == "passed"


def test_no_room_is_told_before_anything_is_copied(world: World) -> None:
    access = world.access()
    drill = access.cluster.drill.model_copy(update={"keep_free_bytes": 10**16})
    owner = type(access.owner)(access.cluster.model_copy(update={"drill": drill}))
    assert refused(QueueAccess(access.queue, owner)) == "no-space"


def test_a_server_that_is_killed_while_it_copies_leaves_nothing(
    world: World, other: Server
) -> None:
    other.options = {"repl-diskless-sync-delay": "20"}
    other.start()
    other.client().set("bull:q:id", "1")
    access = world.access(host=str(other.socket), method="replication")
    runner = Runner()
    over = threading.Event()

    def kill() -> None:
        client = other.client()
        while not over.wait(0.05):
            if any(one.get("cmd") == "sync" for one in client.client_list()):
                other.stop()
                return

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        assert refused(access, runner) == "copy-broke-off"
    finally:
        over.set()
        killer.join()


def test_a_copy_that_hangs_is_ended(world: World, other: Server) -> None:
    other.options = {"repl-diskless-sync-delay": "60"}
    other.start()
    other.client().set("bull:q:id", "1")
    access = world.access(host=str(other.socket), method="replication", stall_seconds=3)
    assert refused(access) == "stalled"


def test_a_policy_that_drops_jobs_is_told_and_red_once_it_did(world: World, other: Server) -> None:
    other.options = {"maxmemory-policy": "allkeys-lru"}
    other.start()
    client = other.client()
    client.set("bull:q:id", "1")
    access = world.access(host=str(other.socket))
    take_snapshot(access)
    told = {one.name: one.status for one in verify(access).results}
    assert told["queue-eviction"] == "warn"
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 400_000)
    for number in range(400):
        client.set(f"filler:{number}", "x" * 10_000)
    client.config_set("maxmemory", 0)
    assert client.info("stats")["evicted_keys"] > 0
    client.set("bull:q:id", "1")
    take_snapshot(access)
    assert verify(access).verdict == "failed"


def test_a_replica_is_copied_where_it_keeps_up_and_refused_where_it_does_not(
    world: World, other: Server, unused_tcp_ports: tuple[int, int]
) -> None:
    first, second = unused_tcp_ports
    primary_home = world.home / f"primary-{first}"
    primary_home.mkdir()
    primary = Server(primary_home, {"port": str(first), "bind": "127.0.0.1"}).start()
    other.options = {
        "port": str(second),
        "bind": "127.0.0.1",
        "replicaof": f"127.0.0.1 {first}",
        "masterauth": PASSWORD,
        "repl-timeout": "600",
    }
    try:
        primary.client().set("bull:q:id", "7")
        other.start()
        other.until(lambda: other.client().info("replication")["master_link_status"] == "up")
        primary.until(
            lambda: primary.client().info("replication").get("slave0", {}).get("state") == "online"
        )
        record = take_snapshot(world.access(host="127.0.0.1", port=first))
        assert (record.source, record.source_note) == (f"127.0.0.1:{second}", "a replica")
        assert primary.process
        primary.process.send_signal(signal.SIGSTOP)  # silent, and its link still stands
        other.until(lambda: other.client().info("replication")["master_last_io_seconds_ago"] > 2)
        access = world.access(host=str(other.socket), replica_lag_seconds=1)
        assert refused(access) == "replica-behind"
    finally:
        primary.stop()


@pytest.fixture
def unused_tcp_ports() -> tuple[int, int]:
    import socket

    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]

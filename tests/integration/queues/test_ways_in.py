"""The ways to the server: TLS, a user of its own, Sentinels."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from pgdrill.errors import PgdrillError
from pgdrill.queues.take import take_snapshot
from pgdrill.queues.verify import verify
from tests.integration.queues.conftest import PASSWORD, WAIT_SECONDS, Server, World, programs


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return found


def with_tls() -> Path:
    """The folder of programs that were built with TLS; a skip that says so."""
    for folder in (programs(), Path("/usr/bin")):
        if (folder / "redis-server").exists():
            cli = subprocess.run([folder / "redis-cli", "--help"], capture_output=True, check=False)
            if b"--tls" in cli.stdout + cli.stderr:
                return folder
    pytest.skip("no Redis here was built with TLS (Debian's is)")


@pytest.fixture
def folder(world: World, tmp_path: Path) -> Path:
    made = world.home / tmp_path.name
    made.mkdir()
    return made


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here: TLS is not tested")
    crt, key = folder / "server.crt", folder / "server.key"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=redis", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*words, "-out", crt, "-keyout", key], check=True, capture_output=True)
    return crt, key


def test_by_tls_with_a_certificate_that_is_trusted_and_not_without(
    world: World, folder: Path
) -> None:
    where, (port,) = with_tls(), free_ports(1)
    crt, key = certificate(folder)
    options = {
        "tls-port": str(port),
        "bind": "127.0.0.1",
        "tls-cert-file": str(crt),
        "tls-key-file": str(key),
        "tls-ca-cert-file": str(crt),
        "tls-auth-clients": "no",
    }
    server = Server(folder, options, folder=where).start()
    try:
        server.client().set("bull:q:id", "1")
        words = {"host": "127.0.0.1", "port": port, "tls": True, "bin_dir": str(where)}
        access = world.access(**words, tls_ca_file=str(crt))
        assert take_snapshot(access).method == "replication"
        assert verify(access).verdict == "passed"
        with pytest.raises(PgdrillError, match=r"(?i)certificate"):
            take_snapshot(world.access(**words))
        with pytest.raises(PgdrillError, match="tls = true"):
            take_snapshot(world.access(**{**words, "tls": False}))
    finally:
        server.stop()


@pytest.fixture
def watched(world: World, folder: Path) -> Iterator[tuple[int, int, int]]:
    """A primary, a replica that keeps up, and a Sentinel that knows both: their ports."""
    primary, replica, sentinel = free_ports(3)
    bind = {"bind": "127.0.0.1"}
    for name in ("p", "r", "s"):
        (folder / name).mkdir()
    first = Server(folder / "p", {**bind, "port": str(primary)}).start()
    more = {"port": str(replica), "replicaof": f"127.0.0.1 {primary}"}
    second = Server(folder / "r", {**bind, **more}).start()
    file = folder / "s" / "sentinel.conf"
    file.write_text(
        f"port {sentinel}\nbind 127.0.0.1\ndir {folder / 's'}\n"
        f"sentinel monitor jobs 127.0.0.1 {primary} 1\nsentinel auth-pass jobs {PASSWORD}\n"
    )
    words = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "--",
        programs() / "redis-server",
        file,
        "--sentinel",
    ]
    third = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        writer = first.client()
        writer.set("bull:q:id", "7")
        client = redis.Redis(port=sentinel, protocol=2)
        first.until(lambda: _knows(client, replica))
        # a link that is up says nothing of what is still on its way
        assert writer.wait(1, int(WAIT_SECONDS * 1000)) == 1
        yield primary, replica, sentinel
    finally:
        third.kill()
        third.wait()
        second.stop()
        first.stop()


def _knows(client: redis.Redis, port: int) -> bool:
    known = [dict(zip(one[::2], one[1::2], strict=True)) if isinstance(one, list) else one
             for one in client.execute_command("SENTINEL", "REPLICAS", "jobs")]  # fmt: skip
    return any(
        one[b"port"] == str(port).encode() and one[b"master-link-status"] == b"ok" for one in known
    )


def test_a_sentinel_is_asked_for_a_replica_and_is_no_server(
    world: World, watched: tuple[int, int, int]
) -> None:
    primary, replica, sentinel = watched
    words = {"sentinels": ["127.0.0.1:1", f"127.0.0.1:{sentinel}"], "sentinel_master": "jobs"}
    assert take_snapshot(world.access(**words)).source == f"127.0.0.1:{replica}"
    access = world.access(**words, from_replica=False)
    assert take_snapshot(access).source == f"127.0.0.1:{primary}"
    with pytest.raises(PgdrillError, match="sentinels = "):
        take_snapshot(world.access(host="127.0.0.1", port=sentinel))
    with pytest.raises(PgdrillError, match="one that knows 'others'"):
        take_snapshot(world.access(**{**words, "sentinel_master": "others"}))

"""Certificates that end soon, shown by a real PostgreSQL with TLS and by a store's address."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pgdrill.access import Access
from pgdrill.config import parse
from pgdrill.health import Watcher
from pgdrill.health.certificates import DAY_SECONDS, judge_certificate, seconds_left
from pgdrill.postgres.binaries import Binaries
from tests.integration.jobs.test_certificates import DEBIAN
from tests.integration.worlds import empty_server

ADDRESS = "127.83.15.9"  # of the loopback network: nobody else's port 5432
pytestmark = [
    pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not here to sign any"),
    pytest.mark.timeout(900),
]


def signed(folder: Path, name: str, days: int) -> Path:
    """A certificate signed by itself, with its key in the same file; it may have ended already."""
    key = ("-newkey", "rsa:2048", "-noenc", "-subj", f"/CN={name}")
    steps = (
        ("req", "-new", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr"),
        ("x509", "-req", "-in", f"{name}.csr", "-signkey", f"{name}.key", "-days", str(days),
         "-out", f"{name}.crt"),
    )  # fmt: skip
    for words in steps:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)
    (folder / f"{name}.key").chmod(0o600)
    return folder / f"{name}.crt"


@contextmanager
def store(certificate: Path) -> Iterator[int]:
    """An address that shakes hands by TLS and says no more."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    plain, _ = listening.accept()
                except OSError:
                    return
                try:
                    context.wrap_socket(plain, server_side=True).close()
                except OSError:
                    plain.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize(("days", "status"), [(100, "ok"), (10, "warning"), (1, "critical")])
def test_what_a_store_shows_is_judged_by_its_days(tmp_path: Path, days: int, status: str) -> None:
    with store(signed(tmp_path, "store", days)) as port:
        left = seconds_left("127.0.0.1", port, "localhost")
    assert left is not None
    assert (days - 0.1) * DAY_SECONDS < left <= days * DAY_SECONDS
    assert judge_certificate("store", left).status == status


def test_one_that_has_ended_is_critical(tmp_path: Path) -> None:
    with store(signed(tmp_path, "store", -1)) as port:
        left = seconds_left("127.0.0.1", port, "localhost")
    found = judge_certificate("store", left)
    assert (left, found.status, "has ended" in found.found) == (None, "critical", True)


@pytest.mark.skipif(not (DEBIAN / "postgres").exists(), reason="no PostgreSQL 15 with TLS is here")
def test_a_server_with_tls_shows_its_own_and_one_without_is_not_asked(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    folder.mkdir()
    with empty_server(Binaries(DEBIAN)) as server:
        certificate = signed(server.data_directory, "server", 10)
        if (owner := server.data_directory.stat().st_uid) != certificate.stat().st_uid:
            for file in server.data_directory.glob("server.*"):
                shutil.chown(file, owner)
        server.stop()
        server.options.update({  # type: ignore[attr-defined]
            "listen_addresses": ADDRESS, "ssl": "on",
            "ssl_cert_file": "server.crt", "ssl_key_file": "server.key",
        })  # fmt: skip
        server.start()

        def told(host: str) -> tuple[str, str]:
            watcher = Watcher(access(host, tmp_path))
            found = [one for one in watcher.look().findings if one.check == "server-certificate"]
            watcher.close()
            return found[0].status, found[0].reason

        assert told(ADDRESS) == ("warning", "certificate-ends")
        assert told(str(server.socket_directory)) == ("not asked", "no-tls")


def access(host: str, folder: Path) -> Access:
    cluster = {
        "server": {
            "dsn": f"host={host} port=5432 user=postgres dbname=postgres",
            "data_directory": "/pgdata",
        },
        "repository": {"url": f"file://{folder}/store"},
        "drill": {"work_directory": f"{folder}/work"},
    }
    return Access(parse({"clusters": {"agents": cluster}}, folder / "dr.toml").cluster("agents"))

"""Do certificates end soon: those that the server and the store show to whoever connects."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from pgdrill.config import Health
from pgdrill.health.answer import Answer, not_asked
from pgdrill.health.check import health_check
from pgdrill.health.subject import HealthSubject
from pgdrill.reports.terminal import seconds as shown

SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # PostgreSQL's frontend protocol, SSLRequest
DAY_SECONDS = 86400.0
TIMEOUT_SECONDS = 5.0
EXPIRED = 10  # OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED
DEFAULTS = Health()
HINT = (
    "have a new one issued, put it in its place, and reload (PostgreSQL: `SELECT pg_reload_conf()`)"
)


@health_check(
    "server-certificate",
    "server",
    passing="the server's certificate is valid for health.certificate_warning_days (21) and more",
    hint=HINT,
    example="db1:5432: ends in 5 days",
    needs=("server",),
)
def of_server(subject: HealthSubject) -> Iterator[Answer]:
    """Shake hands once more, where the connection is encrypted."""
    connection = subject.server
    host, port = connection.info.hostaddr or connection.info.host, connection.info.port
    if not connection.pgconn.ssl_in_use:
        yield not_asked("the connection is not encrypted", "no-tls")
        return
    left = seconds_left(host, port, connection.info.host, postgres=True)
    yield judge_certificate(f"{connection.info.host}:{port}", left, subject.access.cluster.health)


@health_check(
    "store-certificate",
    "repository",
    passing="the store's certificate is valid for health.certificate_warning_days (21) and more",
    hint=HINT,
    example="minio.example.org:9000: ends in 5 days",
    needs=("repository",),
)
def of_store(subject: HealthSubject) -> Iterator[Answer]:
    """Ask stores of one's own; AWS renews its own certificates."""
    where = urlsplit(subject.access.cluster.repository.endpoint_url)
    if where.scheme != "https" or not where.hostname:
        yield not_asked("repository.endpoint_url is no https:// address", "no-tls")
        return
    port = where.port or 443
    left = seconds_left(where.hostname, port, where.hostname)
    yield judge_certificate(f"{where.hostname}:{port}", left, subject.access.cluster.health)


def judge_certificate(thing: str, left: float | None, limits: Health = DEFAULTS) -> Answer:
    """Judge by the seconds that are left; None: it is over."""
    least = limits.certificate_warning_days * DAY_SECONDS
    if left is None or left <= 0:
        found, status = "has ended: nobody who checks it connects any more", "critical"
    else:
        found = f"ends in {shown(left)}"
        short = left < limits.certificate_critical_days * DAY_SECONDS
        status = "critical" if short else "warning" if left < least else "ok"
    return Answer(
        status,  # type: ignore[arg-type]
        found,
        thing,
        f"valid for {limits.certificate_warning_days:g} days and more",
        left,
        None if left is None else least,
        "" if left is None else "seconds",
        reason="" if status == "ok" else "certificate-ends",
    )


def seconds_left(host: str, port: int, name: str, *, postgres: bool = False) -> float | None:
    """Return for how long the certificate is valid that is shown at an address; None: it is over.

    Who issued it is not asked: jobs check that as they are configured to. So it is fetched first,
    and then taken as the one to trust, for what is not trusted Python does not decode.
    """
    fetching = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    fetching.check_hostname, fetching.verify_mode = False, ssl.CERT_NONE
    with (
        _connected(host, port, postgres) as plain,
        fetching.wrap_socket(plain, server_hostname=name) as shaken,
    ):
        shown_one = shaken.getpeercert(binary_form=True)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    trusting.load_verify_locations(cadata=shown_one)
    try:
        with (
            _connected(host, port, postgres) as plain,
            trusting.wrap_socket(plain, server_hostname=name) as shaken,
        ):
            ends = str((shaken.getpeercert() or {})["notAfter"])
    except ssl.SSLCertVerificationError as error:
        if error.verify_code != EXPIRED:
            raise
        return None
    return ssl.cert_time_to_seconds(ends) - time.time()


def _connected(host: str, port: int, postgres: bool) -> socket.socket:
    connection = socket.create_connection((host, port), TIMEOUT_SECONDS)
    if postgres:
        connection.sendall(SSL_REQUEST)
        if connection.recv(1) != b"S":
            connection.close()
            raise ConnectionError(f"{host}:{port} does not encrypt a second connection")
    return connection

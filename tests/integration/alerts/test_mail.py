"""Mail by a real SMTP server, with STARTTLS and a login."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from pgdrill.alert_settings import AlertChannel
from pgdrill.alerts.channels import Credentials, Sending
from pgdrill.alerts.outbox import Result
from pgdrill.alerts.sending import send
from tests.integration.alerts.test_channels import message

PASSWORD = "password-of-mail"


@dataclass
class Box:
    """The mails that a server took, and whom it refuses."""

    port: int = 0
    mails: list[Any] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, to: str, _: Any) -> str:
        if to in self.refused:
            return "550 no such user \x1b[31m"
        envelope.rcpt_tos.append(to)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        assert session.ssl is not None
        self.mails.append(message_from_bytes(envelope.content))
        self.recipients.append(list(envelope.rcpt_tos))
        return "250 OK"


def check(_server: Any, _session: Any, _envelope: Any, mechanism: str, given: Any) -> AuthResult:
    right = isinstance(given, LoginPassword) and given.password == PASSWORD.encode()
    return AuthResult(success=right, handled=right)


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    """A server whose certificate is trusted here."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*words, *names, "-keyout", key, "-out", cert], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = Box(port)
    server = Controller(
        found,
        hostname="127.0.0.1",
        port=port,
        tls_context=context,
        require_starttls=True,
        auth_required=True,
        authenticator=check,
    )
    server.start()
    try:
        yield found
    finally:
        server.stop()


def mail(port: int, **more: Any) -> AlertChannel:
    given = {
        "name": "mail",
        "type": "smtp",
        "host": "localhost",
        "port": port,
        "user": "pgdrill",
        "sender": "pgdrill@example.org",
        "to": ["dba@example.org", "boss@example.org"],
        "secret_variable": "X",
        "timeout_seconds": 5,
    }
    return AlertChannel.model_validate({**given, **more})


def by(settings: AlertChannel, have_it: tuple[str, ...] = (), password: str = PASSWORD) -> Result:
    told = message()
    sending = Sending(told, have_it=frozenset(have_it))
    return send(told, settings, lambda _: Credentials(password), sending, pause=lambda _: None)


def test_a_mail_goes_out_by_starttls_with_a_login(box: Box) -> None:
    assert by(mail(box.port)).failure == ""
    (got,) = box.mails
    assert got["Subject"].startswith("CRITICAL agents archiver")
    assert got["Message-ID"].endswith("@example.org>")
    assert got["Auto-Submitted"] == "auto-generated"


def test_a_recipient_who_is_refused_is_tried_again_and_the_others_are_not(box: Box) -> None:
    box.refused = {"boss@example.org"}
    first = by(mail(box.port))
    assert first.failure == "boss@example.org: refused, code 550"
    assert first.parts == ("dba@example.org",)
    box.refused = set()
    assert by(mail(box.port), first.parts).failure == ""
    assert box.recipients == [["dba@example.org"], ["boss@example.org"]]


def test_a_wrong_password_is_told_by_its_code_alone(box: Box) -> None:
    found = by(mail(box.port), password="wrong-password").failure
    assert found == "mail server: SMTPAuthenticationError, code 535"


def test_a_certificate_that_is_not_trusted_gets_no_password(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "no TLS that is trusted" in by(mail(box.port)).failure
    assert box.mails == []


def test_a_server_without_starttls_gets_nothing(server_without_tls: int) -> None:
    assert by(mail(server_without_tls)).failure == (
        "mail server: it offers no STARTTLS, or no login"
    )


@pytest.fixture
def server_without_tls() -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    server = Controller(Box(), hostname="127.0.0.1", port=port)
    server.start()
    try:
        yield port
    finally:
        server.stop()


def test_a_mail_server_that_hangs_ends_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        found = by(mail(silent.getsockname()[1], timeout_seconds=1, host="127.0.0.1"))
        assert "no answer" in found.failure
        assert time.monotonic() - began < 15

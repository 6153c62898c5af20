"""What systemd is told, and by which words of its environment."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

import pytest

from pgdrill.watch.systemd import Notifier


@pytest.mark.parametrize("abstract", [False, True])
def test_a_datagram_arrives_at_a_path_and_at_an_abstract_name(
    tmp_path: Path, abstract: bool
) -> None:
    name = f"pgdrill-{secrets.token_hex(8)}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}" if abstract else name)
        notifier = Notifier.of({"NOTIFY_SOCKET": f"@{name}" if abstract else name})
        notifier.say("READY=1", "STATUS=watching agents")
        assert listener.recv(100) == b"READY=1\nSTATUS=watching agents"


def test_nobody_listens_and_nothing_breaks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Notifier.of({}).say("READY=1")
    assert not caplog.text
    Notifier.of({"NOTIFY_SOCKET": str(tmp_path / "gone")}).say("READY=1")
    assert "was not told" in caplog.text


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 60),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_waits_as_long_as_it_says(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert Notifier.of(environment).watchdog_seconds == seconds

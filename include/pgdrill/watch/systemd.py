"""What systemd is told of the service: datagrams to the socket that it names, and nothing without.

https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Notifier:
    """Tells the service manager. ``address`` empty: there is none.

    ``watchdog_seconds``: a sign of life is missed after so long; None: nobody waits for any.
    """

    address: str = ""
    watchdog_seconds: float | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Notifier:
        """Read the variables that systemd sets for its service."""
        microseconds = environment.get("WATCHDOG_USEC", "")
        mine = environment.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        waited = int(microseconds) / 1e6 if mine and microseconds.isdigit() else None
        return cls(environment.get("NOTIFY_SOCKET", ""), waited or None)

    def say(self, *words: str) -> None:
        """Send words such as ``READY=1``. That nobody listens stops no watch."""
        if not self.address:
            return
        # a name that begins with @ is one of the kernel's abstract ones
        where = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
                notify.setblocking(False)
                notify.sendto("\n".join(words).encode(), where)
        except OSError as error:
            logger.warning("the service manager at %s was not told: %s", self.address, error)

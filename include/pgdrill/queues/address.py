"""The address of a Redis server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Address:
    """A host (or the path of a Unix socket) and a port."""

    host: str
    port: int = 6379

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address in ``HOST:PORT``, ``[ADDRESS]:PORT`` or ``/path/of.sock``.

        Raises ValueError for anything else.
        """
        if text.startswith("/"):
            return cls(text)
        host, _, port = text.rpartition(":")
        if not host or "@" in text or "/" in text or not port.isascii() or not port.isdigit():
            raise ValueError("no HOST:PORT, and no path of a socket")
        return cls(host.strip("[]"), int(port))

    @property
    def is_socket(self) -> bool:
        """True if the host is the path of a Unix socket."""
        return self.host.startswith("/")

    @property
    def local(self) -> bool:
        """True if the server is surely on this host, by this address."""
        return self.is_socket or self.host in ("localhost", "127.0.0.1", "::1")

    @property
    def existing_socket(self) -> Path | None:
        """The socket's path, if it is one."""
        return Path(self.host) if self.is_socket else None

    def __str__(self) -> str:
        if self.is_socket:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

"""The owner of a drill's folder: a process that is told from every other one, or nobody.

The folder is theirs until a certain end. The standard library only is used, and as little of it as
will do: every restored server's keeper holds this in memory.
"""

from __future__ import annotations

import json
import os
import time

# PROC_PID_INIT_INO of every Linux; a namespace with another number is a container's.
INITIAL_PID_NAMESPACE = 4026531836
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def read_text(path: str) -> str:
    """Return a short file's text without its line's end; empty where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - pathlib takes memory
            return file.read().strip()
    except OSError:
        return ""


def started(pid: int) -> int | None:
    """Return when a living process started, in clock ticks since the boot; None of a dead one.

    No change of the clock moves that.
    """
    words = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()  # its name may hold anything
    return int(words[19]) if len(words) > 19 and words[0] not in "ZX" else None


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


class Owner:
    """A process of some host, since that was started last."""

    __slots__ = ("boot_id", "host", "machine", "pid", "pid_namespace", "started")

    def __init__(
        self, pid: int, started: int, boot_id: str, pid_namespace: int, host: str, machine: str = ""
    ) -> None:
        self.pid = pid
        self.started = started
        self.boot_id = boot_id
        self.pid_namespace = pid_namespace
        self.host, self.machine = host, machine

    @classmethod
    def of(cls, pid: int) -> Owner:
        """Return the owner for a process of this host.

        One that has ended is nobody's, and over at once.
        """
        return cls(
            pid,
            started(pid) or 0,
            read_text("/proc/sys/kernel/random/boot_id"),
            os.stat("/proc/self/ns/pid").st_ino,  # noqa: PTH116
            os.uname().nodename,
            read_text("/etc/machine-id"),
        )

    @classmethod
    def from_json(cls, values: dict[str, object]) -> Owner:
        """Return the owner that :meth:`to_json` gave. Raises ValueError, KeyError or TypeError."""
        pid, ticks, namespace = values["pid"], values["started"], values["pid_namespace"]
        boot_id, host, machine = values["boot_id"], values["host"], values.get("machine", "")
        if not (
            isinstance(pid, int)
            and isinstance(ticks, int)
            and isinstance(namespace, int)
            and pid > 0
        ):
            raise ValueError("no process")
        return cls(pid, ticks, str(boot_id), namespace, str(host), str(machine))

    def to_json(self) -> dict[str, object]:
        """Return its values for a file."""
        return {
            name: getattr(self, name)
            for name in ("pid", "started", "boot_id", "pid_namespace", "host", "machine")
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Owner) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.pid, self.started, self.boot_id))

    def lives(self) -> bool:
        """Return True if it is a living process that can be seen from here.

        Another process that got its number is never taken for it.
        """
        return self._seen_by(Owner.of(os.getpid())) and started(self.pid) == self.started

    def session(self) -> list[int]:
        """Return the processes of the session that it leads or led.

        Its number is nobody else's while one of them lives.
        """
        if not self._seen_by(Owner.of(os.getpid())) or started(self.pid) not in (
            None,
            self.started,
        ):
            return []
        numbers = (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - pathlib takes memory
        return [
            pid
            for pid in numbers
            if _session(pid) == self.pid and (started(pid) or 0) >= self.started
        ]

    def gone(self) -> str:
        """Return in words how it is known that it has ended.

        Empty where it lives, or nobody here can tell.
        """
        here = Owner.of(os.getpid())
        if self._seen_by(here):
            return "" if started(self.pid) == self.started else f"its process {self.pid} has ended"
        if (
            self.boot_id == here.boot_id
            or (self.host, self.machine) != (here.host, here.machine)
            or not self.machine
        ):
            return ""
        # Containers of two hosts may share name, machine-id (of their image) and folder.
        outside = self.pid_namespace == here.pid_namespace == INITIAL_PID_NAMESPACE
        return "this host has been started anew since" if outside else ""

    def _seen_by(self, here: Owner) -> bool:
        return (self.boot_id, self.pid_namespace, self.host) == (
            here.boot_id,
            here.pid_namespace,
            here.host,
        )


class FolderLease:
    """The time until which a drill's folder and server may be there.

    ``why``: restore, check, handover, kept, …
    """

    __slots__ = ("boot_id", "drill_id", "expires_at", "expires_boottime", "owner", "why")

    def __init__(self, drill_id: str, owner: Owner | None, expires_at: float, why: str) -> None:
        self.drill_id, self.owner, self.expires_at, self.why = drill_id, owner, expires_at, why
        self.boot_id = read_text("/proc/sys/kernel/random/boot_id")
        # The host's clock may be set back meanwhile. This one only ever goes on, also while the
        # host sleeps.
        self.expires_boottime = time.clock_gettime(time.CLOCK_BOOTTIME) + expires_at - time.time()

    @classmethod
    def read(cls, path: str) -> FolderLease | None:
        """Read a lease; None where there is none that can be read."""
        try:
            values = json.loads(read_text(path))
            owner = values["owner"] and Owner.from_json(values["owner"])
            made = cls(
                str(values["drill_id"]),
                owner or None,
                float(values["expires_at"]),
                str(values["why"]),
            )
            made.boot_id, made.expires_boottime = (
                str(values["boot_id"]),
                float(values["expires_boottime"]),
            )
        except (ValueError, KeyError, TypeError):
            return None
        return made

    def write(self, path: str) -> None:
        """Write the lease in one piece, for this user's eyes only."""
        values = {
            "drill_id": self.drill_id,
            "owner": self.owner and self.owner.to_json(),
            "expires_at": self.expires_at,
            "why": self.why,
            "boot_id": self.boot_id,
            "expires_boottime": self.expires_boottime,
        }
        write_whole(path, json.dumps(values))

    def over(self) -> str:
        """Return in words why it holds no longer; empty while it does.

        A process's own time is measured by the clock that only goes on. What was promised to people
        as an hour of the day (a kept copy's end) ends by that one and by the host's, whichever
        comes first.
        """
        if self.owner and (gone := self.owner.gone()):
            return gone
        same_boot = self.boot_id == read_text("/proc/sys/kernel/random/boot_id")
        passed = same_boot and time.clock_gettime(time.CLOCK_BOOTTIME) >= self.expires_boottime
        if not (same_boot and self.owner):
            passed = passed or time.time() >= self.expires_at
        return f"its time ({self.why}) is over" if passed else ""


def write_whole(path: str, text: str) -> None:
    """Write a file that readers see whole or not at all."""
    beside = f"{path}.{os.urandom(4).hex()}"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(beside, path)  # noqa: PTH105

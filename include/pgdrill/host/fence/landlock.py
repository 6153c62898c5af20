"""Landlock: it limits what a process, and all that it starts, may open.

Unprivileged; Linux 5.13 and newer.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Sequence

from pgdrill.host.fence.linux import (
    LANDLOCK_ADD_RULE,
    LANDLOCK_CREATE_RULESET,
    LANDLOCK_RESTRICT_SELF,
    PR_SET_NO_NEW_PRIVS,
    prctl,
    syscall,
)

EXECUTE = 1
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
TRUNCATE = 1 << 14
IOCTL_DEV = 1 << 15
REFER = 1 << 13
# The rights that a rule for a file, not a folder, may carry.
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
# The rights by the version of Landlock (ABI): 2 added REFER, 3 TRUNCATE, 5 IOCTL_DEV.
EVERY_RIGHT = {
    1: (1 << 13) - 1,
    2: (1 << 14) - 1,
    3: (1 << 15) - 1,
    4: (1 << 15) - 1,
    5: (1 << 16) - 1,
}
READING = EXECUTE | READ_FILE | READ_DIR
BIND_TCP, CONNECT_TCP = 1, 2
ABSTRACT_UNIX_SOCKET, SIGNAL = 1, 2
TRUNCATE_VERSION, NETWORK_VERSION, SCOPE_VERSION = 3, 4, 6
VERSION_FLAG = 1


class Ruleset(ctypes.Structure):
    """``struct landlock_ruleset_attr``."""

    _fields_ = [("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class PathRule(ctypes.Structure):
    """``struct landlock_path_beneath_attr``."""

    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def version() -> int:
    """Return Landlock's version here; 0: the kernel has none, or it is turned off."""
    try:
        return syscall(
            LANDLOCK_CREATE_RULESET,
            "landlock",
            None,
            ctypes.c_size_t(0),
            ctypes.c_uint32(VERSION_FLAG),
        )
    except OSError:
        return 0


def enter(writable: Sequence[str], readable: Sequence[str] | None) -> None:
    """Restrict what this process may open.

    ``writable`` paths may be written, ``readable`` ones read and executed (None: everything, and
    the network and other processes stay as they are).
    """
    known = version()
    rights = EVERY_RIGHT[min(known, 5)]
    closed = readable is not None
    handled = rights if closed else rights & ~READING
    wanted = Ruleset(handled, 0, 0)
    if closed and known >= NETWORK_VERSION:
        wanted.net = BIND_TCP | CONNECT_TCP
    if closed and known >= SCOPE_VERSION:
        wanted.scoped = ABSTRACT_UNIX_SOCKET | SIGNAL
    size = 24 if known >= SCOPE_VERSION else 16 if known >= NETWORK_VERSION else 8
    ruleset = syscall(
        LANDLOCK_CREATE_RULESET,
        "landlock_create_ruleset",
        ctypes.byref(wanted),
        ctypes.c_size_t(size),
        ctypes.c_uint32(0),
    )
    for path in readable or ():
        _allow(ruleset, path, READING & handled)
    for path in writable:
        _allow(ruleset, path, handled)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    syscall(
        LANDLOCK_RESTRICT_SELF, "landlock_restrict_self", ctypes.c_int(ruleset), ctypes.c_uint32(0)
    )
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            rights &= OF_FILES
        rule = PathRule(rights, opened)
        syscall(
            LANDLOCK_ADD_RULE,
            f"landlock_add_rule {path}",
            ctypes.c_int(ruleset),
            1,
            ctypes.byref(rule),
            ctypes.c_uint32(0),
        )
    finally:
        os.close(opened)

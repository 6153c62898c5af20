"""System calls that Python has no function for.

Linux only; each raises OSError with the kernel's own number.
"""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x20000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1
PR_GET_PDEATHSIG = 2
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4
AT_FDCWD, AT_RECURSIVE, AT_EMPTY_PATH = -100, 0x8000, 0x1000
# Numbers that are the same on every architecture, as for all system calls made since Linux 5.1.
MOUNT_SETATTR = 442
LANDLOCK_CREATE_RULESET = 444
LANDLOCK_ADD_RULE = 445
LANDLOCK_RESTRICT_SELF = 446
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> int:
    """Return the result of a call; raise an OSError that says what was tried where it is -1."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(number: int, what: str, *arguments: object) -> int:
    """Make a system call by its number."""
    return checked(libc.syscall(ctypes.c_long(number), *arguments), what)


def unshare(flags: int) -> None:
    """Leave namespaces for new ones."""
    checked(libc.unshare(flags), f"unshare({flags:#x})")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Call mount(2)."""
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    checked(
        libc.mount(*words, ctypes.c_ulong(flags), None if data is None else data.encode()),
        f"mount {source} on {target}",
    )


def unmount(target: str, flags: int) -> None:
    """Call umount2(2)."""
    checked(libc.umount2(os.fsencode(target), flags), f"umount {target}")


def protect_mounts(target: str, attributes: int, cleared: int = 0) -> None:
    """Set (and clear) attributes of a mount and of all below it (mount_setattr(2), Linux 5.12)."""

    class MountAttr(ctypes.Structure):
        _fields_ = [
            (name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")
        ]

    wanted = MountAttr(attr_set=attributes, attr_clr=cleared)
    syscall(
        MOUNT_SETATTR,
        f"mount_setattr {target}",
        AT_FDCWD,
        os.fsencode(target),
        AT_RECURSIVE,
        ctypes.byref(wanted),
        ctypes.c_size_t(ctypes.sizeof(wanted)),
    )


def pivot_root() -> None:
    """Make the working directory the root, and let go of the old one."""
    syscall(PIVOT_ROOT[os.uname().machine], "pivot_root", b".", b".")
    unmount(".", MNT_DETACH)


def parent_death_signal() -> int:
    """Return the signal that this process gets at its parent's end; 0 where none."""
    found = ctypes.c_int()
    checked(libc.prctl(PR_GET_PDEATHSIG, ctypes.byref(found), 0, 0, 0), "prctl(PR_GET_PDEATHSIG)")
    return found.value


def prctl(option: int, value: int, more: object = 0) -> None:
    """Call prctl(2)."""
    checked(libc.prctl(option, ctypes.c_ulong(value), more, 0, 0), f"prctl({option})")

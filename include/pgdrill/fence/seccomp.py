"""System calls that a restored server has no need of, and that would lead out of its fence.

It listens on a Unix socket and never connects anywhere: with ``connect`` gone, sockets of other programs that it could
see cannot be reached either. What makes namespaces, looks into other processes or goes round such filters is gone, too.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct

from pgdrill.fence.linux import PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, prctl

# From the kernel's tables: asm/unistd_64.h (x86_64) and asm-generic/unistd.h (aarch64).
NUMBERS = {
    "x86_64": {
        "socket": 41, "sendto": 44, "clone": 56, "connect": 42, "sendmsg": 46, "sendmmsg": 307, "ptrace": 101, "process_vm_readv": 310,
        "process_vm_writev": 311, "kcmp": 312, "unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155,
        "chroot": 161, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "keyctl": 250, "add_key": 248, "request_key": 249,
        "name_to_handle_at": 303, "open_by_handle_at": 304, "personality": 135,
    },
    "aarch64": {
        "socket": 198, "sendto": 206, "clone": 220, "connect": 203, "sendmsg": 211, "sendmmsg": 269, "ptrace": 117, "process_vm_readv": 270,
        "process_vm_writev": 271, "kcmp": 272, "unshare": 97, "setns": 268, "mount": 40, "umount2": 39, "pivot_root": 41,
        "chroot": 51, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "keyctl": 219, "add_key": 217, "request_key": 218,
        "name_to_handle_at": 264, "open_by_handle_at": 265, "personality": 92,
    },
}  # fmt: skip
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# io_uring does what a filter forbids; the others are the newer forms of mounting, looking into processes and making namespaces.
ALIKE_EVERYWHERE = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429, "fsopen": 430,
    "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_getfd": 438, "mount_setattr": 442, "open_tree_attr": 467,
}  # fmt: skip
CLONE3 = 435
SPECIAL = ("socket", "sendto", "clone")  # some arguments are fine
X32 = 0x40000000
NAMESPACES = 0x20000 | 0x2000000 | 0x4000000 | 0x8000000 | 0x10000000 | 0x20000000 | 0x40000000  # every CLONE_NEW… flag

LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
NUMBER, ARCHITECTURE, FIRST_ARGUMENT, FIFTH_ARGUMENT = 0, 4, 16, 48


class Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _line(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)


def program(machine: str) -> bytes:
    """The filter as the kernel's own instructions (classic BPF), for one architecture."""
    refuse = _line(RETURN, REFUSE | errno.EPERM)
    numbers = NUMBERS[machine]
    lines = [
        _line(LOAD, ARCHITECTURE), _line(JUMP_EQUAL, AUDIT_ARCH[machine], 1), _line(RETURN, KILL),
        _line(LOAD, NUMBER), _line(JUMP_AT_LEAST, X32, 0, 1), refuse,
        # Its flags lie in memory, out of a filter's sight; without it the C library uses clone.
        _line(JUMP_EQUAL, CLONE3, 0, 1), _line(RETURN, REFUSE | errno.ENOSYS),
    ]  # fmt: skip
    for number in (*(n for name, n in numbers.items() if name not in SPECIAL), *ALIKE_EVERYWHERE.values()):
        lines += [_line(JUMP_EQUAL, number, 0, 1), refuse]
    lines += [
        _line(JUMP_EQUAL, numbers["socket"], 0, 4),
        _line(LOAD, FIRST_ARGUMENT), _line(JUMP_EQUAL, socket.AF_UNIX, 1), refuse, _line(RETURN, ALLOW),
        # send() is sendto() without an address; one with an address could reach any datagram socket.
        _line(JUMP_EQUAL, numbers["sendto"], 0, 6),
        _line(LOAD, FIFTH_ARGUMENT), _line(JUMP_EQUAL, 0, 0, 2), _line(LOAD, FIFTH_ARGUMENT + 4), _line(JUMP_EQUAL, 0, 1), refuse,
        _line(RETURN, ALLOW),
        _line(JUMP_EQUAL, numbers["clone"], 0, 3),
        _line(LOAD, FIRST_ARGUMENT), _line(JUMP_ANY_BIT, NAMESPACES, 0, 1), refuse,
        _line(RETURN, ALLOW),
    ]  # fmt: skip
    return b"".join(lines)


def enter() -> None:
    """From now on the filter holds for this process and all that it starts."""
    lines = program(os.uname().machine)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(Program(len(lines) // 8, lines)))

"""System calls that a restored server has no need of, and that would lead out of its fence.

The server listens on a Unix socket and never connects anywhere: with ``connect`` gone, sockets of
other programs that it could see cannot be reached either. Calls that make namespaces, look into
other processes or go round such filters are gone, too.

Landlock knows no right for a file's mode, owner, times and attributes, nor for another process's
limits and priority, nor for System V's and POSIX's queues and semaphores: beside it the filter
takes those calls as well. PostgreSQL itself makes one of them, ``chmod`` of its socket, and does
not start where that fails: it is told that it was done, and the umask has done it. (System V memory
it needs: :mod:`pgdrill.host.fence.choose` looks that the user has none of another server's.)
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct

from pgdrill.host.fence.linux import PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, prctl

# From the kernel's tables: asm/unistd_64.h (x86_64) and asm-generic/unistd.h (aarch64).
NUMBERS = {
    "x86_64": {
        "socket": 41,
        "sendto": 44,
        "clone": 56,
        "connect": 42,
        "sendmsg": 46,
        "sendmmsg": 307,
        "ptrace": 101,
        "process_vm_readv": 310,
        "process_vm_writev": 311,
        "kcmp": 312,
        "unshare": 272,
        "setns": 308,
        "mount": 165,
        "umount2": 166,
        "pivot_root": 155,
        "chroot": 161,
        "bpf": 321,
        "perf_event_open": 298,
        "userfaultfd": 323,
        "keyctl": 250,
        "add_key": 248,
        "request_key": 249,
        "name_to_handle_at": 303,
        "open_by_handle_at": 304,
        "personality": 135,
    },
    "aarch64": {
        "socket": 198,
        "sendto": 206,
        "clone": 220,
        "connect": 203,
        "sendmsg": 211,
        "sendmmsg": 269,
        "ptrace": 117,
        "process_vm_readv": 270,
        "process_vm_writev": 271,
        "kcmp": 272,
        "unshare": 97,
        "setns": 268,
        "mount": 40,
        "umount2": 39,
        "pivot_root": 41,
        "chroot": 51,
        "bpf": 280,
        "perf_event_open": 241,
        "userfaultfd": 282,
        "keyctl": 219,
        "add_key": 217,
        "request_key": 218,
        "name_to_handle_at": 264,
        "open_by_handle_at": 265,
        "personality": 92,
    },
}
# Calls by which Landlock leaves this user's other files and processes open. A file that may be read
# could be changed through its descriptor, too. Newer machines have no calls but the ``…at`` ones.
BESIDE_LANDLOCK = {
    "x86_64": {
        "fchmod": 91,
        "chown": 92,
        "fchown": 93,
        "lchown": 94,
        "fchownat": 260,
        "utime": 132,
        "utimes": 235,
        "futimesat": 261,
        "utimensat": 280,
        "setxattr": 188,
        "lsetxattr": 189,
        "fsetxattr": 190,
        "removexattr": 197,
        "lremovexattr": 198,
        "fremovexattr": 199,
        "setpriority": 141,
        "sched_setparam": 142,
        "sched_setscheduler": 144,
        "sched_setaffinity": 203,
        "sched_setattr": 314,
        "ioprio_set": 251,
        "migrate_pages": 256,
        "inotify_add_watch": 254,
        "fanotify_init": 300,
        "fanotify_mark": 301,
        "mq_open": 240,
        "mq_unlink": 241,
        "semget": 64,
        "semop": 65,
        "semctl": 66,
        "semtimedop": 220,
        "msgget": 68,
        "msgsnd": 69,
        "msgrcv": 70,
        "msgctl": 71,
    },
    "aarch64": {
        "fchmod": 52,
        "fchown": 55,
        "fchownat": 54,
        "utimensat": 88,
        "setxattr": 5,
        "lsetxattr": 6,
        "fsetxattr": 7,
        "removexattr": 14,
        "lremovexattr": 15,
        "fremovexattr": 16,
        "setpriority": 140,
        "sched_setparam": 118,
        "sched_setscheduler": 119,
        "sched_setaffinity": 122,
        "sched_setattr": 274,
        "ioprio_set": 30,
        "migrate_pages": 238,
        "inotify_add_watch": 27,
        "fanotify_init": 262,
        "fanotify_mark": 263,
        "mq_open": 180,
        "mq_unlink": 181,
        "semget": 190,
        "semop": 193,
        "semctl": 191,
        "semtimedop": 192,
        "msgget": 186,
        "msgsnd": 189,
        "msgrcv": 188,
        "msgctl": 187,
    },
}
BESIDE_LANDLOCK_EVERYWHERE = {
    "process_madvise": 440,
    "process_mrelease": 448,
    "fchmodat2": 452,
    "setxattrat": 463,
    "removexattrat": 466,
    "file_setattr": 469,
}
SOCKETS_MODE = {"x86_64": {"chmod": 90, "fchmodat": 268}, "aarch64": {"fchmodat": 53}}
PRLIMIT = {"x86_64": 302, "aarch64": 261}  # the C library's getrlimit, with 0 for this process
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# io_uring does what a filter forbids; the others are the newer forms of mounting, looking into
# processes and making namespaces.
ALIKE_EVERYWHERE = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "open_tree_attr": 467,
}
CLONE3 = 435
SPECIAL = ("socket", "sendto", "clone")  # some arguments are fine
X32 = 0x40000000
# every CLONE_NEW… flag
NAMESPACES = 0x20000 | 0x2000000 | 0x4000000 | 0x8000000 | 0x10000000 | 0x20000000 | 0x40000000

LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
NUMBER, ARCHITECTURE, FIRST_ARGUMENT, FIFTH_ARGUMENT = 0, 4, 16, 48


class Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _line(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)


def program(machine: str, *, alone: bool) -> bytes:
    """Return the filter as the kernel's own instructions (classic BPF), for one architecture.

    ``alone``: in namespaces, where no file that can be written and no process is anybody else's.
    """
    refuse = _line(RETURN, REFUSE | errno.EPERM)
    numbers = NUMBERS[machine]
    lines = [
        _line(LOAD, ARCHITECTURE),
        _line(JUMP_EQUAL, AUDIT_ARCH[machine], 1),
        _line(RETURN, KILL),
        _line(LOAD, NUMBER),
        _line(JUMP_AT_LEAST, X32, 0, 1),
        refuse,
        # The flags of clone3 lie in memory, out of a filter's sight. Without it the C library uses
        # clone.
        _line(JUMP_EQUAL, CLONE3, 0, 1),
        _line(RETURN, REFUSE | errno.ENOSYS),
    ]
    for number in (
        *(n for name, n in numbers.items() if name not in SPECIAL),
        *ALIKE_EVERYWHERE.values(),
    ):
        lines += [_line(JUMP_EQUAL, number, 0, 1), refuse]
    lines += [] if alone else _beside_landlock(machine)
    lines += [
        _line(JUMP_EQUAL, numbers["socket"], 0, 4),
        _line(LOAD, FIRST_ARGUMENT),
        _line(JUMP_EQUAL, socket.AF_UNIX, 1),
        refuse,
        _line(RETURN, ALLOW),
        # send() is sendto() without an address; one with an address could reach any datagram
        # socket.
        _line(JUMP_EQUAL, numbers["sendto"], 0, 6),
        _line(LOAD, FIFTH_ARGUMENT),
        _line(JUMP_EQUAL, 0, 0, 2),
        _line(LOAD, FIFTH_ARGUMENT + 4),
        _line(JUMP_EQUAL, 0, 1),
        refuse,
        _line(RETURN, ALLOW),
        _line(JUMP_EQUAL, numbers["clone"], 0, 3),
        _line(LOAD, FIRST_ARGUMENT),
        _line(JUMP_ANY_BIT, NAMESPACES, 0, 1),
        refuse,
        _line(RETURN, ALLOW),
    ]
    return b"".join(lines)


def _beside_landlock(machine: str) -> list[bytes]:
    refuse, done = _line(RETURN, REFUSE | errno.EPERM), _line(RETURN, REFUSE)
    lines = []
    for number in (*BESIDE_LANDLOCK[machine].values(), *BESIDE_LANDLOCK_EVERYWHERE.values()):
        lines += [_line(JUMP_EQUAL, number, 0, 1), refuse]
    for number in SOCKETS_MODE[machine].values():
        lines += [_line(JUMP_EQUAL, number, 0, 1), done]
    own = [_line(LOAD, FIRST_ARGUMENT), _line(JUMP_EQUAL, 0, 1), refuse, _line(RETURN, ALLOW)]
    return [*lines, _line(JUMP_EQUAL, PRLIMIT[machine], 0, len(own)), *own]


def enter(*, alone: bool) -> None:
    """Put the filter on this process and all that it starts from now on."""
    lines = program(os.uname().machine, alone=alone)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(Program(len(lines) // 8, lines)))

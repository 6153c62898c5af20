"""Namespaces: a file system that holds only what the spec names.

There is no other process, network or shared memory.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
from types import FrameType

from pgdrill.host.fence import linux
from pgdrill.host.fence.spec import Spec

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
READ_ONLY = linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


def enter(spec: Spec) -> None:
    """Return in a child that is process 1 of the new namespaces.

    This process waits for it and ends as it did.
    """
    own = linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWIPC | linux.CLONE_NEWNET
    _unshare(own, os.getuid(), os.getgid())
    waits, held = os.pipe()
    child = os.fork()
    if child:
        os.close(waits)
        _wait(child)
    os.close(held)
    _new_root(spec)
    if spec.uid is not None:
        drop_to(spec.uid)
    # This comes after changing the user, which takes it back.
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.set_blocking(waits, False)
    try:
        gone = os.read(waits, 1) == b""
    except BlockingIOError:
        gone = False
    os.close(waits)
    if gone:  # the parent ended before its end could be noticed
        sys.exit(1)


def write_only(writable: tuple[str, ...]) -> None:
    """Make every file system read-only but these folders."""
    uid, gid = os.getuid(), os.getgid()
    _unshare(linux.CLONE_NEWNS, uid, gid)
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    for path in writable:
        linux.mount(path, path, None, linux.MS_BIND | linux.MS_REC)
    linux.protect_mounts("/", linux.MOUNT_ATTR_RDONLY)
    for path in writable:
        linux.protect_mounts(path, 0, linux.MOUNT_ATTR_RDONLY)


def _unshare(flags: int, uid: int, gid: int) -> None:
    """Leave namespaces, as root from this user namespace, else from one of our own.

    In our own we keep our number.
    """
    if uid == 0:
        linux.unshare(flags)
        return
    linux.unshare(flags | linux.CLONE_NEWUSER)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{uid} {uid} 1")
    _write("/proc/self/gid_map", f"{gid} {gid} 1")


def drop_to(uid: int) -> None:
    """Become a user that owns nothing else, for good.

    A process that is told of its parent's end still is.
    """
    parent, told = os.getppid(), linux.parent_death_signal()
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    linux.prctl(linux.PR_SET_PDEATHSIG, told)  # changing the user has taken it back
    if told and os.getppid() != parent:  # the parent ended meanwhile
        sys.exit(1)


def _wait(child: int) -> None:
    """Hand signals on, and end as the child ends."""

    def forward(number: int, _: FrameType | None) -> None:
        os.kill(child, number)

    for number in FORWARDED:
        signal.signal(number, forward)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _new_root(spec: Spec) -> None:
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    linux.mount(
        "pgdrill", spec.root, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=0755,size=1m"
    )
    for path in spec.readable:
        _show(spec.root, path, READ_ONLY)
    for path in DEVICES:
        _show(spec.root, path, linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NOSUID)
    _name_users(spec)
    for path in spec.writable:
        _show(spec.root, path, linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV)
    os.chdir(spec.root)
    linux.pivot_root()
    linux.mount(
        "none",
        "/",
        None,
        linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV,
    )
    os.chdir("/")


def _name_users(spec: Spec) -> None:
    """Write the names of two users: initdb wants to know its own name."""
    own = os.getuid() if spec.uid is None else spec.uid
    os.makedirs(f"{spec.root}/etc", mode=0o755, exist_ok=True)  # noqa: PTH103
    _write(
        f"{spec.root}/etc/passwd",
        f"root:x:0:0::/:/bin/false\npgdrill:x:{own}:{own}::/:/bin/false\n",
    )
    _write(f"{spec.root}/etc/group", f"root:x:0:\npgdrill:x:{own}:\n")


def _show(root: str, path: str, attributes: int) -> None:
    """Show a path below ``root`` under the same name.

    A link is shown as a link, for what it points to is shown under its own name.
    """
    target = root + path
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)  # noqa: PTH103, PTH120 - no import that takes time
    if stat.S_ISLNK(mode):
        if not os.path.lexists(target):
            os.symlink(os.readlink(path), target)  # noqa: PTH115, PTH211
        return
    if stat.S_ISDIR(mode):
        os.makedirs(target, mode=0o755, exist_ok=True)  # noqa: PTH103
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    linux.mount(path, target, None, linux.MS_BIND | linux.MS_REC)
    linux.protect_mounts(target, attributes)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:  # noqa: PTH123
        file.write(text)

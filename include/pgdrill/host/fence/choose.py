"""Choosing the fence that this host gives, and the words that put it around a program."""

from __future__ import annotations

import functools
import os
import pwd
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from pgdrill.errors import CouldNotVerify
from pgdrill.host.fence import landlock
from pgdrill.host.fence.spec import Spec

# Paths of the system that PostgreSQL and a shell need, and in which no key lies.
SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/nsswitch.conf",
    "/etc/locale.alias",
    "/etc/alternatives",
    "/etc/ssl/openssl.cnf",
)
# Files that Landlock lets through from the system. A new root has files made in their place.
SEEN = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/etc/passwd", "/etc/group")
# Numbers that no package and no person is given, as systemd's DynamicUser= takes them.
USERS = range(61184, 65520)
PROBE_SECONDS = 30
PROBE = ("/bin/sh", "-c", 'cd "$1" && exec "$2" --version', "sh")
LINKED = re.compile(r"=> (/\S+)")
SHARED_MEMORY = Path("/proc/sysvipc/shm")


@dataclass(frozen=True, slots=True)
class Fence:
    """A fence for one restored server."""

    spec: Spec | None
    shown: str

    @property
    def uid(self) -> int | None:
        """The user that the server runs as, where that is another one than ours; None: our own."""
        return self.spec.uid if self.spec else None

    def words(self) -> tuple[str, ...]:
        """Return the words to put before a program's own."""
        return fenced(self.spec) if self.spec else ()

    def give(self, folder: Path) -> None:
        """Hand a folder and all in it to the server's user; links are not followed.

        Only before the server has run.
        """
        if self.uid is None or not folder.exists():
            return
        for _, folders, files, opened in os.fwalk(folder):
            os.fchown(opened, self.uid, self.uid)
            for name in (*folders, *files):
                os.chown(name, self.uid, self.uid, dir_fd=opened, follow_symlinks=False)


def fenced(spec: Spec) -> tuple[str, ...]:
    """Return the words for any spec."""
    return (sys.executable, "-I", "-S", str(Path(__file__).parent), spec.to_json())


def writing_only(wanted: str, folders: Sequence[Path]) -> tuple[str, ...]:
    """Return the words for a tool that unpacks what strangers may have packed.

    It can write these folders, and nothing else. A name in an archive leads where it likes, and a
    link in it lets the next name lead anywhere.
    """
    if wanted == "none":
        return ()
    kind = "writes" if landlock.version() >= landlock.TRUNCATE_VERSION else "mounts"
    return fenced(Spec(kind, (*map(str, folders), "/dev/null")))


def environment(programs: Path | None = None) -> dict[str, str]:
    """Return all that a restored server gets as its environment.

    What else is in this process's may be a key. Without /proc the loader does not know where a
    program lies, so it is told where the libraries of ``programs`` are.
    """
    path = os.environ.get("PATH", "/usr/bin:/bin")
    folders = (os.environ.get("LD_LIBRARY_PATH", ""), *(libraries(programs) if programs else ()))
    linked = ":".join(filter(None, folders))
    return {
        "PATH": path,
        **({"LD_LIBRARY_PATH": linked} if linked else {}),
        "LC_ALL": "C",
        "TZ": "UTC",
    }


def choose(
    wanted: str,
    *,
    programs: Path,
    writable: Sequence[Path],
    readable: Sequence[Path],
    root: Path,
    server: str = "postgres",
) -> Fence:
    """Return the strongest fence that holds here, tried with the server itself.

    ``wanted`` is ``drill.fence``. Raises :class:`CouldNotVerify` where there is none, or where root
    has no user to become.
    """
    uid = free_user(str(root)) if os.geteuid() == 0 else None
    if wanted == "none":
        bare = Fence(None if uid is None else Spec("none", (), uid=uid), _shown("none", uid))
        if trouble := _tried(bare, programs / server, writable):
            raise _refused([f"none: {trouble}"])
        return bare
    shown = (*SYSTEM, str(programs.resolve().parent), *libraries(programs), *map(str, readable))
    places = tuple(map(str, writable))
    troubles = []
    for kind in ("namespaces", "landlock") if wanted == "auto" else (wanted,):
        if kind == "namespaces":
            spec = Spec(kind, places, shown, str(root), uid)
        else:
            spec = Spec(kind, (*places, "/dev/null"), (*shown, *SEEN), str(root), uid)
        fence = Fence(spec, _shown(kind, uid))
        trouble = next(_against(kind, uid), "") or _tried(fence, programs / server, writable)
        if not trouble:
            return fence
        troubles.append(f"{kind}: {trouble}")
    raise _refused(troubles)


def inside(program: Path) -> Path:
    """Return a program's path without links outside the fence, by the name that it is called by.

    Some do something else by another name, as redis-server does.
    """
    target = program.resolve()
    return target if target.name == "postgres" else program.parent.resolve() / program.name


@functools.cache
def libraries(programs: Path) -> tuple[str, ...]:
    """Return the folders of shared libraries that the programs are linked with.

    Left out are those in the system's folders and in the programs' own.
    """
    ldd, own = shutil.which("ldd"), programs.resolve().parent
    found: set[Path] = set()
    for program in ("postgres", "initdb", "redis-server") if ldd else ():
        if not (programs / program).exists():
            continue
        words = [str(ldd), str((programs / program).resolve())]
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
        )
        found |= {Path(path).resolve().parent for path in LINKED.findall(done.stdout)}
    return tuple(
        sorted(
            str(folder)
            for folder in found
            if not any(folder.is_relative_to(known) for known in (*SYSTEM, own))
        )
    )


def free_user(seed: str) -> int:
    """Return a number that nobody has: no account, and no process."""
    used = {
        process.info["uids"].real
        for process in psutil.process_iter(["uids"])
        if process.info["uids"]
    }
    used |= {entry.pw_uid for entry in pwd.getpwall()}
    start = zlib.crc32(seed.encode()) % len(USERS)
    return next(
        uid
        for number in range(len(USERS))
        if (uid := USERS[(start + number) % len(USERS)]) not in used
    )


def _against(kind: str, uid: int | None) -> Iterator[str]:
    """Yield what this kind of fence leaves open here."""
    if kind != "landlock":
        return
    known = landlock.version()
    if known < landlock.TRUNCATE_VERSION:
        yield (
            f"version {known} of the kernel's Landlock; 3 (Linux 6.2) is the first that forbids"
            " truncating files"
        )
    if known < landlock.SCOPE_VERSION and uid is None:
        yield (
            f"version {known} of the kernel's Landlock; before 6 (Linux 6.12) this user's other"
            " processes could be signalled"
        )
    if uid is None and _shares_memory():
        yield (
            "this user has System V shared memory (another PostgreSQL server's?), which Landlock"
            " does not keep apart"
        )


def _shares_memory() -> bool:
    lines = SHARED_MEMORY.read_text().splitlines()[1:] if SHARED_MEMORY.exists() else []
    return any(int(line.split()[7]) == os.getuid() for line in lines)


def _tried(fence: Fence, server: Path, writable: Sequence[Path]) -> str:
    """Run a server's program in a fence; return why that did not work, or nothing."""
    try:
        for folder in writable:
            fence.give(folder)
    except OSError as error:  # root of a container that has no other user to give
        return (
            f"user {fence.uid} cannot be made the owner of {error.filename or writable[0]}:"
            f" {error.strerror}"
        )
    words = [*fence.words(), *PROBE, str(writable[0]), str(inside(server))]
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            check=False,
            env=environment(server.parent),
            cwd="/",
        )
    except subprocess.TimeoutExpired:
        return f"no answer from `{server.name} --version` within {PROBE_SECONDS} s"
    return (
        ""
        if done.returncode == 0
        else " ".join(done.stderr.split())[-300:] or f"exit code {done.returncode}"
    )


def _shown(kind: str, uid: int | None) -> str:
    what = {
        "none": "NONE: code in the restored data could do whatever this user may",
        "namespaces": "namespaces (files, processes, network, shared memory)",
        "landlock": f"Landlock {landlock.version()} and seccomp",
    }
    return what[kind] + (f", user {uid}" if uid is not None else "")


def _refused(troubles: list[str]) -> CouldNotVerify:
    return CouldNotVerify(
        "no-fence",
        "a fence around the restored server",
        found="; ".join(troubles),
        expected=(
            "user namespaces (or root with CAP_SYS_ADMIN), or Landlock 3 and newer: whoever owns a"
            " table can run code in it"
        ),
        hint=(
            "allow user namespaces (sysctl user.max_user_namespaces,"
            " kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns), name"
            " folders that PostgreSQL needs in drill.fence_readable, or accept the risk with"
            ' drill.fence = "none" as an ordinary user'
        ),
    )

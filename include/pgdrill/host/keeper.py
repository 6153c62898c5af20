"""``python -I -S keeper.py LEASE_FILE PID_FILE -- WORD…``: run a server while its lease holds.

The restored server outlives the task that started it. This process, in a session of its own, ends
it when the lease's owner has died, when the lease has run out and when the folder has gone, and
takes it along when it dies itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module of that name takes memory
    from collections.abc import Callable

LOOK_SECONDS = 5.0
QUIT_SECONDS = 5.0
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
WATCHED = (signal.SIGCHLD, *FORWARDED)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
COULD_NOT_START = 125


def main() -> None:
    """Start the server, wait for its end or the lease's, and end as the server did."""
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120
    from pgdrill.host.core_dumps import no_core_files
    from pgdrill.host.owner import FolderLease, Owner, write_whole

    def over() -> str:
        lease = FolderLease.read(lease_file)
        return lease.over() if lease else "its lease is gone"

    lease_file, pid_file = sys.argv[1:3]
    no_core_files(for_good=True)
    # Orphans of the server become children of this process, so that none gets away.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    child = start(sys.argv[4:])
    write_whole(pid_file, json.dumps(Owner.of(child).to_json()))
    code = keep(child, over)
    end_children()
    os._exit(code if code >= 0 else 128 - code)


def start(words: list[str]) -> int:
    """Start the server in a session of its own. It is shut down at once should this process die."""
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT, 0, 0, 0)
        for number in FORWARDED:  # a shell's background jobs ignore some of them
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        if os.getppid() == parent:  # it has not died already
            os.execvp(words[0], words)  # noqa: S606 - no shell is meant
    except OSError as error:
        sys.stderr.write(f"pgdrill: cannot start {words[0]}: {error}\n")
        sys.stderr.flush()
    os._exit(COULD_NOT_START)


def keep(child: int, over: Callable[[], str]) -> int:
    """Wait until the server has ended, or end it with its lease; return how it ended.

    Signals are handed on.
    """
    looked = time.monotonic()
    while True:
        told = signal.sigtimedwait(WATCHED, LOOK_SECONDS)
        if told and told.si_signo in FORWARDED:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, told.si_signo)
        code = reap(child)
        if code is not None:
            return code
        if time.monotonic() - looked < LOOK_SECONDS:
            continue
        looked = time.monotonic()
        if why := over():
            sys.stderr.write(f"pgdrill: the restored server is ended: {why}\n")
            sys.stderr.flush()
            return end(child)


def reap(child: int) -> int | None:
    """Bury whoever has died.

    Return the server's exit code, or minus its signal, if it is among them.
    """
    code = None
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            if found[0] == child:
                code = os.waitstatus_to_exitcode(found[1])
    return code


def end(child: int) -> int:
    """Shut the server down immediately; after five seconds kill it."""
    for how, seconds in ((signal.SIGQUIT, QUIT_SECONDS), (signal.SIGKILL, QUIT_SECONDS)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, how)
        if how is signal.SIGKILL:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child, how)
            end_children(but=child)
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            signal.sigtimedwait((signal.SIGCHLD,), left)
            code = reap(child)
            if code is not None:
                return code
    return -signal.SIGKILL


def end_children(but: int = 0) -> None:
    """Kill what is left below this process; whoever loses its parent thereby is next."""
    deadline = time.monotonic() + QUIT_SECONDS
    while time.monotonic() < deadline:
        found = [pid for pid in children() if pid != but]
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def children() -> list[int]:
    """Return the children of this process, the dead ones too."""
    from pgdrill.host.owner import read_text

    own, found = str(os.getpid()), []
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit() and read_text(f"/proc/{name}/stat").rpartition(")")[2].split()[1:2] == [
            own
        ]:
            found.append(int(name))
    return found


if __name__ == "__main__":
    main()

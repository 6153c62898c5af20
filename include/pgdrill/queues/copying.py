"""The copying of a server's data into a file: three ways, the best first.

By the replication protocol (one instant, the server needs no disk), by BGSAVE beside the server
(one instant), or key by key (no single instant; said so in the record).
"""

from __future__ import annotations

import errno
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from redis import exceptions as failed

from pgdrill.errors import CouldNotVerify, PgdrillError, TimedOut, Unreachable
from pgdrill.host.process import Command, ProcessTimeout, Runner
from pgdrill.queues import keys
from pgdrill.queues.access import QueueAccess
from pgdrill.queues.connection import Client, cli_words, connect, explained
from pgdrill.queues.rdb import check_end, read_header
from pgdrill.queues.record import Method
from pgdrill.queues.server import Source

logger = logging.getLogger(__name__)

PART = ".part"  # until it is whole
POLL_SECONDS = 0.2  # Redis tells of a save's end by INFO alone
# The words of servers and services that do not let their data be replicated.
NOT_LET = re.compile(
    r"SYNC with master failed: -(NOPERM|ERR unknown command|ERR command.*not allowed)"
)
LOGIN = re.compile(r"NOAUTH|WRONGPASS|AUTH failed")
SPACE = re.compile(r"No space left|quota exceeded", re.IGNORECASE)


class NotLet(Exception):
    """The server does not let its data be copied in this way; why."""


@dataclass(frozen=True, slots=True)
class Copying:
    """What is copied, into which folder."""

    access: QueueAccess
    source: Source
    folder: Path
    runner: Runner
    progress: Callable[[str, int, int], None]

    @property
    def what(self) -> str:
        """The server in words."""
        return f"copy of queue {self.access.name} from {self.source.address}"


def copy(work: Copying) -> tuple[Path, Method]:
    """Copy by the configured way, or by the first that the server lets; return the whole file."""
    wanted = work.access.queue.method
    ways: dict[Method, Callable[[Copying], Path]] = {
        "replication": by_replication,
        "file": by_file,
        "keys": by_keys,
    }
    troubles = []
    for name, way in ways.items():
        if wanted not in ("auto", name):
            continue
        try:
            return way(work), name
        except NotLet as error:
            troubles.append(f"{name}: {error}")
            logger.warning("%s cannot be copied by %s", work.source.address, troubles[-1])
    raise CouldNotVerify(
        "not-let",
        work.what,
        found="; ".join(troubles),
        expected="a way to copy it",
        hint="give the user what docs/how-to/queues.md lists (ACL SETUSER), or set"
        f" queues.{work.access.name}.method",
    )


def by_replication(work: Copying) -> Path:
    """Copy as a replica would be given the data: ``redis-cli --rdb``.

    What it leaves of a copy that broke off is removed; a whole one is told by its end, too.
    """
    access, part = work.access, work.folder / f"dump.rdb{PART}"
    words, secret = cli_words(access, work.source.address)
    argv = [access.program("redis-cli"), *words, "--rdb", str(part)]
    command = Command(
        tuple(argv),
        secret,
        {1: "redis-cli gave up"},
        without=("REDISCLI_AUTH",),
        works_in=(work.folder,),
    )
    limits = access.queue
    try:
        done = work.runner.run(
            command,
            timeout_seconds=limits.timeout_seconds,
            stall_seconds=limits.stall_seconds,
            on_bytes=lambda count: work.progress("copy", count, 0),
            quiet=True,
        )
    except ProcessTimeout as error:
        part.unlink(missing_ok=True)
        raise TimedOut(
            "stalled" if error.stalled else "timeout",
            work.what,
            found=str(error),
            expected=f"an end within {limits.timeout_seconds:.0f} s, and bytes moving",
            hint="see the server's log; raise queues.NAME.timeout_seconds if it was still moving",
        ) from None
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if done.code:
        part.unlink(missing_ok=True)
        raise _failure(work, done.ended, "\n".join(done.last_lines))
    return _whole(work, part, "dump.rdb")


def _failure(work: Copying, found: str, words: str) -> Exception:
    if NOT_LET.search(words):
        return NotLet(words.rpartition("failed: ")[2][:200])
    if LOGIN.search(words):
        return CouldNotVerify(
            "login-refused",
            work.what,
            found=found,
            expected="a login",
            hint="correct the user or the password (conn_id, or the variable that"
            " password_variable names)",
        )
    if SPACE.search(words):
        return _no_space(work, found)
    return Unreachable(
        "copy-broke-off",
        work.what,
        found=found,
        expected="the whole file",
        hint="see the server's log: it was ended, or closed the connection"
        " (client-output-buffer-limit replica); then try again",
    )


def _no_space(work: Copying, found: str) -> PgdrillError:
    return CouldNotVerify(
        "no-space",
        work.what,
        found=found,
        expected=f"room for it in {work.folder}",
        hint="make room, or set drill.work_directory to a larger disk",
    )


def by_file(work: Copying) -> Path:
    """Let the server save its data beside us, and take that file.

    Only on the server's own host, and only where the file is seen from here.
    """
    access, address = work.access, work.source.address
    if not address.local:
        raise NotLet("the server is on another host")
    with explained(work.what), connect(access, address) as client:
        folder, name = _place(client)
        saved = Path(folder, name)
        if not Path(folder).is_dir():
            raise NotLet(f"its folder {folder} is not seen from here")
        _save(work, client)
    try:
        part = work.folder / f"dump.rdb{PART}"
        shutil.copyfile(saved, part)
    except PermissionError as error:
        raise NotLet(f"{error.filename}: {error.strerror}") from None
    except OSError as error:
        raise _disk(work, error) from None
    return _whole(work, part, "dump.rdb")


def _place(client: Client) -> tuple[str, str]:
    try:
        # one by one, as before 7.0
        found = {**client.config_get("dir"), **client.config_get("dbfilename")}
    except failed.ResponseError as error:
        raise NotLet(str(error)[:200]) from None
    words = {_text(name): _text(value) for name, value in found.items()}
    if not words.get("dir") or not words.get("dbfilename"):
        raise NotLet("it does not tell where it saves (CONFIG GET dir)")
    return words["dir"], words["dbfilename"]


def _save(work: Copying, client: Client) -> None:
    """Save, and wait for the end of a save that began after this was asked for."""
    deadline = time.monotonic() + work.access.queue.timeout_seconds

    def settled() -> dict[str, object]:
        while True:
            work.runner.check()
            info: dict[str, object] = client.info("persistence")
            if not (info.get("rdb_bgsave_in_progress") or info.get("aof_rewrite_in_progress")):
                return info
            if time.monotonic() > deadline:
                raise TimedOut(
                    "timeout",
                    work.what,
                    found="it is still saving",
                    expected=f"an end within {work.access.queue.timeout_seconds:.0f} s",
                    hint="see the server's log; raise queues.NAME.timeout_seconds",
                )
            time.sleep(POLL_SECONDS)

    settled()
    try:
        client.bgsave(schedule=False)
    except failed.NoPermissionError as error:
        raise NotLet(str(error)[:200]) from None
    info = settled()
    if info.get("rdb_last_bgsave_status") != "ok":
        raise CouldNotVerify(
            "save-failed",
            work.what,
            found=f"rdb_last_bgsave_status is {info.get('rdb_last_bgsave_status')}",
            expected="ok",
            hint="see the server's log: no room on its disk, or no memory to fork",
        )


def by_keys(work: Copying) -> Path:
    """Copy key by key: each is of an instant of its own."""
    access, source = work.access, work.source
    part = work.folder / f"dump.keys{PART}"

    def client(database: int) -> Client:
        return connect(access, source.address, database)

    def counted(entries: Iterator[keys.Entry]) -> Iterator[keys.Entry]:
        for number, entry in enumerate(entries):
            if number % keys.PAGE == 0:
                work.runner.check()
                work.progress("copy keys", number, source.facts.keys)
            yield entry

    with explained(work.what):
        try:
            keys.save(part, counted(keys.read_keys(client, source.facts.databases)))
        except OSError as error:
            raise _disk(work, error) from None
    file = work.folder / "dump.keys"
    part.rename(file)
    return file


def _disk(work: Copying, error: OSError) -> PgdrillError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _no_space(work, error.strerror or "no space")
    return CouldNotVerify(
        "disk",
        work.what,
        found=f"{error.filename}: {error.strerror}",
        expected="a file that can be written",
        hint="see what is wrong with drill.work_directory",
    )


def _whole(work: Copying, part: Path, name: str) -> Path:
    """Give the file its name, if it begins and ends as one."""
    try:
        read_header(part)
        check_end(part)
    except (ValueError, OSError) as error:
        part.unlink(missing_ok=True)
        raise Unreachable(
            "copy-broke-off",
            work.what,
            found=str(error),
            expected="a whole RDB file",
            hint="see the server's log, then try again",
        ) from None
    file = work.folder / name
    part.rename(file)
    return file


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

"""The throw-away server that a snapshot is loaded into, inside the fence of restored servers.

Functions in the file are loaded, too. What it read is told by its log alone: with another setting,
or without the file, a server starts just as well, and empty.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis
from redis import exceptions as failed

from pgdrill.errors import BackupFault, ConfigError, CouldNotVerify, TimedOut
from pgdrill.host.fence.choose import Fence, choose, environment, inside
from pgdrill.host.kept_server import keeper_words, launch
from pgdrill.host.priority import low_priority_words
from pgdrill.queues import keys
from pgdrill.queues.access import QueueAccess
from pgdrill.queues.connection import ANSWER_SECONDS, ONCE, Client
from pgdrill.queues.rdb import check_end, read_header
from pgdrill.queues.record import SnapshotRecord
from pgdrill.queues.server import major_of
from pgdrill.recovery.workspace import Workspace

POLL_SECONDS = 0.05  # it tells of its state by its log, and by an answer
QUICK_SECONDS = 10.0
LAST_BYTES = 2**18
LOADED = re.compile(r"Done loading RDB, keys loaded: (\d+), keys expired: (\d+)")
VERSION = re.compile(r"^(Redis|Valkey) server v=([0-9][0-9.]*)", re.MULTILINE)
NEWER = re.compile(r"Can't handle RDB format version (\d+)")
DAMAGED = re.compile(
    r"(Short read or OOM|Internal error in RDB|Wrong RDB checksum|RDB CRC error|Wrong signature|"
    r"Fatal error loading|Unknown RDB|Bad data format|Terminating server after rdb|"
    r"Failed loading|integrity check failed|REDIS BUG REPORT|VALKEY BUG REPORT).*"
)
MEMORY = re.compile(r"Out Of Memory|Cannot allocate memory|zmalloc")
USED_MEMORY_SHARE = 1.2


@dataclass(frozen=True, slots=True)
class Program:
    """A ``redis-server``: its path, and what it calls itself."""

    path: str
    product: str
    version: str

    @property
    def shown(self) -> str:
        """Product and version."""
        return f"{self.product} {self.version}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A snapshot in its throw-away server. ``keys`` were read from the file, ``expired`` not."""

    socket: Path
    program: Program
    fence: str
    keys: int
    expired: int
    header_at: str

    def connect(self, database: int = 0) -> Client:
        """Return a client."""
        return redis.Redis(
            unix_socket_path=str(self.socket),
            db=database,
            socket_timeout=ANSWER_SECONDS,
            retry=ONCE,
            protocol=2,
        )

    def databases(self) -> tuple[int, ...]:
        """Return the numbers of the databases that hold keys."""
        with self.connect() as client:
            return tuple(sorted(int(name[2:]) for name in client.info("keyspace")))


def program_for(access: QueueAccess, record: SnapshotRecord) -> Program:
    """Return the server to load with: of the very major that wrote it, or it proves less.

    Raises ConfigError where the one that is found here is another.
    """
    path = access.program("redis-server")
    said = subprocess.run(
        [path, "--version"],
        capture_output=True,
        text=True,
        timeout=QUICK_SECONDS,
        check=False,
        env={"LC_ALL": "C"},
    ).stdout
    match = VERSION.search(said)
    found = Program(path, match[1].lower(), match[2]) if match else Program(path, "", "")
    if (found.product, major_of(found.version)) != (record.product, record.server_major):
        raise ConfigError(
            "other-major",
            f"{path}, to load snapshot {record.snapshot_id}",
            found=found.shown.strip() or said[:80] or "no version",
            expected=f"{record.product} {record.server_major}.x, as production runs",
            hint=f"install it, and name its folder in queues.{access.name}.bin_dir",
        )
    return found


def load(
    access: QueueAccess,
    record: SnapshotRecord,
    file: Path,
    workspace: Workspace,
    check: Callable[[], None] = lambda: None,
) -> Loaded:
    """Load a snapshot's file, which has to lie in the workspace's data directory.

    ``check`` is called while it loads, and may raise.
    """
    program = program_for(access, record)
    at = _check_file(access, record, file)
    fence = _fence(access, workspace, program)
    fence.give(workspace.cluster)
    socket = workspace.socket_directory / "redis.sock"
    words = _words(record, workspace, program, socket)
    launched = launch(
        [
            *keeper_words(workspace.lease_file, workspace.server_pid_file),
            *low_priority_words(access.cluster.drill.priority),
            *fence.words(),
            *words,
        ],
        workspace.log_file,
        environment(Path(program.path).parent),
        workspace.lease_file,
    )
    _until_ready(access, record, socket, workspace.log_file, launched, check)
    if record.method == "keys":
        return _filled(record, file, Loaded(socket, program, fence.shown, 0, 0, ""))
    match = LOADED.search(_log(workspace.log_file))
    if match is None:
        raise CouldNotVerify(
            "not-loaded",
            _thing(record),
            found="a server that started without saying that it has loaded the file",
            expected="its log's words on how many keys it loaded",
            hint=f"see {program.path}: is it a wrapper that sets appendonly, dir or dbfilename?",
        )
    return Loaded(socket, program, fence.shown, int(match[1]), int(match[2]), at)


def _check_file(access: QueueAccess, record: SnapshotRecord, file: Path) -> str:
    """Raise for a file that is not what its record says, or needs more memory than there is."""
    if record.method == "keys":
        return ""
    try:
        header = read_header(file)
        checksummed = check_end(file)
    except ValueError as error:
        raise _damaged(record, str(error)) from None
    if header.magic != record.rdb_magic or checksummed != record.checksummed:
        raise _damaged(record, f"{header.magic}, {'with' if checksummed else 'without'} a checksum")
    used = header.fields.get("used-mem", "0")
    needed = int(USED_MEMORY_SHARE * int(used)) if used.isdigit() else 0
    free = psutil.virtual_memory().available
    if needed > free:
        raise CouldNotVerify(
            "no-memory",
            _thing(record),
            found=f"{free / 1e9:.2f} GB of memory free",
            expected=f"{needed / 1e9:.2f} GB, as the server it was taken from used",
            hint=f"load it on a host with more memory (the DAG's Airflow queue of {access.name})",
        )
    return header.fields.get("ctime", "")


def _fence(access: QueueAccess, workspace: Workspace, program: Program) -> Fence:
    drill = access.cluster.drill
    return choose(
        drill.fence,
        programs=Path(program.path).parent,
        writable=(workspace.cluster, workspace.socket_directory),
        readable=(workspace.configuration, *drill.fence_readable),
        root=workspace.new_root,
        server=Path(program.path).name,
    )


def _words(
    record: SnapshotRecord, workspace: Workspace, program: Program, socket: Path
) -> list[str]:
    """Return the server's command: no network, no saving, and every value is looked through."""
    settings = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(workspace.data_directory),
        "dbfilename": "dump.rdb",
        "save": "",
        "appendonly": "no",
        "databases": str(record.databases),
        "maxmemory": "0",
        "rdbchecksum": "yes",
        "sanitize-dump-payload": "yes",
        "loglevel": "notice",
        "logfile": "",
        "daemonize": "no",
        "always-show-logo": "no",
    }
    words = [str(inside(Path(program.path)))]
    for name, value in settings.items():
        words += [f"--{name}", value]
    return words


def _until_ready(
    access: QueueAccess,
    record: SnapshotRecord,
    socket: Path,
    log_file: Path,
    launched: subprocess.Popen[bytes],
    check: Callable[[], None],
) -> None:
    deadline = time.monotonic() + access.queue.timeout_seconds
    client: Client = redis.Redis(
        unix_socket_path=str(socket), socket_timeout=QUICK_SECONDS, retry=ONCE
    )
    try:
        while not _answers(client):
            check()
            if launched.poll() is not None:
                raise _ended(record, _log(log_file))
            if time.monotonic() > deadline:
                raise TimedOut(
                    "timeout",
                    _thing(record),
                    found=f"still loading; log: {_last(_log(log_file))}",
                    expected=f"loaded within {access.queue.timeout_seconds:.0f} s",
                    hint=f"raise queues.{access.name}.timeout_seconds",
                )
            time.sleep(POLL_SECONDS)
    finally:
        client.close()


def _answers(client: Client) -> bool:
    try:
        return bool(client.ping())
    except (failed.ConnectionError, failed.TimeoutError, failed.BusyLoadingError):
        return False


def _ended(record: SnapshotRecord, log: str) -> BackupFault | CouldNotVerify:
    if match := NEWER.search(log):
        return CouldNotVerify(
            "newer-rdb",
            _thing(record),
            found=f"RDB version {match[1]}, which this server does not know",
            expected="a server as new as production's",
            hint="install production's own version where snapshots are loaded, or name its folder"
            f" in queues.{record.queue}.bin_dir",
        )
    if MEMORY.search(log):
        return CouldNotVerify(
            "no-memory",
            _thing(record),
            found=_last(log),
            expected="memory to load it",
            hint="load it on a host with more memory",
        )
    if match := DAMAGED.search(log):
        return _damaged(record, match[0])
    return CouldNotVerify(
        "server-ended",
        _thing(record),
        found=_last(log),
        expected="a server that loads it",
        hint="read the words of its log above; run it again",
    )


def _damaged(record: SnapshotRecord, found: str) -> BackupFault:
    return BackupFault(
        "dump-damaged",
        _thing(record),
        found=" ".join(found.split())[:300],
        expected="a file that a server loads to its end",
        hint="choose another snapshot; find out what changes the bucket; take a new one",
    )


def _filled(record: SnapshotRecord, file: Path, loaded: Loaded) -> Loaded:
    """Write the keys of a file into the empty server."""
    try:
        written = keys.write_keys(loaded.connect, keys.load(file), replace=True)
    except (ValueError, failed.ResponseError) as error:
        raise _damaged(record, str(error)) from None
    with loaded.connect() as client:
        there = sum(int(one["keys"]) for one in client.info("keyspace").values())
    return Loaded(loaded.socket, loaded.program, loaded.fence, there, written - there, "")


def _thing(record: SnapshotRecord) -> str:
    return f"snapshot {record.snapshot_id} of queue {record.queue}"


def _log(file: Path) -> str:
    with file.open("rb") as source:
        source.seek(max(0, file.stat().st_size - LAST_BYTES))
        return source.read().decode(errors="replace")


def _last(log: str) -> str:
    return " | ".join(log.splitlines()[-4:])[-400:] or "an empty log"

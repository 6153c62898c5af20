"""The restore beside a server that is stopped: its data directory is filled, with AOF and without.

With `appendonly yes` Redis ignores an RDB file and starts empty. So a server of its own loads the
file with AOF off, turns it on, waits until the AOF is whole, and ends: after that the directory is
right for either setting, whoever starts the real server in it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from redis import exceptions as failed

from pgdrill.errors import ConfigError, CouldNotVerify, TimedOut
from pgdrill.host.process import Runner
from pgdrill.queues import record as records
from pgdrill.queues import store
from pgdrill.queues.access import QueueAccess
from pgdrill.queues.connection import ANSWER_SECONDS, ONCE, Client
from pgdrill.queues.loader import LOADED, program_for
from pgdrill.queues.record import SnapshotRecord
from pgdrill.recovery.sweep import sweep_first

POLL_SECONDS = 0.1  # Redis tells of a rewrite's end by INFO alone
FILE = "dump.rdb"
MARK = "pgdrill-restoring"  # a file that stands until all is done
LEFT = (FILE, "appendonlydir", "appendonly.aof", MARK, "pgdrill-restoring.log")


def restore_files(
    access: QueueAccess,
    snapshot_id: str,
    directory: Path,
    *,
    empty_half_restored: bool = False,
    runner: Runner | None = None,
) -> int:
    """Fill a data directory, and return the number of keys that were loaded.

    Its owner owns what is made. Raises ConfigError where it is not empty, or a server runs in it.
    """
    runner = runner or Runner()
    record = records.read(access, snapshot_id)
    if record.method == "keys":
        raise ConfigError(
            "no-file",
            f"snapshot {snapshot_id} of queue {access.name}",
            found="a copy key by key, which no server loads by itself",
            expected="an RDB file",
            hint="restore it into a running server: --into HOST:PORT",
        )
    _check_empty(directory, empty_half_restored)
    sweep_first(access.owner)
    (directory / MARK).write_text(f"{snapshot_id}\n")
    store.fetch(access, record, directory, runner, lambda _: None)
    _give(directory)
    with _running(access, record, directory) as client:
        keys = _loaded(directory)
        client.config_set("appendonly", "yes")
        _until_rewritten(access, client, runner)
    _give(directory)
    for name in (MARK, "pgdrill-restoring.log"):
        (directory / name).unlink()
    return keys


def _check_empty(directory: Path, empty_half_restored: bool) -> None:
    if not directory.is_dir():
        raise ConfigError(
            "no-directory",
            f"data directory {directory}",
            found="no folder",
            expected="the `dir` of a server that is stopped",
            hint="make it, and give it to the user that the server runs as",
        )
    if (directory / MARK).exists() and empty_half_restored:
        for name in LEFT:
            path = directory / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    there = sorted(path.name for path in directory.iterdir())
    if there:
        half = MARK in there
        raise ConfigError(
            "not-empty",
            f"data directory {directory}",
            found="half a restore" if half else f"{', '.join(there[:5])}",
            expected="an empty folder, of a server that is stopped",
            hint="restore again with --empty-half-restored"
            if half
            else "stop the server and move its files elsewhere: nothing is overwritten",
        )


def _give(directory: Path) -> None:
    """Hand what is there to the folder's owner, closed to others."""
    owner = directory.stat()
    for folder, folders, files in os.walk(directory):
        for name in files:
            Path(folder, name).chmod(0o600)
        for name in (*folders, *files) if not os.geteuid() else ():
            os.chown(Path(folder, name), owner.st_uid, owner.st_gid, follow_symlinks=False)


@contextmanager
def _running(access: QueueAccess, record: SnapshotRecord, directory: Path) -> Iterator[Client]:
    """Run a server in the directory, as its owner, that nobody else can reach."""
    program, owner = program_for(access, record), directory.stat()
    sockets = Path(tempfile.mkdtemp(prefix="pgdrill-"))
    if not os.geteuid():
        os.chown(sockets, owner.st_uid, owner.st_gid)
    socket = sockets / "redis.sock"
    words = [program.path, "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"]
    words += ["--dir", str(directory), "--dbfilename", FILE, "--appendonly", "no", "--save", ""]
    words += ["--databases", str(record.databases), "--sanitize-dump-payload", "yes"]
    who = {} if os.geteuid() else {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    with (directory / "pgdrill-restoring.log").open("wb") as log:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={"LC_ALL": "C"},
            **who,  # type: ignore[call-overload]
        )
    client: Client = redis.Redis(
        unix_socket_path=str(socket), socket_timeout=ANSWER_SECONDS, retry=ONCE, protocol=2
    )
    try:
        _until_ready(access, client, process, directory)
        yield client
        client.shutdown(nosave=True)
        process.wait(ANSWER_SECONDS)
    finally:
        client.close()
        if process.poll() is None:
            process.kill()
            process.wait()
        shutil.rmtree(sockets, ignore_errors=True)


def _until_ready(
    access: QueueAccess, client: Client, process: subprocess.Popen[bytes], directory: Path
) -> None:
    deadline = time.monotonic() + access.queue.timeout_seconds
    while True:
        try:
            client.ping()
        except (failed.ConnectionError, failed.TimeoutError, failed.BusyLoadingError):
            if process.poll() is None and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
                continue
            raise CouldNotVerify(
                "not-loaded",
                f"server in {directory}",
                found=_log(directory)[-400:],
                expected="a server that loads the snapshot",
                hint="prove the snapshot with `pgdrill queue verify`, then restore again with"
                " --empty-half-restored",
            ) from None
        else:
            return


def _until_rewritten(access: QueueAccess, client: Client, runner: Runner) -> None:
    deadline = time.monotonic() + access.queue.timeout_seconds
    while True:
        runner.check()
        found = client.info("persistence")
        if not (found["aof_rewrite_in_progress"] or found["aof_rewrite_scheduled"]):
            break
        if time.monotonic() > deadline:
            raise TimedOut(
                "timeout",
                "the rewrite of the AOF",
                found="still going on",
                expected=f"an end within {access.queue.timeout_seconds:.0f} s",
                hint="raise queues.NAME.timeout_seconds; restore with --empty-half-restored",
            )
        time.sleep(POLL_SECONDS)
    if found["aof_last_bgrewrite_status"] != "ok" or not found["aof_enabled"]:
        raise CouldNotVerify(
            "aof-failed",
            "the rewrite of the AOF",
            found=str(found["aof_last_bgrewrite_status"]),
            expected="ok",
            hint="make room on the disk, then restore again with --empty-half-restored",
        )


def _log(directory: Path) -> str:
    return (directory / "pgdrill-restoring.log").read_text(errors="replace")


def _loaded(directory: Path) -> int:
    match = LOADED.search(_log(directory))
    if match is None:
        raise CouldNotVerify(
            "not-loaded",
            f"server in {directory}",
            found="a server that started without saying that it has loaded the file",
            expected="its log's words on how many keys it loaded",
            hint="see whether redis-server is a wrapper that sets appendonly or dir",
        )
    return int(match[1])

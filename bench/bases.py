"""The base backup alone, brought back as durably by each: pgdrill, the tool set up by hand,
PostgreSQL's own, a copy.

The tool's best setting is looked for first: 1, 2, 4 or 10 streams, syncing each file or the file
system once at the end. What was restored stays until the group has ended: ext4 keeps away from
inodes of files deleted within the last minutes, so that every run would pay for what those before
it removed.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from statistics import median

from bench.measuring import Meter, Run, in_turn
from bench.rows import Group, Size, ratio
from bench.stacks import fetch_base, put_aside, running, scratch
from pgdrill.access import Access
from pgdrill.backup import take_backup
from pgdrill.drill import destroy_stage, new_drill_id, restore_stage
from pgdrill.host.tuning import cores
from pgdrill.postgres.binaries import as_ordinary_user
from pgdrill.recovery.workspace import Workspace
from pgdrill_demo.stack import Stack, binaries

GOAL = 1.05
STREAMS = (1, 2, 4, 10)
PGBACKREST, PARALLEL = "pgbackrest", f"--process-max={cores()}"
ALONE = "pgdrill, no WAL meanwhile"
AHEAD = "pgdrill, fetching WAL meanwhile"
BY_HAND = "tool, best by hand"


def measure(size: Size) -> Group:
    """Look for the best setting, then run all in turn."""
    with running(size.tool, size.scale[1]) as stack:
        take_backup(stack.access)
        best, why = _best_by_hand(stack)
        competitors: dict[str, Callable[[], Run]] = {
            AHEAD: lambda: run_pgdrill(stack),
            ALONE: lambda: run_pgdrill(stack, wal_fetch="tool"),
            BY_HAND: best,
            "cp -a": lambda: run_cp(stack),
            "pg_basebackup": lambda: run_basebackup(stack),
        }
        refused = _backed_up_by_pgbackrest(stack)
        if not refused:
            competitors["pgBackRest, from a folder"] = lambda: run_pgbackrest(stack)
        runs = in_turn(competitors, size.rounds)
    backrest = (
        f"pgBackRest was not measured: {refused}"
        if refused
        else "pgBackRest reads a folder, for it knows no S3 without TLS"
    )
    return Group(
        f"base backup, scale {size.scale[1]:g}",
        runs,
        [
            ratio(f"restore of the base ÷ tool, best by hand: {name}", runs, name, BY_HAND, GOAL)
            for name in (ALONE, AHEAD)
        ],
        [why, backrest],
    )


def run_pgdrill(stack: Stack, wal_fetch: str = "auto") -> Run:
    """Fetching and syncing of a drill that has next to no WAL to replay."""
    drill_id, cluster = new_drill_id(), stack.cluster
    access = Access(
        cluster.model_copy(
            update={"drill": cluster.drill.model_copy(update={"wal_fetch": wal_fetch})}
        ),
        stack.credentials,
    )
    with Meter() as meter:
        try:
            report = restore_stage(access, drill_id)
        finally:
            workspace = Workspace.of(access, drill_id)
            workspace.server(access).stop(to_be_removed=True)
            put_aside(workspace.data_directory, stack)
            destroy_stage(access, drill_id)
    if report.restore.status != "ok":
        raise RuntimeError(f"not restored: {report.restore.trouble}")
    times = report.timings
    parts = {"fetch": times.fetch_seconds or 0.0, "sync": times.sync_seconds or 0.0}
    return meter.run(sum(parts.values()), parts=parts)


def run_tool(stack: Stack, *, sync_at_end: bool = False, **settings: str) -> Run:
    """The tool's own command, with its own settings and others where told; nothing started."""
    with Meter() as meter, scratch(stack, removed=False) as (server, environment):
        fetch_base(stack, server.data_directory, environment, **settings)
        if sync_at_end:
            subprocess.run(["sync", "-f", str(server.data_directory)], check=True)
        seconds = meter.elapsed
    return meter.run(seconds)


def run_cp(stack: Stack) -> Run:
    """Of the running server's files: useless as a backup, and as fast as bytes go from disk to
    disk.
    """
    with Meter() as meter, scratch(stack, removed=False) as (server, _):
        server.data_directory.rmdir()
        subprocess.run(
            ["cp", "-a", str(stack.primary.data_directory), str(server.data_directory)],
            check=False,
            capture_output=True,
        )
        subprocess.run(["sync", "-f", str(server.data_directory)], check=True)
        seconds = meter.elapsed
    return meter.run(seconds)


def run_basebackup(stack: Stack) -> Run:
    """From the running server, by PostgreSQL's own program."""
    with Meter() as meter, scratch(stack, removed=False) as (server, _):
        words = [
            *as_ordinary_user(),
            binaries().path("pg_basebackup"),
            "-D",
            str(server.data_directory),
            "-d",
            stack.conninfo_without_password(),
            "--checkpoint=fast",
            "--wal-method=none",
        ]
        subprocess.run(
            words,
            check=True,
            capture_output=True,
            env={**os.environ, "PGPASSWORD": stack.passwords["postgres"]},
        )
        seconds = meter.elapsed
    return meter.run(seconds)


def run_pgbackrest(stack: Stack) -> Run:
    """Its restore, as parallel as there are cores; it syncs every file itself."""
    with Meter() as meter, scratch(stack, removed=False) as (server, _):
        done = _pgbackrest(
            stack,
            server.data_directory,
            "restore",
            f"--spool-path={stack.home}/pgbackrest-spool",
            PARALLEL,
        )
        seconds = meter.elapsed
    if done.returncode:
        raise RuntimeError(f"pgBackRest restored nothing: {done.stdout}")
    return meter.run(seconds)


def _backed_up_by_pgbackrest(stack: Stack) -> str:
    """Why it could not take a backup; empty if it has.

    Debian 12's is older than PostgreSQL 16 and refuses later ones.
    """
    if shutil.which(PGBACKREST) is None:
        return "it is not installed here"
    server = (f"--pg1-socket-path={stack.home}", "--pg1-user=postgres")
    for step in (
        ("stanza-create", *server),
        (
            "backup",
            "--type=full",
            "--start-fast",
            "--no-archive-check",
            "--compress-type=lz4",
            PARALLEL,
            *server,
        ),
    ):
        done = _pgbackrest(stack, stack.primary.data_directory, *step)
        if done.returncode:
            return next(
                (
                    line.strip()
                    for line in (done.stdout + done.stderr).splitlines()
                    if "Error" in line or "ERROR" in line
                ),
                f"exit code {done.returncode}",
            )
    return ""


def _pgbackrest(stack: Stack, data_directory: Path, *step: str) -> subprocess.CompletedProcess[str]:
    words = [
        *as_ordinary_user(),
        PGBACKREST,
        "--no-config",
        "--stanza=bench",
        f"--pg1-path={data_directory}",
        f"--repo1-path={stack.home}/pgbackrest",
        f"--lock-path={stack.home}/pgbackrest-lock",
        "--log-level-file=off",
        "--log-level-console=warn",
        *step,
    ]
    return subprocess.run(
        words,
        env={**os.environ, "PGPASSWORD": stack.passwords["postgres"]},
        capture_output=True,
        text=True,
        check=False,
    )


def _best_by_hand(stack: Stack) -> tuple[Callable[[], Run], str]:
    """Three runs of each setting; the median of each counts."""
    choices = {
        f"{streams} streams, {'synced at the end' if at_end else 'each file synced'}": (
            functools.partial(
                run_tool,
                stack,
                sync_at_end=at_end,
                WALG_DOWNLOAD_CONCURRENCY=str(streams),
                WALG_TAR_DISABLE_FSYNC=str(at_end).lower(),
            )
        )
        for streams in STREAMS
        for at_end in (False, True)
    }
    typical = {
        name: median(run.seconds for run in runs) for name, runs in in_turn(choices, 3).items()
    }
    best = min(typical, key=lambda name: typical[name])
    return choices[best], f"best by hand: {best}; " + ", ".join(
        f"{name} {seconds:.2f} s" for name, seconds in typical.items()
    )

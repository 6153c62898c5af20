"""The commands that do something: backup, drill, destroy, verify."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pgdrill.cli import dump
from pgdrill.cli.app import (
    ClusterArgument,
    Exit,
    FullOption,
    JsonOption,
    WaitOption,
    command,
    err,
    exit_code,
    out,
    say,
    session_of,
    warn_renamed,
)

if TYPE_CHECKING:
    from pgdrill.access import Access
    from pgdrill.backup import BackupResult
    from pgdrill.reports.model import Report

logger = logging.getLogger(__name__)
CheckOption = Annotated[
    list[str] | None,
    typer.Option(
        "--check",
        metavar="FAMILY",
        help="only this family of checks (repeatable); see `pgdrill checks`",
    ),
]


class Source(StrEnum):
    """What a drill restored by the option ``--from``, which ``--dump`` has taken the place of."""

    BACKUP = "backup"
    DUMP = "dump"


@command
def backup(
    context: typer.Context,
    cluster: ClusterArgument = "",
    wait: WaitOption = 0,
    as_json: JsonOption = False,
) -> int:
    """Take a base backup beside the data directory, and prove it listed, whole and archived."""
    from pgdrill.backup import take_backup
    from pgdrill.cli.progress import progress
    from pgdrill.cli.signals import stopping
    from pgdrill.host.process import Runner
    from pgdrill.host.waiting import when_free

    session = session_of(context)
    access, runner = session.access(cluster), Runner()
    with progress("backing up", verbose=session.verbose) as show, stopping(runner):
        result = when_free(lambda: take_backup(access, runner=runner, progress=show), seconds=wait)
    if as_json:
        say(json.dumps(asdict(result), indent=1, default=lambda value: value.isoformat()))
    else:
        _show_backup(result)
    return Exit.GOOD


def _show_backup(result: BackupResult) -> None:
    from rich.text import Text

    from pgdrill.reports.terminal import pairs, seconds, size, when

    out().print(
        Text(
            f"Base backup {result.name} of cluster {result.cluster}: listed, whole, archived.",
            "bold green",
        )
    )
    out().print(
        pairs(
            [
                ("finished", when(result.finished_at)),
                ("WAL", f"{result.start_lsn} to {result.finish_lsn}, timeline {result.timeline}"),
                (
                    "size",
                    (
                        f"{size(result.uncompressed_bytes)}, stored as {size(result.stored_bytes)}"
                        f" in {result.parts} objects"
                    ),
                ),
                (
                    "took",
                    (
                        f"{seconds(result.seconds)}, of which {result.tool}"
                        f" {seconds(result.tool_seconds)} at {result.mb_per_second:g} MB/s"
                    ),
                ),
            ]
        )
    )
    out().print(Text(f"Recorded in {result.record}"), soft_wrap=True)


@command
def drill(
    context: typer.Context,
    cluster: ClusterArgument = "",
    target: Annotated[
        str,
        typer.Option(
            metavar="TARGET",
            help=(
                "latest, random, alternate, time:2026-11-20T11:00:00Z, before:2026-11-20T11:00:00Z,"
                " lsn:0/3000028 or name:restore_point"
            ),
        ),
    ] = "latest",
    backup: Annotated[
        str, typer.Option(metavar="NAME", help="LATEST, or the full name of a base backup")
    ] = "LATEST",
    dump_id: Annotated[
        str,
        typer.Option(
            "--dump", metavar="ID", help="restore a logical dump instead: LATEST, or a dump's id"
        ),
    ] = "",
    keep: Annotated[
        bool,
        typer.Option(
            "--keep", help="leave the restored cluster running; `pgdrill destroy` ends it"
        ),
    ] = False,
    check: CheckOption = None,
    bin_dir: dump.BinDirOption = "",
    wait: WaitOption = 0,
    full: FullOption = False,
    as_json: JsonOption = False,
    source: Annotated[Source, typer.Option("--from", hidden=True)] = Source.BACKUP,
) -> int:
    """Restore into a throw-away cluster, run every check, write the report, destroy the cluster."""
    from pgdrill import drill as library
    from pgdrill.cli.progress import progress
    from pgdrill.cli.signals import Interrupted, stopping
    from pgdrill.host.process import Runner
    from pgdrill.recovery.targets import parse_target
    from pgdrill.reports.one_screen import print_report
    from pgdrill.reports.terminal import report_table

    session = session_of(context)
    access, runner, drill_id = session.access(cluster), Runner(), library.new_drill_id()
    families = _families(check)
    if source is Source.DUMP and not dump_id:
        warn_renamed("--from dump --backup ID", "--dump ID")
        dump_id = backup
    if dump_id:
        return dump.restore_and_check(
            session,
            access,
            dump.Chosen(dump_id, families, keep, bin_dir, wait=wait, full=full),
            as_json,
        )
    if bin_dir:
        raise typer.BadParameter(
            "only a dump can be restored into another PostgreSQL", param_hint="--bin-dir"
        )
    parse_target(target)  # before anything is locked or written
    with progress("looking at production", verbose=session.verbose) as show, stopping(runner):
        logger.info("drill %s of cluster %s", drill_id, access.cluster.name)
        try:
            report = library.drill(
                access,
                target=target,
                backup=backup,
                families=families,
                keep=keep,
                drill_id=drill_id,
                runner=runner,
                progress=show,
                wait_seconds=wait,
            )
        except Interrupted:
            # again: the signal may have hit the clean-up itself
            library.destroy_stage(access, drill_id)
            raise
    if as_json:
        say(report.model_dump_json(indent=1))
    else:
        (report_table if full else print_report)(report, out())
    if keep:
        _tell_of_kept(access, report)
    return exit_code(report.verdict)


def _families(wanted: list[str] | None, *, foreign: bool = False) -> tuple[str, ...]:
    from pgdrill.checks import FAMILIES, FOREIGN_FAMILIES

    for family in wanted or ():
        if family not in FAMILIES:
            raise typer.BadParameter(
                f"{family!r} is no family of checks; choose {', '.join(FAMILIES)}",
                param_hint="--check",
            )
    return tuple(wanted or (FOREIGN_FAMILIES if foreign else FAMILIES))


def _tell_of_kept(access: Access, report: Report) -> None:
    from rich.text import Text

    if report.restored is None:
        return
    err().print(
        Text(
            f"The restored cluster is kept until {report.restored.expires_at:%Y-%m-%d %H:%M} UTC,"
            f" or\n  pgdrill destroy {report.cluster} {report.drill_id}\nLook at it as the"
            f" superuser of the protected cluster:\n  {dump.way_in(access, report.restored)}"
        ),
        soft_wrap=True,
    )


@command
def destroy(
    context: typer.Context,
    cluster: ClusterArgument = "",
    drill_id: Annotated[
        str, typer.Argument(metavar="DRILL_ID", help="from `pgdrill report --list`")
    ] = "",
    as_json: JsonOption = False,
) -> int:
    """End and remove the restored cluster of a drill. One that is gone already is fine."""
    from pgdrill.drill import destroy_stage
    from pgdrill.recovery.workspace import Workspace

    access, drill_id = session_of(context).access_and_id(cluster, drill_id)
    if not drill_id:
        raise typer.BadParameter(
            "which drill? `pgdrill report --list` shows them", param_hint="DRILL_ID"
        )
    known = Workspace.of(access, drill_id).directory.exists()
    report = destroy_stage(access, drill_id)
    if as_json:
        cleanup = report.cleanup.model_dump(mode="json") if report else None
        say(json.dumps({"drill_id": drill_id, "destroyed": True, "cleanup": cleanup}, indent=1))
    else:
        if not (known or report):
            say(
                f"Nothing of a drill {drill_id} was on this host, and there is no report of it;"
                " `pgdrill report --list` shows the drills."
            )
            return Exit.GOOD
        report_stays = "its report stays" if report else "it has no report"
        say(f"Nothing is left of the restored cluster of drill {drill_id}; {report_stays}.")
    return Exit.GOOD


@command
def verify(
    context: typer.Context,
    cluster: ClusterArgument = "",
    dsn: Annotated[
        str,
        typer.Option(
            metavar="DSN", help="libpq connection string of the restored server, no password"
        ),
    ] = ...,  # type: ignore[assignment]
    baseline: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="a drill's baseline or a backup's record, to compare with"
        ),
    ] = None,
    as_superuser: Annotated[
        bool,
        typer.Option(
            "--as-superuser", help="ask as a superuser, with whose rights users' code then runs"
        ),
    ] = False,
    check: CheckOption = None,
    full: FullOption = False,
    as_json: JsonOption = False,
) -> int:
    """Run the checks on a cluster that somebody else restored. It is only read."""
    from pgdrill import verify as library
    from pgdrill.cli.signals import stopping
    from pgdrill.reports.one_screen import print_verification
    from pgdrill.reports.terminal import verification_table

    access = session_of(context).access(cluster)
    families = _families(check, foreign=True)
    known = library.read_baseline(baseline, access.cluster) if baseline else None
    with stopping():
        found = library.verify(
            access, dsn, families=families, baseline=known, as_superuser=as_superuser
        )
    if as_json:
        say(found.model_dump_json(indent=1))
    else:
        (verification_table if full else print_verification)(found, out())
    return exit_code(found.verdict)

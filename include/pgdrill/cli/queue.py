"""``pgdrill queue``: the job queues of Redis, copied, proved, restored."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pgdrill.cli.app import (
    Exit,
    FullOption,
    JsonOption,
    Session,
    WaitOption,
    command,
    exit_code,
    out,
    say,
    session_of,
)

if TYPE_CHECKING:
    from pgdrill.queues.access import QueueAccess

queue_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Copy the job queues in Redis, prove each copy by loading it, and restore one.",
)
QueueArgument = Annotated[
    str, typer.Argument(metavar="QUEUE", help="may be left out if the config has just one")
]
SnapshotArgument = Annotated[
    str,
    typer.Argument(metavar="SNAPSHOT", help="LATEST, or an id as `pgdrill queue list` shows it"),
]


def access_of(session: Session, name: str) -> QueueAccess:
    """The named queue, or the only one, with secrets from the environment."""
    from pgdrill.errors import ConfigError
    from pgdrill.queues.access import QueueAccess

    names = sorted(session.settings.queues)
    if not name and len(names) > 1:
        raise ConfigError(
            "which-queue",
            "argument QUEUE",
            found="none",
            expected=f"one of {', '.join(names)}",
            hint="name the queue, for the config has several",
        )
    queue = session.settings.queue(name or (names[0] if names else "NAME"))
    return QueueAccess(queue, session.access(queue.cluster))


@queue_app.command("snapshot")
@command
def snapshot(
    context: typer.Context,
    queue: QueueArgument = "",
    wait: WaitOption = 0,
    as_json: JsonOption = False,
) -> int:
    """Copy the server's data to the store. It counts once `pgdrill queue verify` has passed."""
    from pgdrill.cli.progress import progress
    from pgdrill.cli.signals import stopping
    from pgdrill.host.process import Runner
    from pgdrill.host.waiting import when_free
    from pgdrill.queues.take import take_snapshot
    from pgdrill.queues.terminal import print_record

    session, runner = session_of(context), Runner()
    access = access_of(session, queue)
    with progress("looking at the server", verbose=session.verbose) as show, stopping(runner):
        record = when_free(
            lambda: take_snapshot(access, runner=runner, progress=show), seconds=wait
        )
    if as_json:
        say(record.model_dump_json(indent=1))
        return Exit.GOOD
    say(
        f"Snapshot {record.snapshot_id} of queue {record.queue}: whole in the store, not yet"
        " loaded."
    )
    print_record(record, out())
    say(f"Prove it with: pgdrill queue verify {record.queue}")
    return Exit.GOOD


@queue_app.command("verify")
@command
def verify(
    context: typer.Context,
    queue: QueueArgument = "",
    snapshot: SnapshotArgument = "LATEST",
    full: FullOption = False,
    as_json: JsonOption = False,
) -> int:
    """Load a snapshot into a throw-away server, ask whether its queues hold together, remove it."""
    from pgdrill.cli.progress import progress
    from pgdrill.cli.signals import stopping
    from pgdrill.host.process import Runner
    from pgdrill.queues import verify as library
    from pgdrill.queues.terminal import print_report

    session, runner = session_of(context), Runner()
    access = access_of(session, queue)
    with progress("looking for the snapshot", verbose=session.verbose) as show, stopping(runner):
        report = library.verify(access, library.Wanted(snapshot), runner=runner, progress=show)
    if as_json:
        say(report.model_dump_json(indent=1))
    else:
        print_report(report, out(), full=full)
    return exit_code(report.verdict)


@queue_app.command("list")
@command
def list_snapshots(
    context: typer.Context, queue: QueueArgument = "", as_json: JsonOption = False
) -> int:
    """List the snapshots, oldest first, and whether each counts: loaded, asked, passed."""
    from pgdrill.queues.listing import listed
    from pgdrill.queues.terminal import snapshots_table

    access = access_of(session_of(context), queue)
    found = listed(access)
    if as_json:
        say(
            json.dumps(
                [
                    {
                        "snapshot_id": one.snapshot_id,
                        "counts": one.counts,
                        "verdict": one.last.verdict if one.last else None,
                        "reason": one.last.reason if one.last else one.damage,
                        "stored_bytes": one.stored_bytes,
                        "at": one.record.instant.isoformat() if one.record else None,
                        "live": one.last.live if one.last else None,
                    }
                    for one in found
                ],
                indent=1,
            )
        )
    elif found:
        out().print(snapshots_table(found))
    else:
        say(f"No snapshot in {access.url}; take one with `pgdrill queue snapshot {access.name}`.")
    return Exit.GOOD


@queue_app.command("restore")
@command
def restore(
    context: typer.Context,
    queue: QueueArgument = "",
    snapshot: SnapshotArgument = "LATEST",
    into: Annotated[
        str,
        typer.Option(
            "--into", metavar="HOST:PORT", help="an empty server (or /path/of.sock); same login"
        ),
    ] = "",
    into_directory: Annotated[
        Path | None,
        typer.Option(
            "--into-directory",
            metavar="DIR",
            help="the empty data directory of a stopped server on this host: the file, and an AOF",
        ),
    ] = None,
    with_database: Annotated[
        str,
        typer.Option(
            "--with-database",
            metavar="REPORT",
            help="the newest snapshot at or before the instant that this drill restored to",
        ),
    ] = "",
    at: Annotated[
        str, typer.Option("--at", metavar="TIME", help="the newest one at or before it (ISO, UTC)")
    ] = "",
    paused: Annotated[
        bool, typer.Option("--paused", help="leave every queue paused: nothing runs until resumed")
    ] = False,
    unproved: Annotated[
        bool, typer.Option("--unproved", help="take one, too, that was never loaded, or was red")
    ] = False,
    empty_half_restored: Annotated[
        bool,
        typer.Option("--empty-half-restored", help="empty what a killed restore has left there"),
    ] = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="restore; without it the plan is shown")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Show what a restore would bring back, and with --apply restore it into an empty server."""
    from pgdrill.cli.progress import progress
    from pgdrill.cli.signals import stopping
    from pgdrill.host.process import Runner
    from pgdrill.queues import plan as planning
    from pgdrill.queues import restore as library
    from pgdrill.queues.address import Address
    from pgdrill.queues.terminal import print_plan

    if apply and bool(into) == bool(into_directory):
        raise typer.BadParameter("where to? Give one.", param_hint="--into, --into-directory")
    if into_directory and paused:
        raise typer.BadParameter("files are restored as they are", param_hint="--paused")
    if with_database and at:
        raise typer.BadParameter("give one of them", param_hint="--with-database, --at")
    session, runner = session_of(context), Runner()
    access = access_of(session, queue)
    instant = planning.instant_of(access, with_database) if with_database else _time(at)
    chosen = planning.choose(access, snapshot=snapshot, at=instant, unproved=unproved)
    plan = planning.make(access, chosen, instant)
    if not apply:
        if as_json:
            say(json.dumps(asdict(plan), indent=1, default=str))
        else:
            print_plan(plan, out())
            say("Nothing was done. Restore it with --into HOST:PORT --apply, workers stopped.")
        return Exit.GOOD
    if into_directory:
        return _into_directory(access, chosen.snapshot_id, into_directory, empty_half_restored)
    try:
        address = Address.parse(into)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--into") from None
    target = library.Into(address, "paused" if paused else "stalled", empty_half_restored)
    with progress("looking at the server", verbose=session.verbose) as show, stopping(runner):
        done = library.restore(access, chosen.snapshot_id, target, runner=runner, progress=show)
    if as_json:
        data = {**asdict(done), "queues": [one.model_dump() for one in done.queues]}
        say(json.dumps({"plan": asdict(plan), "restored": data}, indent=1, default=str))
        return Exit.GOOD
    say(
        f"Snapshot {done.snapshot_id} stands in {done.address}: {done.keys} keys, {done.live} live"
        " jobs."
    )
    if done.paused:
        say("Every queue is paused: resume each one when its workers may go on.")
    say(
        f"{done.will_run_twice} jobs that had a worker will run again, {done.fires_at_once} delayed"
        " ones fire at once. Start the workers anew: those that stayed connected would not see it."
    )
    return Exit.GOOD


def _into_directory(access: QueueAccess, snapshot: str, directory: Path, emptied: bool) -> int:
    from pgdrill.cli.signals import stopping
    from pgdrill.host.process import Runner
    from pgdrill.queues.by_file import restore_files

    runner = Runner()
    with stopping(runner):
        keys = restore_files(
            access, snapshot, directory, empty_half_restored=emptied, runner=runner
        )
    say(
        f"Snapshot {snapshot} stands in {directory}: {keys} keys, as an RDB file and as an AOF."
        " Start the server there, with appendonly yes or no."
    )
    return Exit.GOOD


@queue_app.command("prune")
@command
def prune(
    context: typer.Context,
    queue: QueueArgument = "",
    apply: Annotated[bool, typer.Option("--apply", help="delete; without it, say what")] = False,
    as_json: JsonOption = False,
) -> int:
    """Show which snapshots no promise needs (hourly, daily), and with --apply delete them."""
    from pgdrill.queues import prune as library

    access = access_of(session_of(context), queue)
    done = library.prune(access, apply=apply)
    if as_json:
        say(json.dumps(asdict(done), indent=1))
        return Exit.GOOD
    verb = "deleted" if done.applied else "would go"
    for name in done.deleted:
        say(f"{name}: {verb}")
    for words in done.held:
        say(f"{words}: stays")
    say(
        f"{len(done.deleted)} {verb} ({done.freed_bytes / 1e6:.1f} MB), {done.kept} kept,"
        f" {len(done.leftovers)} that broke off {verb}."
    )
    return Exit.GOOD


def _time(text: str) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no ISO time", param_hint="--at") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)

"""The commands about what is kept: prune, window, hold."""

from __future__ import annotations

import functools
import getpass
import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from pgdrill.cli.app import (
    ClusterArgument,
    Exit,
    JsonOption,
    WaitOption,
    command,
    err,
    out,
    say,
    session_of,
)

if TYPE_CHECKING:
    from pgdrill.errors import Problem
    from pgdrill.retention.holds import HoldRecord
    from pgdrill.retention.inventory import Inventory
    from pgdrill.retention.prune import Outlook, PruneResult
    from pgdrill.retention.window import Window

NamedCluster = Annotated[str, typer.Argument(metavar="CLUSTER", help="whose it is")]
UNMEASURED = "not known before two base backups an hour apart"
PLAIN = str.maketrans("━·╿", "=.|")  # for a terminal that knows ASCII alone

hold_app = typer.Typer(
    no_args_is_help=True,
    help="Keep a backup or dump whatever the promises say: for a lawsuit, an audit.",
)


@command
def prune(
    context: typer.Context,
    cluster: ClusterArgument = "",
    apply: Annotated[
        bool, typer.Option("--apply", help="really delete; without it the plan is only shown")
    ] = False,
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--also",
            metavar="NAME",
            help=(
                "remove this leftover, abandoned timeline, or other cluster's backup, if old enough"
                " (repeatable)"
            ),
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow",
            metavar="REASON",
            help=(
                "let a refusal pass: too-much, wal-gap, nothing-proved, missing or first-run"
                " (repeatable)"
            ),
        ),
    ] = None,
    wait: WaitOption = 0,
    plan: Annotated[
        str,
        typer.Option(
            "--plan", metavar="DIGEST", help="with --apply: only if the plan is still this one"
        ),
    ] = "",
    as_json: JsonOption = False,
) -> int:
    """Show what may go and what stays, and why; with --apply delete it.

    Refuses rather than guesses.
    """
    from pgdrill.cli.progress import progress
    from pgdrill.cli.signals import stopping
    from pgdrill.host.process import Runner
    from pgdrill.host.waiting import when_free
    from pgdrill.retention import prune as library
    from pgdrill.retention.allowed import MAY_BE_ALLOWED
    from pgdrill.retention.formats import plan_data
    from pgdrill.retention.unused_objects import findings

    for reason in allow or ():
        if reason not in MAY_BE_ALLOWED:
            raise typer.BadParameter(
                f"{reason!r} cannot be allowed; choose {', '.join(MAY_BE_ALLOWED)}",
                param_hint="--allow",
            )
    session = session_of(context)
    access, runner = session.access(cluster), Runner()
    if apply:
        with progress("pruning", verbose=session.verbose) as show, stopping(runner):
            pruning = functools.partial(
                library.prune,
                access,
                runner,
                named=also or (),
                allowed=allow or (),
                approved=plan,
                progress=show,
            )
            result = when_free(pruning, seconds=wait)
        if as_json:
            say(json.dumps(asdict(result), indent=1, default=lambda value: value.isoformat()))
        else:
            _show_result(result)
        return Exit.GOOD
    with stopping(runner):
        outlook = library.look(access, runner, named=also or (), allowed=allow or ())
    found = findings(outlook.inventory, access.cluster.retention, outlook.now)
    if as_json:
        say(json.dumps(plan_data(access.cluster.name, outlook, found), indent=1))
    else:
        from pgdrill.retention.terminal import show_plan

        show_plan(access.cluster.name, outlook, found, out())
        _tell_how(access.cluster.name, outlook)
    return Exit.COULD_NOT if outlook.refusals else Exit.GOOD


def _show_result(result: PruneResult) -> None:
    from pgdrill.retention.formats import size
    from pgdrill.text import count

    if not result.applied:
        say(f"Nothing is to go: {_stay(result)}")
        return
    say(
        f"Deleted {count(result.backups_deleted, 'base backup')},"
        f" {count(result.wal_segments_deleted, 'WAL segment')} and"
        f" {count(result.dumps_deleted, 'dump')}: {size(result.freed_bytes)}. {_stay(result)}"
    )
    for name in result.locked:
        say(f"Locked by the store, still there: {name}")
    for words in result.kept:
        say(f"Kept after all: {words}")
    for name in result.left:
        say(f"Not gone, although the tool said so: {name}")
    say(f"Journal: {result.journal}")


def _stay(result: PruneResult) -> str:
    from pgdrill.text import count

    return (
        f"{count(result.backups_kept, 'base backup')}"
        f" {'stays' if result.backups_kept == 1 else 'stay'}."
    )


def _tell_how(cluster: str, outlook: Outlook) -> None:
    if outlook.refusals:
        say("\nNothing would be deleted: see what is refused, and its hint.")
    elif outlook.plan.steps:
        say(
            f"\nNothing was deleted. To do exactly this: pgdrill prune {cluster} --apply --plan"
            f" {outlook.plan.digest}"
        )


@command
def window(
    context: typer.Context, cluster: ClusterArgument = "", as_json: JsonOption = False
) -> int:
    """Show the instants that can be restored now, and what keeping them takes.

    Without CLUSTER: of every cluster.

    Fails if something that is held is gone.
    """
    from pgdrill.host.process import Runner
    from pgdrill.reports.terminal import problem
    from pgdrill.retention.collect import take_inventory
    from pgdrill.retention.formats import window_data
    from pgdrill.retention.window import window_of

    session = session_of(context)
    names = [cluster] if cluster else session.settings.names
    windows: list[Window] = []
    unseen: list[Problem] = []
    code = Exit.GOOD
    for name in names:
        if len(names) > 1 and name in session.settings.wrong:
            unseen.append(session.settings.wrong[name].problem)
            continue
        access = session.access(name)
        inventory = take_inventory(access, Runner())
        unseen += inventory.unseen
        windows.append(window_of(name, inventory, access.cluster.retention, datetime.now(UTC)))
        code = max(code, _tell_of_broken(inventory))
    if as_json:
        say(json.dumps([window_data(one) for one in windows], indent=1))
    else:
        for one in windows:
            _show_window(one)
    for it in unseen:
        err().print(problem(f"pgdrill: {it.reason}", it.thing, it.found, it.expected, it.hint))
    return Exit.COULD_NOT if unseen else code


def _show_window(one: Window) -> None:
    from rich.text import Text

    from pgdrill.reports.terminal import pairs
    from pgdrill.retention.formats import LINE_WIDTH, SIDES, end_words, size, window_line
    from pgdrill.text import count

    console = out()
    console.print(
        Text(
            f"Cluster {one.cluster}" + (f", timeline {one.timeline}" if one.timeline else ""),
            "bold",
        )
    )
    line = window_line(one, max(10, min(LINE_WIDTH, console.width - SIDES)))
    console.print(
        Text(line if console.encoding.startswith("utf") else line.translate(PLAIN)), soft_wrap=True
    )
    for span in one.spans:
        end = (
            f"{span.end:%Y-%m-%d %H:%M:%S} UTC at least" if span.end else "the newest archived WAL"
        )
        out().print(
            Text(
                f"every instant from {span.start:%Y-%m-%d %H:%M:%S} UTC to {end} ({span.start_lsn}"
                f" to {span.end_lsn}), from {count(len(span.backups), 'base backup')}"
            ),
            soft_wrap=True,
        )
    for left in one.left_out:
        console.print(
            Text(
                f"base backup {left.name} does not count: {left.why}\n  hint: {left.hint}", "yellow"
            ),
            soft_wrap=True,
        )
    for other in one.other_ends:
        out().print(
            Text(end_words(other, one.timeline), "bold red" if other.stray else "yellow"),
            soft_wrap=True,
        )
    out().print(
        pairs(
            [
                ("base backups", f"{one.backups}, {size(one.backup_bytes)}"),
                ("WAL", f"{count(one.wal_segments, 'segment')}, {size(one.wal_bytes)}"),
                ("dumps", f"{one.dumps}, {size(one.dump_bytes)}"),
                (
                    "WAL a day",
                    size(one.wal_bytes_a_day) if one.wal_bytes_a_day is not None else UNMEASURED,
                ),
                ("in use", size(one.stored_bytes)),
                (
                    "in 30 days",
                    (
                        size(one.forecast_30_days_bytes)
                        if one.forecast_30_days_bytes is not None
                        else UNMEASURED
                    ),
                ),
            ]
        )
    )


@command
def hold_add(
    context: typer.Context,
    cluster: NamedCluster,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="a base backup's or a dump's full name")
    ],
    why: Annotated[
        str, typer.Option("--why", metavar="TEXT", help="shown wherever it keeps something")
    ] = ...,  # type: ignore[assignment]
    until: Annotated[
        str, typer.Option("--until", metavar="DATE", help="2027-06-30, or with time and zone")
    ] = ...,  # type: ignore[assignment]
    wait: Annotated[
        float,
        typer.Option(
            "--wait", metavar="SECONDS", min=0, help="for a prune that runs to read the hold"
        ),
    ] = 120,
    as_json: JsonOption = False,
) -> int:
    """Hold a backup or dump until a day.

    Ends well only once it is certain that no prune that runs will delete it.
    """
    from pgdrill.retention import holds

    hold = holds.add_hold(
        session_of(context).access(cluster),
        name,
        why=why,
        until=_day(until),
        by=getpass.getuser(),
        wait_seconds=wait,
        tell=lambda words: typer.echo(f"pgdrill: {words}", err=True),
    )
    _say([hold], "held", as_json)
    return Exit.GOOD


@command
def hold_list(
    context: typer.Context, cluster: ClusterArgument = "", as_json: JsonOption = False
) -> int:
    """List all holds, those that have run out too. Fails if what one holds is gone."""
    from pgdrill.host.process import Runner
    from pgdrill.retention import holds
    from pgdrill.retention.collect import take_inventory

    access = session_of(context).access(cluster)
    found = holds.list_holds(access)
    _say(found, "held", as_json)
    if not found and not as_json:
        say("Nothing is held.")
    return _tell_of_broken(take_inventory(access, Runner())) if found else Exit.GOOD


@command
def hold_remove(
    context: typer.Context,
    cluster: NamedCluster,
    name: Annotated[str, typer.Argument(metavar="NAME", help="what was held")],
    as_json: JsonOption = False,
) -> int:
    """Take a hold off; what it protected may go with the next run."""
    from pgdrill.retention import holds

    _say(
        holds.remove_hold(session_of(context).access(cluster), name, getpass.getuser()),
        "no longer held",
        as_json,
    )
    return Exit.GOOD


def _tell_of_broken(inventory: Inventory) -> Exit:
    from pgdrill.reports.terminal import problem
    from pgdrill.retention.refusals import broken_holds

    broken = broken_holds(inventory)
    for one in broken:
        err().print(problem(f"pgdrill: {one.reason}", one.thing, one.found, one.expected, one.hint))
    return Exit.FAILED if broken else Exit.GOOD


def _say(holds: list[HoldRecord], how: str, as_json: bool) -> None:
    if as_json:
        say(json.dumps([hold.model_dump(mode="json") for hold in holds], indent=1))
        return
    for hold in holds:
        over = ", run out" if hold.until <= datetime.now(UTC) else ""
        say(
            f"{hold.name} {how} until {hold.until:%Y-%m-%d %H:%M} UTC{over}: {hold.why} ({hold.by})"
        )


def _day(text: str) -> datetime:
    """A day's end, or a moment with its zone."""
    wrong = typer.BadParameter(
        f"{text!r} is neither 2027-06-30 nor a time with its zone", param_hint="--until"
    )
    try:
        moment = datetime.fromisoformat(
            f"{text}T23:59:59Z" if len(text) == len("2027-06-30") else text
        )
    except ValueError:
        raise wrong from None
    if moment.tzinfo is None:
        raise wrong
    return moment.astimezone(UTC)


hold_app.command("add")(hold_add)
hold_app.command("list")(hold_list)
hold_app.command("remove")(hold_remove)

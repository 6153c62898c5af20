"""``pgdrill health``: how it stands with the backups, between two drills."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from pgdrill.cli.app import ClusterArgument, JsonOption, command, out, say, session_of

if TYPE_CHECKING:
    from pgdrill.cli.app import Session
    from pgdrill.health import HealthReport, Watcher
    from pgdrill.health.check import Cost

EVERY_SECONDS = 10.0
SECONDS = 60.0


@command
def health(
    context: typer.Context,
    cluster: ClusterArgument = "",
    nagios: Annotated[
        bool,
        typer.Option(
            "--nagios",
            help="one line with perfdata; exit codes 0 ok, 1 warning, 2 critical, 3 unknown",
        ),
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="look again every 10 s, until it is interrupted")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="show every answer; without it, what is ok is counted")
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout", metavar="SECONDS", min=1, help="what has not answered by then is unknown"
        ),
    ] = SECONDS,
    as_json: JsonOption = False,
) -> int:
    """Look at the backups' health: archiving, replication, promises, the server. All clusters, or
    one.

    Only looks: production is read, and what is remembered from look to look is kept beside the
    reports.

    Exit codes: 0 ok; 1 warnings, or something is critical; 2 something could not be looked at. With
    --nagios Nagios' own.
    """
    if sum((nagios, watch, as_json)) > 1:
        raise typer.BadParameter("choose one of --nagios, --watch and --json")
    from pgdrill.errors import PgdrillError
    from pgdrill.health.render import nagios_line, print_health

    try:
        with ExitStack() as stack:
            watchers = _watchers(session_of(context), cluster, stack)
            if watch:
                return _watch(watchers, timeout, full=full)
            found = [one.look(_all(), seconds=timeout) for one in watchers]
    except PgdrillError as error:
        if not nagios:
            raise
        say(f"PGDRILL UNKNOWN - {str(error).replace('|', '/')}")
        return 3
    if nagios:
        line, code = nagios_line(found)
        say(line)
        return code
    if as_json:
        say(json.dumps([one.model_dump(mode="json") for one in found], indent=1))
    else:
        print_health(found, out(), full=full)
    codes = {one.nagios_code for one in found}
    return 1 if codes & {1, 2} else 2 if 3 in codes else 0


def _all() -> tuple[Cost, ...]:
    from pgdrill.health import COSTS

    return COSTS


def _watchers(session: Session, cluster: str, stack: ExitStack) -> list[Watcher]:
    from pgdrill.health import Watcher

    names = [cluster] if cluster else session.settings.names
    made = [Watcher(session.access(name)) for name in names]
    for one in made:
        stack.callback(one.close)
    return made


def _watch(watchers: list[Watcher], timeout: float, *, full: bool) -> int:
    """Show a live table. What is asked every five minutes stays as it was last answered."""
    from rich.console import Group
    from rich.live import Live

    from pgdrill.health.render import health_table

    shown: dict[str, HealthReport] = {}
    try:
        with Live(console=out(), auto_refresh=False) as live:
            while True:
                began = time.monotonic()
                for one in watchers:
                    found = one.look(seconds=timeout)
                    shown[found.cluster] = _with_earlier(found, shown.get(found.cluster))
                live.update(
                    Group(*(health_table(one, full=full) for one in shown.values())), refresh=True
                )
                time.sleep(max(0.0, EVERY_SECONDS - (time.monotonic() - began)))
    except KeyboardInterrupt:
        return 0


def _with_earlier(found: HealthReport, earlier: HealthReport | None) -> HealthReport:
    """Return a look with the answers of an earlier one that it did not ask for."""
    if earlier is None:
        return found
    asked = {one.check for one in found.findings}
    kept = [one for one in earlier.findings if one.check not in asked]
    return found.model_copy(update={"findings": [*found.findings, *kept]})

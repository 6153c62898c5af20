"""``pgdrill health``: how it stands with the backups, between two drills."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from pgdrill.cli.app import ClusterArgument, JsonOption, command, out, say, session_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgdrill.cli.app import Session
    from pgdrill.health import HealthReport
    from pgdrill.health.check import Cost

    Look = Callable[[tuple[Cost, ...], float], HealthReport]

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
            looks = _looks(session_of(context), cluster, stack)
            if watch:
                return _watch(looks, timeout, full=full)
            found = [look(_all(), timeout) for look in looks]
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


def _looks(session: Session, cluster: str, stack: ExitStack) -> list[Look]:
    """Return what looks at each cluster. One that is configured wrongly costs itself only, unless
    it was asked for by name.
    """
    from pgdrill.health.configuration import not_configured

    wrong = {} if cluster else session.settings.wrong

    def of_wrong(name: str) -> Look:
        return lambda _costs, _seconds: not_configured(name, wrong[name])

    names = [cluster] if cluster else session.settings.names
    return [of_wrong(name) if name in wrong else _look(session, name, stack) for name in names]


def _look(session: Session, name: str, stack: ExitStack) -> Look:
    from pgdrill.health import Watcher

    watcher = Watcher(session.access(name))
    stack.callback(watcher.close)
    return lambda costs, seconds: watcher.look(costs, seconds=seconds)


def _watch(looks: list[Look], timeout: float, *, full: bool) -> int:
    """Show a live table. What is asked every five minutes stays as it was last answered."""
    from rich.console import Group
    from rich.live import Live

    from pgdrill.health.render import health_table

    shown: dict[str, HealthReport] = {}
    try:
        with Live(console=out(), auto_refresh=False) as live:
            while True:
                began = time.monotonic()
                for look in looks:
                    found = look((), timeout)
                    shown[found.cluster] = found.after(shown.get(found.cluster))
                live.update(
                    Group(*(health_table(one, full=full) for one in shown.values())), refresh=True
                )
                time.sleep(max(0.0, EVERY_SECONDS - (time.monotonic() - began)))
    except KeyboardInterrupt:
        return 0

"""``pgdrill alert`` and ``pgdrill silence``: what is open, who is at it, what is planned."""

from __future__ import annotations

import getpass
import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from pgdrill.cli.app import (
    ClusterArgument,
    Exit,
    JsonOption,
    command,
    err,
    explain,
    say,
    session_of,
)
from pgdrill.errors import ConfigError, PgdrillError

if TYPE_CHECKING:
    from pgdrill.alerts import Alerting
    from pgdrill.alerts.model import Alert, AlertState
    from pgdrill.cli.app import Session

alert_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="See which alerts are open, say that somebody is at one, and try the channels.",
)
KEY = re.compile(r"(?:pgdrill/)?(?P<cluster>[a-z][a-z0-9_]*)/(?P<cause>[a-z0-9][a-z0-9_.-]*)")
SPAN = re.compile(r"(?P<number>[0-9]{1,4}(?:\.[0-9]{1,2})?)(?P<unit>min|[smhd])")
UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
WhyOption = Annotated[str, typer.Option("--why", metavar="TEXT", help="shown to everybody")]


@command
def silence(
    context: typer.Context,
    cluster: Annotated[str, typer.Argument(metavar="CLUSTER", help="whose planned work it is")],
    length: Annotated[
        str, typer.Option("--for", metavar="SPAN", help="30m, 2h, 1d: it ends by itself")
    ] = "",
    why: WhyOption = "",
    check: Annotated[
        str, typer.Option("--check", metavar="NAME", help="of this check alone; default: of all")
    ] = "",
    end: Annotated[bool, typer.Option("--end", help="end those that stand, now")] = False,
    as_json: JsonOption = False,
) -> int:
    """Tell nothing new of a cluster while planned work goes on.

    What began before is still told as over. What is bad when the silence ends is told then.
    """
    if end == bool(length) or bool(length) != bool(why):
        raise typer.BadParameter("give --for with --why, or --end", param_hint="--for")
    with _alerting(session_of(context), cluster) as alerting:
        made = (
            alerting.end_silences()
            if end
            else [alerting.silence(_span(length), why=why, by=getpass.getuser(), check=check)]
        )
    if as_json:
        say(json.dumps([one.model_dump(mode="json") for one in made], indent=1))
    elif not made:
        say("Nothing was silent.")
    for one in () if as_json else made:
        of = f"{cluster}{f' {one.check}' if one.check else ''}"
        until = datetime.now(UTC) if end else one.until
        words = "no longer silent since" if end else "silent until"
        say(f"{of} {words} {until:%Y-%m-%d %H:%M:%S} UTC: {one.why} ({one.by})")
    return Exit.GOOD


@command
def alert_list(
    context: typer.Context, cluster: ClusterArgument = "", as_json: JsonOption = False
) -> int:
    """List open alerts, silences that stand, and how the channels did."""
    session = session_of(context)
    names = [cluster] if cluster else session.settings.names
    code, found = Exit.GOOD, {}
    for name in names:
        try:
            with _alerting(session, name) as alerting:
                state, nobody = alerting.memory.read(), alerting.nobody
                trouble = alerting.memory.trouble or alerting.memory.offline
        except PgdrillError as error:
            explain(error, as_json=False)
            code = Exit.COULD_NOT
            continue
        found[name] = state.model_dump(mode="json", exclude={"delivered"})
        if trouble:
            err().print(f"pgdrill: {name}: {trouble}; this is what this host remembers")
            code = Exit.COULD_NOT
        if not as_json:
            _show(name, state)
            if nobody:
                say(f"{nobody[0].upper()}{nobody[1:]}.")
    if as_json:
        say(json.dumps(found, indent=1))
    return code


@command
def alert_ack(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="as `pgdrill alert list` shows it")],
    why: WhyOption = ...,  # type: ignore[assignment]
    as_json: JsonOption = False,
) -> int:
    """Say that somebody is at it: it is not told again, unless it grows worse, until it is over."""
    parts = KEY.fullmatch(key)
    if parts is None:
        raise typer.BadParameter(
            f"{key!r} is no key such as pgdrill/agents/archiver", param_hint="KEY"
        )
    with _alerting(session_of(context), parts["cluster"]) as alerting:
        alert = alerting.acknowledge(parts["cause"], why=why, by=getpass.getuser())
    if as_json:
        say(alert.model_dump_json(indent=1))
    else:
        say(f"{key} acknowledged: {why}")
    return Exit.GOOD


@command
def alert_test(
    context: typer.Context,
    channel: Annotated[
        str, typer.Argument(metavar="CHANNEL", help="its name in dr.toml; default: all")
    ] = "",
    as_json: JsonOption = False,
) -> int:
    """Send a test by each channel, its beginning and its end, and say which took it.

    Exit codes: 0 all took it; 2 one did not, or there is none.
    """
    from pgdrill.alerts.trying import tried

    settings = session_of(context).settings
    names = [one.name for one in settings.alerts.channels]
    if not names or (channel and channel not in names):
        besides = settings.wrong[""].problem.found if "" in settings.wrong else ""
        raise ConfigError(
            "unknown-channel",
            f"alert channel {channel!r}" if channel else "alert channels",
            found=(f"only {', '.join(names)}" if names else "none")
            + (f" ({besides})" * bool(besides)),
            expected=f"a table [[alerts.channels]] in {settings.source}",
            hint="add or correct the table (docs/how-to/alerts.md)",
        )
    chosen = [one for one in settings.alerts.channels if channel in ("", one.name)]
    results = tried(chosen)
    if as_json:
        say(
            json.dumps(
                [{"channel": name, "failure": failure} for name, failure in results], indent=1
            )
        )
    else:
        for name, failure in results:
            say(f"{name}: {'did not take it: ' + failure if failure else 'took it'}")
    return Exit.COULD_NOT if any(failure for _, failure in results) else Exit.GOOD


def _alerting(session: Session, cluster: str) -> Alerting:
    from pgdrill.alerts import Alerting

    return Alerting(session.access(cluster), session.settings.alerts)


def _show(cluster: str, state: AlertState) -> None:
    from pgdrill.alerts.model import key_of

    now = datetime.now(UTC)
    lasting = {cause: one for cause, one in state.alerts.items() if one.open}
    for cause, alert in sorted(lasting.items()):
        say(f"{key_of(cluster, cause)}  {_words(cause, alert, state, now)}")
    if not lasting:
        say(f"{cluster}: no alert is open.")
    for one in state.silences:
        if one.until > now:
            of = f"{cluster}{f' {one.check}' if one.check else ''}"
            say(f"{of} silent until {one.until:%Y-%m-%d %H:%M} UTC: {one.why} ({one.by})")
    for name, record in sorted(state.channels.items()):
        if record.failed or record.lost:
            counts = f"{record.sent} sent, {record.failed} failed, {record.lost} given up"
            say(f"channel {name}: {counts}; the last failure: {record.failure}")


def _words(cause: str, alert: Alert, state: AlertState, now: datetime) -> str:
    from pgdrill.alerts.words import span
    from pgdrill.text import joined, one_line

    found = one_line(joined(alert.findings[0].found)) if alert.findings else ""
    told = "told to " + ", ".join(alert.told_to) if alert.told_to else "told to nobody"
    if alert.hidden_by:
        told += f"; a consequence of {alert.hidden_by}"
    elif any(one.holds(cause, now) for one in state.silences):
        told += "; silent"
    if alert.acknowledged:
        told += f"; acknowledged by {alert.acknowledged.by}: {alert.acknowledged.why}"
    since = alert.since or now
    return (
        f"{alert.severity} since {since:%Y-%m-%d %H:%M} UTC ({span(now - since)}): {found} [{told}]"
    )


def _span(text: str) -> timedelta:
    """A span as people write it: 30m, 2h, 1d."""
    parts = SPAN.fullmatch(text.strip())
    if parts is None:
        raise typer.BadParameter(f"{text!r} is no span such as 30m, 2h or 1d", param_hint="--for")
    return timedelta(seconds=float(parts["number"]) * UNITS[parts["unit"]])


alert_app.command("list")(alert_list)
alert_app.command("ack")(alert_ack)
alert_app.command("test")(alert_test)

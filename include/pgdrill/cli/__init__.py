"""``pgdrill``: the same jobs without Airflow, for the day Airflow is gone too.

Nothing here imports the library at the top: ``pgdrill --help`` is asked for more often than a
drill.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from pgdrill.cli import (
    alert,
    baseline,
    config,
    doctor,
    dump,
    forecast,
    health,
    init,
    jobs,
    label,
    leases,
    queue,
    retention,
    show,
    sweeping,
    watch,
)
from pgdrill.cli import heartbeat as beating
from pgdrill.cli.app import app

__all__ = ["app", "main"]

app.command("init")(init.init)
app.command("backup")(jobs.backup)
app.command("baseline")(baseline.baseline)
app.command("backups")(show.backups)
app.command("drill")(jobs.drill)
app.command("destroy")(jobs.destroy)
app.command("sweep")(sweeping.sweep)
app.command("verify")(jobs.verify)
app.command("report")(show.report)
app.command("checks")(show.checks)
app.command("doctor")(doctor.doctor)
app.command("health")(health.health)
app.command("watch")(watch.watch)
app.command("archive-command")(show.archive_command)
app.command("label")(label.label)
app.command("heartbeat")(beating.heartbeat)
app.command("prune")(retention.prune)
app.command("window")(retention.window)
app.add_typer(retention.hold_app, name="hold")
app.command("silence")(alert.silence)
app.add_typer(alert.alert_app, name="alert")
app.command("leases")(leases.leases)
app.command("dump")(dump.dump)
app.command("dumps")(dump.dumps)
app.command("restore-table")(dump.restore_table)
app.add_typer(queue.queue_app, name="queue")
app.command("migrate")(dump.migrate)
forecast.app.command("indexes")(dump.forecast_indexes)
app.add_typer(config.app, name="config")
app.add_typer(forecast.app, name="forecast")


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Ends the process with one of :class:`pgdrill.cli.app.Exit`'s codes."""
    for stream in (sys.stdout, sys.stderr):
        # a terminal that knows ASCII alone gets the rest as its numbers
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app(args=list(arguments) if arguments is not None else None, prog_name="pgdrill")

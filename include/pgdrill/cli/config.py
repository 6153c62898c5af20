"""``pgdrill config check``: what the file says, as pgdrill understood it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from pgdrill.cli.app import (
    ConfigOption,
    Exit,
    JsonOption,
    command,
    err,
    explain,
    out,
    say,
    session_of,
)
from pgdrill.errors import ConfigError
from pgdrill.text import count
from pgdrill.tool_facts import TOOLS

if TYPE_CHECKING:
    from pathlib import Path

    from pgdrill.config import Cluster, Deviation, Settings, VectorColumn

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at the configuration.")


@app.callback()
def _group() -> None:
    """Keeps ``check`` a command of its own; a group with one command would become that command."""


@app.command("check")
@command
def check(context: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Check the file and list what was found in it. Nothing is contacted, nothing is changed."""
    from rich.text import Text

    from pgdrill.access import Access
    from pgdrill.checks.custom_sql import read_checks
    from pgdrill.config import config_path
    from pgdrill.doctor import diagnose
    from pgdrill.doctor.render import print_line
    from pgdrill.reports.terminal import pairs

    session = session_of(context, config)
    settings = session.settings
    file = session.config or config_path()
    looked = {
        name: diagnose(Access(cluster), parts=("configuration",))
        for name, cluster in settings.clusters.items()
    }
    keys = _keys(settings)
    code = (
        Exit.COULD_NOT
        if settings.wrong or keys or any(found.exit_code for found in looked.values())
        else Exit.GOOD
    )
    if as_json:
        problems = [
            asdict(error.problem)
            for cluster in settings.clusters.values()
            for error in read_checks(cluster)[1]
        ]
        lines = {
            name: [line.model_dump(mode="json") for line in found.lines]
            for name, found in looked.items()
        }
        wrong = {name: asdict(error.problem) for name, error in settings.wrong.items()}
        say(
            json.dumps(
                {
                    "file": str(file),
                    **settings.model_dump(mode="json"),
                    "wrong": wrong,
                    "broken_own_checks": problems,
                    "environment": [asdict(error.problem) for error in keys],
                    "examinations": lines,
                },
                indent=1,
            )
        )
        return code
    out().print(
        Text(_verdict(file, settings), style="bold red" if settings.wrong else "bold green"),
        soft_wrap=True,
    )
    for name, cluster in settings.clusters.items():
        out().print()
        out().print(Text(f"cluster {name}", style="bold"))
        out().print(pairs(_found(cluster)))
        for line in looked[name].lines:
            if line.status in ("red", "warn", "unknown"):
                print_line(line, err())
    for error in (*settings.wrong.values(), *keys):
        explain(error, as_json=False)
    out().print(
        Text("\nThat is the file. What the jobs need on this host: pgdrill doctor CLUSTER"),
        soft_wrap=True,
    )
    return code


def _keys(settings: Settings) -> list[ConfigError]:
    """What is wrong with this shell's keys, by name alone; Connections, which may bring others, are
    Airflow's.
    """
    from pgdrill.access import Access
    from pgdrill.repository.object_store import whole_pair

    for cluster in settings.clusters.values():
        if cluster.repository.url.startswith("s3://"):
            try:
                whole_pair(Access(cluster).environment)
            except ConfigError as error:
                return [error]
    return []


def _verdict(file: Path, settings: Settings) -> str:
    """The first line: one cluster that is wrong makes the whole file red, though the others can be
    used.
    """
    if settings.wrong:
        lost = ", ".join(name or "tables that are no cluster's" for name in settings.wrong)
        return f"{file} is not valid: wrong {lost}; can be used: {', '.join(settings.clusters)}"
    return f"{file} is valid: {count(len(settings.clusters), 'cluster')}"


def _found(cluster: Cluster) -> list[tuple[str, str]]:
    from pgdrill.reports.terminal import seconds

    server, where, drill = cluster.server, cluster.repository, cluster.drill
    return [
        (
            "server",
            server.dsn
            or (
                f"Airflow connection {server.conn_id}"
                if server.conn_id
                else "libpq's defaults (PG... variables)"
            ),
        ),
        (
            "connections",
            ", ".join(filter(None, (server.conn_id, where.conn_id)))
            or "none: secrets from the environment",
        ),
        ("data directory", f"{server.data_directory} ({_here(server.data_directory.is_dir())})"),
        ("PostgreSQL", f"{server.bin_dir} ({_here((server.bin_dir / 'postgres').is_file())})"),
        ("databases", ", ".join(server.databases) or "every one that allows connections"),
        ("backup tool", f"{where.tool}, {_program(cluster)}"),
        ("repository", where.url + (f" at {where.endpoint_url}" if where.endpoint_url else "")),
        ("reports", cluster.reports_url or f"{where.url}/pgdrill"),
        ("base backup", f"{cluster.backup.schedule} (cron, UTC)"),
        (
            "restore drill",
            (
                f"{drill.schedule} (cron, UTC), below {drill.work_directory}, durability"
                f" {drill.durability}"
            ),
        ),
        ("promises", f"RTO {seconds(drill.rto_seconds)}, RPO {seconds(drill.rpo_seconds)}"),
        (
            "vector columns",
            "\n".join(map(_column, cluster.vectors))
            or "all that are found, with the default thresholds",
        ),
        ("known deviations", "\n".join(map(_deviation, cluster.deviations)) or "none"),
        ("own SQL checks", _own(cluster)),
        ("application test", " ".join(cluster.application_test.command) or "none"),
        ("owner", cluster.owner),
    ]


def _deviation(one: Deviation) -> str:
    from pgdrill.reports.deviations import today

    over = ", which is OVER: red again" if one.until < today() else ""
    model = f", vectors of {one.model}" if one.model else ""
    return f"{one.check} of {one.object}{model}: {one.reason}, until {one.until}{over}"


def _own(cluster: Cluster) -> str:
    from pgdrill.checks.custom_sql import read_checks

    good, broken = read_checks(cluster)
    names = ", ".join(check.name for check in good) or "none"
    return (
        f"{names}{f'; {len(broken)} BROKEN' if broken else ''}"
        f" ({cluster.home / cluster.checks_directory})"
    )


def _program(cluster: Cluster) -> str:
    facts, configured = TOOLS[cluster.repository.tool], cluster.repository.binary
    if found := facts.found(configured):
        return f"found at {found}"
    looked = facts.executable(configured) if configured else "looked on PATH"
    return f"NOT found on this host ({looked})"


def _here(present: bool) -> str:
    return "on this host" if present else "not on this host"


def _column(column: VectorColumn) -> str:
    parts = [
        f"{column.database + '.' if column.database else ''}{column.table}.{column.column}",
        f"recall@10 >= {column.min_recall_at_10:g} of {column.probes} probes",
    ]
    if column.allow_null:
        parts.append("NULL allowed")
    if not column.index_required:
        parts.append("no index required")
    return ", ".join(parts)

"""``pgdrill forecast rto``: how long a recovery will take, and what would make it shorter."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgdrill.cli.app import ClusterArgument, Exit, JsonOption, command, out, say, session_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgdrill.reports.forecast import Forecast, Inputs, Lever

app = typer.Typer(no_args_is_help=True, help="What will take how long, from what was measured.")


@app.command("rto")
@command
def rto(
    context: typer.Context,
    cluster: ClusterArgument = "",
    probe_too: Annotated[
        bool,
        typer.Option(
            "--probe/--no-probe",
            help="read from the store and write to the disk for some seconds, to tell what helps",
        ),
    ] = True,
    as_json: JsonOption = False,
) -> int:
    """Forecast the time to running and to correct vector search: now, on the worst day, and larger.

    Exit 1: the RTO will be broken.
    """
    from pgdrill.baseline.own_system import own_backups
    from pgdrill.host.tuning import cores, fetch_streams
    from pgdrill.reports.forecast import breaks_at, collect, forecast, levers, probe, scenarios

    access = session_of(context).access(cluster)
    inputs = collect(access)
    found = [(name, forecast(inputs.history, load)) for name, load in scenarios(inputs)]
    promise = access.cluster.drill.rto_seconds
    factor = breaks_at(inputs.history, inputs.worst, promise)
    helping: list[Lever] = []
    if probe_too:
        where = access.cluster.repository
        newest = max(
            own_backups(access, access.repository.backups()), key=lambda backup: backup.finish_time
        )
        parts = access.repository.parts(newest)
        probed = probe(
            access.objects,
            parts,
            access.cluster.state_directory,
            fetch_streams(cores=cores(), streams=where.streams)[0],
        )
        helping = levers(inputs, probed, where.compression or access.tool.default_compression)
    kept = found[1][1].correct.likely <= promise
    if as_json:
        say(json.dumps(_plain(inputs, found, promise, factor, helping), indent=1))
    else:
        _show(inputs, found, promise, factor, helping)
    return Exit.GOOD if kept else Exit.FAILED


def _plain(
    inputs: Inputs,
    found: Sequence[tuple[str, Forecast]],
    promise: float,
    factor: float | None,
    helping: Sequence[Lever],
) -> dict[str, Any]:
    return {
        "drills": len(inputs.history),
        "rto_seconds": promise,
        "breaks_at_times_the_size": factor,
        "breaks_on": (
            breaks.isoformat() if (breaks := inputs.breaks_on(factor, datetime.now(UTC))) else None
        ),
        "bytes_per_day": inputs.bytes_per_day,
        "segments_per_day": inputs.segments_per_day,
        "next_base_at": inputs.next_base_at.isoformat(),
        "forecasts": [{"scenario": name, **asdict(one)} for name, one in found],
        "levers": [asdict(lever) for lever in helping],
    }


def _show(
    inputs: Inputs,
    found: Sequence[tuple[str, Forecast]],
    promise: float,
    factor: float | None,
    helping: Sequence[Lever],
) -> None:
    from rich.text import Text

    from pgdrill.reports.listing import grid
    from pgdrill.reports.terminal import seconds, size

    console = out()
    rows = [
        (
            name,
            size(int(one.load.base_bytes)),
            f"{one.load.wal_segments:.0f}",
            seconds(one.running.likely),
            seconds(one.correct.likely),
            f"{seconds(one.correct.low)} to {seconds(one.correct.high)}",
            "kept" if one.correct.likely <= promise else "BROKEN",
        )
        for name, one in found
    ]
    console.print(
        grid(
            (
                "recovery",
                "base",
                "WAL segments",
                "running",
                "correct vector search",
                "between",
                "RTO",
            ),
            rows,
            right=("base", "WAL segments", "running", "correct vector search"),
        )
    )
    worst = found[1][1]
    parts = ", ".join(f"{name} {seconds(span.likely)}" for name, span in worst.parts.items())
    drills = f"{len(inputs.history)} drill{'s' if len(inputs.history) > 1 else ''}"
    console.print(Text(f"From {drills}. The worst day's parts: {parts}."))
    limit = f"The RTO of {seconds(promise)} "
    if factor is None:
        console.print(Text(limit + "is kept at any size that makes sense."))
    elif factor < 1:
        console.print(
            Text(limit + "will be broken on the worst day, at today's size.", style="bold red")
        )
    else:
        breaks = inputs.breaks_on(factor, datetime.now(UTC))
        grown = f", which at its growth it reaches on {breaks:%d %B %Y}" if breaks else ""
        console.print(
            Text(
                limit + f"will be broken at {factor:.1f} times today's size"
                f" ({size(int(factor * worst.load.base_bytes))}){grown}."
            )
        )
    for lever in helping:
        saved = (
            f"saves {seconds(lever.saves_seconds)}"
            if lever.saves_seconds >= 0.05
            else "saves nothing"
        )
        console.print(Text(f"{lever.name}: {saved}; {lever.because}"), soft_wrap=True)

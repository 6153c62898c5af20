"""``pgdrill heartbeat``: the rows that prove what instant a restored cluster is of."""

from __future__ import annotations

import json
import signal
import threading
from typing import Annotated

import typer

from pgdrill.cli.app import ClusterArgument, Exit, JsonOption, command, say, session_of


@command
def heartbeat(
    context: typer.Context,
    cluster: ClusterArgument = "",
    every: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="go on, one every so many seconds, until SIGTERM or SIGINT; 0: just one",
        ),
    ] = 0,
    as_json: JsonOption = False,
) -> int:
    """Write a row into table pgdrill_heartbeat of production. Needs INSERT on it and nothing
    else."""
    from pgdrill.baseline import heartbeat as library

    access = session_of(context).access(cluster)
    written = 1
    if every:
        stopped = threading.Event()
        before = {
            number: signal.signal(number, lambda *_: stopped.set())
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            written = library.keep_beating(access, every, stopped)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    else:
        library.beat(access)
    say(
        json.dumps({"cluster": access.cluster.name, "written": written})
        if as_json
        else f"{written} written"
    )
    return Exit.GOOD

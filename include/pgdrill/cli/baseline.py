"""``pgdrill baseline``: look at production now, and keep what it holds for a later comparison."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgdrill.cli.app import ClusterArgument, Exit, JsonOption, command, out, say, session_of

if TYPE_CHECKING:
    from pgdrill.baseline import Baseline

logger = logging.getLogger(__name__)


@command
def baseline(
    context: typer.Context,
    cluster: ClusterArgument = "",
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write it to this file, too")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Record what production holds, up to a restore point of its own; no row content is kept.

    A cluster that was restored to that restore point is compared with it by `pgdrill verify
    --baseline FILE`.
    """
    from pgdrill import baseline as library
    from pgdrill.cli.progress import progress
    from pgdrill.cli.signals import stopping
    from pgdrill.host.process import Runner
    from pgdrill.recovery.planning import new_restore_point
    from pgdrill.reports import store
    from pgdrill.reports.drill_id import new_drill_id

    session = session_of(context)
    access, runner, name = session.access(cluster), Runner(), new_drill_id()
    if output:
        _writable(output)
    with progress("looking at production", verbose=session.verbose), stopping(runner):
        taken = library.take_baseline(access, restore_point=new_restore_point(name), runner=runner)
        library.settle(access, taken, runner=runner)
        kept = store.keep_baseline(access, name, taken)
        if output:
            store.write_file(output, taken.model_dump_json(indent=1))
            kept.insert(0, str(output))
    found = _summary(name, taken, kept)
    if as_json:
        say(json.dumps(found, indent=1))
    else:
        _show(found)
    return Exit.COULD_NOT if taken.unread else Exit.GOOD


def _writable(file: Path) -> None:
    """Said before production is looked at, not after."""
    import os

    from pgdrill.errors import ConfigError

    if file.is_dir() or not os.access(file.parent, os.W_OK):
        raise ConfigError(
            "bad-output",
            f"--output {file}",
            found="a folder" if file.is_dir() else "a folder that cannot be written to",
            expected="a file in a folder that exists",
            hint="name another file",
        )


def _summary(name: str, taken: Baseline, kept: list[str]) -> dict[str, Any]:
    return {
        "id": name,
        "cluster": taken.cluster,
        "taken_at": taken.taken_at.isoformat(),
        "restore_point": taken.restore_point,
        "lsn": taken.lsn,
        "read_on": taken.read_on,
        "seconds": round(taken.seconds, 3),
        "kept_at": kept,
        "databases": {
            database: {
                "tables": len(state.tables),
                "tables_read_whole": sum(1 for table in state.tables.values() if table.content),
                "rows": sum(
                    table.content.rows if table.content else table.estimated_rows
                    for table in state.tables.values()
                ),
                "bytes": sum(table.bytes for table in state.tables.values()),
                "sequences": len(state.sequences),
                "state_tables": sorted(state.state_tables),
                "schema_objects": len(state.schema_objects.objects),
            }
            for database, state in taken.databases.items()
        },
        "unread": taken.unread,
        "not_queried": taken.not_queried,
    }


def _show(found: dict[str, Any]) -> None:
    from rich.text import Text

    from pgdrill.reports.terminal import pairs, seconds, size

    style, words = ("bold red", "incomplete") if found["unread"] else ("bold green", "complete")
    out().print(Text(f"Baseline {found['id']} of cluster {found['cluster']}: {words}.", style))
    out().print(
        pairs(
            [
                ("restore point", f"{found['restore_point']} at {found['lsn']}"),
                ("read on", f"{found['read_on']}, {seconds(found['seconds'])}"),
                *(
                    (
                        name,
                        (
                            f"{state['tables']} tables ({state['tables_read_whole']} read whole),"
                            f" {state['rows']} rows, {size(state['bytes'])}"
                        ),
                    )
                    for name, state in found["databases"].items()
                ),
                *((f"not read: {thing}", why) for thing, why in found["unread"].items()),
                *((f"not queried: {thing}", why) for thing, why in found["not_queried"].items()),
            ]
        )
    )
    for place in found["kept_at"]:
        out().print(Text(f"Kept in {place}"), soft_wrap=True)

"""The command that clears up after jobs that were killed."""

from __future__ import annotations

import json

import typer

from pgdrill.cli.app import Exit, JsonOption, command, explain, say, session_of


@command
def sweep(context: typer.Context, as_json: JsonOption = False) -> int:
    """End and remove what killed jobs left on this host: every cluster's folders that nobody has a
    right to any more.
    """
    from pgdrill.recovery.sweep import sweep as library

    settings = session_of(context).settings
    places = {cluster.drill.work_directory for cluster in settings.clusters.values()}
    swept = library(places)
    kinds = {"removed": swept.removed, "held": swept.held, "failed": swept.failed}
    if as_json:
        say(
            json.dumps(
                {
                    kind: [{"folder": str(found.folder), "why": found.why} for found in every]
                    for kind, every in kinds.items()
                },
                indent=1,
            )
        )
    else:
        words = {"removed": "Removed", "held": "Left", "failed": "Cannot remove"}
        for kind, every in kinds.items():
            for found in every:
                say(f"{words[kind]} {found.folder}: {found.why}.")
        for place in sorted(place for place in places if not place.is_dir()):
            say(f"There is no folder {place} (drill.work_directory), so no job has worked there.")
        if not any(kinds.values()):
            say("No killed job has left anything.")
    for error in settings.wrong.values():  # where it works is not known
        explain(error, as_json=False)
    if swept.failed:
        return Exit.FAILED
    return Exit.COULD_NOT if settings.wrong else Exit.GOOD

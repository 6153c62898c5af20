"""The command that shows who works on a repository."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from pgdrill.cli.app import ClusterArgument, Exit, JsonOption, command, session_of

if TYPE_CHECKING:
    from pgdrill.repository.leases import Seen


@command
def leases(
    context: typer.Context, cluster: ClusterArgument = "", as_json: JsonOption = False
) -> int:
    """Show which jobs, on which hosts, hold a lease in the store, until when, and what they keep
    from being deleted.
    """
    from pgdrill.repository.leases import board_of

    now = datetime.now(UTC)
    standing = [
        one for one in board_of(session_of(context).access(cluster)).look() if one.stands(now)
    ]
    if as_json:
        typer.echo(json.dumps([_data(one) for one in standing], indent=1))
        return Exit.GOOD
    for one in standing:
        typer.echo(f"{one}{_what(one)}")
    if not standing:
        typer.echo("Nobody holds a lease.")
    return Exit.GOOD


def _data(one: Seen) -> dict[str, object]:
    return {
        "key": one.key,
        "until": one.until.isoformat(),
        "lease": one.lease.model_dump(mode="json") if one.lease else None,
    }


def _what(one: Seen) -> str:
    from pgdrill.postgres.wal import format_lsn

    lease = one.lease
    if lease is None or lease.everything:
        return ": nothing is deleted meanwhile"
    words = [f"deletes {', '.join(lease.deleting)}"] if lease.deleting else []
    if lease.names:
        words.append(f"keeps {', '.join(lease.names)}")
    if lease.wal_from is not None:
        words.append(f"keeps WAL from {format_lsn(lease.wal_from)} on")
    return f": {'; '.join(words)}" if words else ""

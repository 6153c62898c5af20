"""``pgdrill watch``: the service that looks all the time, and tells."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pgdrill.cli.app import Exit, command, explain, log_to_stderr, say, session_of

if TYPE_CHECKING:
    from pgdrill.cli.app import Session


@command
def watch(
    context: typer.Context,
    forget: Annotated[
        bool,
        typer.Option(
            "--forget", help="do not watch; miss no service any more that ran here before"
        ),
    ] = False,
) -> int:
    """Watch every cluster until SIGTERM: look every 10 s, write heartbeats, and tell by the alerts'
    channels.

    One cluster that dr.toml describes wrongly costs itself only. dr.toml is read again when it
    changes, and on SIGHUP.
    """
    session = session_of(context)
    if forget:
        return _forget(session)
    from pgdrill.config import config_path
    from pgdrill.watch.service import Service

    log_to_stderr(logging.INFO)
    ended = Service(session.config or config_path()).run()
    if not ended:  # a channel or a server hangs: what it was about is remembered, and made up for
        logging.getLogger(__name__).warning("something hangs, and is left")
        sys.stderr.flush()
        os._exit(Exit.GOOD)
    return Exit.GOOD


def _forget(session: Session) -> int:
    from pgdrill.errors import PgdrillError
    from pgdrill.health.watch_beat import forget_beat

    code = Exit.GOOD
    for name in session.settings.names:
        try:
            there = forget_beat(session.access(name).reports)
        except PgdrillError as error:
            explain(error, as_json=False)
            code = Exit.COULD_NOT
            continue
        say(f"{name}: {'no watch is expected any more' if there else 'none was'}")
    return code

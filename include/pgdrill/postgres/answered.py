"""A limit for servers that take a question and never answer it.

``statement_timeout`` is the server's to keep, and libpq's timeouts are met by a server, a pooler or
a proxy that takes every byte and sends none. So this side hangs up by its own clock.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import psycopg


@contextlib.contextmanager
def answered_within(connection: psycopg.Connection, seconds: float) -> Iterator[None]:
    """Hang up if this block has not ended after so many seconds.

    Whoever waits for an answer then gets a :class:`psycopg.OperationalError` that says so.
    """
    late = threading.Event()

    def end() -> None:
        late.set()
        hang_up(connection)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except psycopg.OperationalError:
        if late.is_set():
            raise psycopg.OperationalError(f"no answer within {seconds:g} s") from None
        raise
    finally:
        timer.cancel()


def hang_up(connection: psycopg.Connection) -> None:
    """Shut the connection's socket down: whoever waits for an answer gets an error."""
    with (
        contextlib.suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(connection.fileno())) as line,
    ):
        line.shutdown(socket.SHUT_RDWR)

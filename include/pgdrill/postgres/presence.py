"""Asking whether a server that no connection can be made to is there.

One that is gone and one that refuses are not the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from psycopg import pq
from psycopg.conninfo import make_conninfo

# A server that speaks TLS and one whose TLS is broken answer to one of these; a dead one to none.
WAYS: tuple[dict[str, str], ...] = ({}, {"sslmode": "disable", "gssencmode": "disable"})
PING_SECONDS = 3
THERE = (pq.Ping.OK, pq.Ping.REJECT)  # REJECT: starting up or shutting down
# Troubles that pass by themselves, in the words of libpq (which are English here) or of a server.
PASSING = re.compile(
    r"too many (clients|connections)|remaining connection slots|starting up|shutting down|in"
    r" recovery mode|not yet accepting|"
    r"closed the connection|timeout expired|connection reset|broken pipe|administrator command",
    re.IGNORECASE,
)


def tried(words: Mapping[str, str]) -> bool:
    """Return True if libpq goes as far as to try.

    Words that it does not take say nothing of a server.
    """
    return (
        pq.PGconn.ping(
            make_conninfo("", **{**words, "connect_timeout": str(PING_SECONDS)}).encode()
        )
        != pq.Ping.NO_ATTEMPT
    )


def listens(words: Mapping[str, str]) -> bool:
    """Return True if a server, or a proxy before one, answers at the address.

    It need not like the login.
    """
    for way in WAYS:
        conninfo = make_conninfo("", **{**words, **way, "connect_timeout": str(PING_SECONDS)})
        if pq.PGconn.ping(conninfo.encode()) in THERE:
            return True
    return False

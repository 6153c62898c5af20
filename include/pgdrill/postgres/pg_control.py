"""A running server's word on its pg_control.

This is the number that a cluster got when it was made, which its copies have, too.
"""

from __future__ import annotations

import psycopg


def system_identifier(connection: psycopg.Connection) -> int:
    """Ask a server for its system identifier.

    Raises :class:`psycopg.Error` where the role may not ask.
    """
    row = connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone()
    return int(row[0]) if row else 0

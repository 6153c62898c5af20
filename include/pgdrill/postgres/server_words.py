"""An error of PostgreSQL's in one line."""

from __future__ import annotations

import psycopg


def words_of(error: psycopg.Error) -> str:
    """Return the server's own words, else the driver's first line.

    Details, which may hold values, are left out.
    """
    return error.diag.message_primary or str(error).strip().partition("\n")[0]

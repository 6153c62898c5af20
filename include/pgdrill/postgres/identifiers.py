"""Names in statements that have parameters.

psycopg takes a ``%`` in them for a placeholder, quoted or not.
"""

from __future__ import annotations

from psycopg import sql


def doubled(part: sql.Composable) -> sql.SQL:
    """Return a part of a statement with parameters, whatever names it holds.

    (Without parameters ``%`` stays as it is.)
    """
    return sql.SQL(part.as_string(None).replace("%", "%%"))


def beside(taken: str, wanted: str) -> sql.Identifier:
    """Return a name for a relation in a query beside a table of the name ``taken``.

    The table would be found first where it is nearer.
    """
    return sql.Identifier(wanted if wanted != taken else f"{wanted}_")

"""The application's own test, as a drill of the demo runs it: does a search answer with what was
stored?

``python -m pgdrill_demo.smoke`` looks where ``DATABASE_URL`` points, finds a stored text's vector
through the index again, writes as the application does, and ends with 0 if all of that works. What
it wrote is taken back: a cluster that is kept for a look stays as it came.
"""

from __future__ import annotations

import os
import sys

import psycopg

SEARCH = (
    "SELECT id FROM embeddings ORDER BY embedding <=> (SELECT embedding FROM embeddings WHERE id ="
    " %s) LIMIT 5"
)
REMEMBER = (
    "INSERT INTO messages (tenant_id, conversation_id, role, body) SELECT tenant_id, id, 'user',"
    " 'after a restore' FROM conversations LIMIT 1 RETURNING 1"
)


def main() -> int:
    """Search, write, read back; the last line says what was missing."""
    with psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=10) as connection:
        stored = connection.execute("SELECT max(id) FROM embeddings").fetchone()
        found = connection.execute(SEARCH, stored).fetchall()
        if stored is None or stored not in found:
            print(f"a search for a stored vector gave {len(found)} others", file=sys.stderr)
            return 1
        if connection.execute(REMEMBER).fetchone() is None:
            print("no conversation to write a message to", file=sys.stderr)
            return 1
        connection.rollback()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

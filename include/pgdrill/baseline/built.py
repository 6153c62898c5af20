"""The figures that an HNSW or IVFFlat index was built with: its first page tells them.

The catalogs only tell those of the next build. Only whoever may read files knows: the backup job
beside the data directory, and a drill of its own copy.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from pathlib import Path

import psycopg

from pgdrill.baseline import Baseline
from pgdrill.vectors.index_pages import HEADER_BYTES, MAGIC, VERSION

logger = logging.getLogger(__name__)

Figures = dict[str, int]
PAGE_BYTES = 8192
DEFAULTS = {"hnsw": {"m": 16, "ef_construction": 64}, "ivfflat": {"lists": 100}}
INDEXES = """
SELECT c.oid::text, n.nspname, c.relname, a.amname::text, coalesce(c.reloptions, '{}'),
       pg_relation_filepath(c.oid)
FROM pg_class c JOIN pg_am a ON a.oid = c.relam JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.amname IN ('hnsw', 'ivfflat') AND c.relkind = 'i' AND c.relpersistence = 'p'
  AND pg_relation_filepath(c.oid) IS NOT NULL
ORDER BY 2, 3
"""


def figures(method: str, page: bytes) -> Figures | None:
    """Return the figures in the index's first page.

    None where it is no such page, or of an unknown version.
    """
    head = page[HEADER_BYTES:]
    if len(head) < 16 or struct.unpack_from("=II", head) != (MAGIC.get(method), VERSION):
        return None
    if method == "hnsw":
        m, ef_construction = struct.unpack_from("=HH", head, 12)
        return {"m": m, "ef_construction": ef_construction}
    return {"lists": struct.unpack_from("=H", head, 10)[0]}


def wanted(method: str, options: list[str]) -> Figures:
    """Return the figures that a build would have by the index's options."""
    named = dict(one.split("=", 1) for one in options)
    return {name: int(named.get(name, value)) for name, value in DEFAULTS[method].items()}


def read_built(
    baseline: Baseline, data_directory: Path, connect: Callable[[str], psycopg.Connection]
) -> dict[str, dict[str, Figures]]:
    """Read the figures of every index of the baseline's databases: database -> oid -> figures.

    They are read from files that the checkpoint of a backup has written. An index that was made
    anew meanwhile has no such file, or an empty one, and is left out.
    """
    found: dict[str, dict[str, Figures]] = {}
    for database in baseline.databases:
        with connect(database) as connection:
            rows = connection.execute(INDEXES).fetchall()
        for oid, schema, name, method, _, path in rows:
            try:
                with (data_directory / path).open("rb") as file:
                    told = figures(method, file.read(PAGE_BYTES))
            except OSError as error:
                logger.info(
                    "the first page of index %s.%s is not recorded: %s", schema, name, error
                )
                continue
            if told:
                found.setdefault(database, {})[oid] = told
    return found

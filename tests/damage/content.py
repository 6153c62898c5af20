"""What a cluster holds, told without any of pgdrill's checks: the judge over a drill that passed.

Tables by the text of their rows, indexes by all that they answer, the schema by ``pg_dump``. Two
clusters of the same content give the same digests, wherever their rows lie and whatever their
unused bytes are.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Sequence

import psycopg

from pgdrill.postgres.binaries import as_ordinary_user
from pgdrill.postgres.server import LocalServer
from pgdrill_demo.stack import DATABASE

Content = dict[str, str]  # a thing -> digest of it, or the error that it gave

SETTINGS = """
SET default_transaction_read_only = on; SET jit = off; SET max_parallel_workers_per_gather = 0;
SET extra_float_digits = 1; SET hnsw.ef_search = 60; SET ivfflat.probes = 4;
SET statement_timeout = '5s'
"""
# A table by a scan; then, with scans forbidden, by everything that an index of it can be asked.
SCAN = "SELECT md5(string_agg(t::text, '|' ORDER BY t::text COLLATE \"C\")) FROM ONLY {t} t"
ASKED = """
SELECT md5(string_agg(g || ':' || coalesce(found, '-'), ',' ORDER BY g))
FROM generate_series(0, 2000) g
LEFT JOIN LATERAL (
    SELECT string_agg(id::text, ' ' ORDER BY id) AS found FROM {t} t WHERE {condition}
) s ON true
"""
# Alone in its answer, an index-only scan believes the visibility map.
ONLY = "SELECT md5(string_agg(id::text, ',' ORDER BY id)) FROM {t} WHERE id > 0"
# Approximate by nature: its content is the vectors that it holds and how many of the exact
# neighbours it finds. An edge of a graph that leads elsewhere and costs no neighbour is no loss.
NEAREST = """
SELECT round(avg(hits), 3) FROM generate_series(1, 100) g, LATERAL (
    SELECT array_agg(10 * sin(g % 16 + d) + sin(g * d * 0.37) ORDER BY d)::vector AS q
    FROM generate_series(1, 12) d OFFSET 0
) probe, LATERAL (
    SELECT count(*) / 10.0 AS hits FROM (SELECT id FROM {t} ORDER BY v {operator} q LIMIT 10) found
    JOIN (SELECT id FROM {t} ORDER BY (v {operator} q) + 0 LIMIT 10) exact USING (id)
) s
"""
APPROXIMATE = ("hnsw", "ivfflat")
RECALL_LOST = 0.01
INDEXES = {
    "pkey": ASKED.replace("{condition}", "id = g"),
    "hash": ASKED.replace("{condition}", "word IN ('w' || g, 'w' || g || 'x')"),
    "spgist": ASKED.replace("{condition}", "label = 'l' || g"),
    "gin": ASKED.replace("{condition}", "tags @> ARRAY[g]"),
    "gist": ASKED.replace("{condition}", "span && int4range(g, g + 1)"),
    "brin": ASKED.replace("{condition}", "number = g"),
    "hnsw": NEAREST.replace("{operator}", "<->"),
    "ivfflat": NEAREST.replace("{operator}", "<=>"),
}
OTHERS = {
    "large objects": (
        "SELECT md5(string_agg(oid || ':' || md5(lo_get(oid)), ',' ORDER BY oid)) FROM"
        " pg_largeobject_metadata"
    ),
    "sequences": (
        "SELECT md5(string_agg(schemaname || sequencename || coalesce(last_value, 0), ',' ORDER BY"
        " 1)) FROM pg_sequences"
    ),
    # What the planner believes without looking: a hint that is wrong hides rows or indexes.
    "hints": (
        "SELECT md5(string_agg(relname || relhasindex || relhassubclass || relhasrules ||"
        " relhastriggers, ',' ORDER BY oid)) FROM pg_class WHERE relkind <> 't'"
    ),
}
VARYING = re.compile(r"^\\(un)?restrict .*$", re.MULTILINE)


def read_sets(server: LocalServer, name: Callable[[int], str], sets: Sequence[int]) -> Content:
    """Tables and indexes of the given sets."""
    found = {}
    for number in sets:
        table = name(number)
        found[f"{table} scan"] = _asked(
            server,
            SCAN.format(t=table),
            "enable_indexscan",
            "enable_bitmapscan",
            "enable_indexonlyscan",
        )
        found[f"{table} only"] = _asked(
            server, ONLY.format(t=table), "enable_seqscan", "enable_bitmapscan", "enable_indexscan"
        )
        for index, query in INDEXES.items():
            found[f"{table} {index}"] = _asked(server, query.format(t=table), "enable_seqscan")
    return found


def read_content(
    server: LocalServer, name: Callable[[int], str], sets: Sequence[int] = range(10)
) -> Content:
    """Every set, and what the whole cluster shares."""
    found = read_sets(server, name, sets)
    for thing, query in OTHERS.items():
        found[thing] = _asked(server, query)
    for database in (DATABASE, "postgres", "template1"):
        found[f"schema of {database}"] = _dumped(server, "pg_dump", "--schema-only", database)
        for catalog in (
            "pg_proc",
            "pg_type",
            "pg_operator",
            "pg_amproc",
            "pg_amop",
            "pg_opclass",
            "pg_cast",
            "pg_index",
        ):
            found[f"{catalog} of {database}"] = _asked(
                server, SCAN.format(t=catalog), database=database
            )
    found["globals"] = _dumped(server, "pg_dumpall", "--globals-only")
    return found


def _asked(server: LocalServer, query: str, *forbidden: str, database: str = DATABASE) -> str:
    try:
        with server.connect(database) as connection:
            for statement in SETTINGS.split(";"):
                connection.execute(statement)
            for setting in forbidden:
                connection.execute(f"SET {setting} = off")
            row = connection.execute(query).fetchone()
            return str(row[0]) if row else ""
    except psycopg.Error as error:
        return f"error: {error}"


def _dumped(server: LocalServer, program: str, *words: str) -> str:
    done = subprocess.run(
        [
            *as_ordinary_user(),
            server.binaries.path(program),
            "-h",
            str(server.socket_directory),
            "-p",
            str(server.port),
            "-U",
            server.superuser,
            *words,
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
        timeout=60,
    )
    if done.returncode:
        return f"error: {done.stderr}"
    return hashlib.md5(VARYING.sub("", done.stdout).encode(), usedforsecurity=False).hexdigest()


def different(before: Content, now: Content) -> list[str]:
    """What is not as it was."""
    return [
        thing
        for thing in now
        if now[thing] != before[thing] and not _as_good(thing, before[thing], now[thing])
    ]


def _as_good(thing: str, before: str, now: str) -> bool:
    if not thing.endswith(APPROXIMATE) or now.startswith("error"):
        return False
    return float(now) >= float(before) - RECALL_LOST

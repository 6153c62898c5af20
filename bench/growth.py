"""What baseline and checks cost as a database grows: ten times the rows, ten times the tables.

Three databases in one server: it is compared with itself, which costs what comparing a restored one
costs. Linear is a ratio of up to ten.
"""

from __future__ import annotations

import functools
import time

from bench.measuring import Meter, Run, in_turn
from bench.rows import Group, Row, Size, growth
from bench.stacks import running
from pgdrill.access import Access
from pgdrill.baseline import settle, take_baseline
from pgdrill.checks import CHECKS, Context
from pgdrill.checks.runner import checking
from pgdrill_demo.stack import Stack

MAKE = """
CREATE TABLE t{number} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL,
    at timestamptz DEFAULT now()
);
INSERT INTO t{number} (name) SELECT md5(i::text) FROM generate_series(1, {rows}) i;
"""
CHECKED = (
    "catalogs",
    "collations",
    "sequence-positions",
    "table-content",
    "relation-files",
    "page-checksums",
    "amcheck",
    "sequences",
)
TIMES, MOST = 10, 11.0


def measure(size: Size) -> Group:
    """Make the databases, look at each in turn."""
    shapes = {
        "base": (size.tables, size.rows),
        "rows": (size.tables, TIMES * size.rows),
        "tables": (TIMES * size.tables, size.rows),
    }
    with running(size.tool, sample=False) as stack:
        for name, (tables, rows) in shapes.items():
            make(stack, name, tables, rows)
        runs = in_turn({name: functools.partial(look, stack, name) for name in shapes}, size.rounds)
    found: list[Row] = []
    for name in ("rows", "tables"):
        found.append(
            growth(f"baseline and checks, {TIMES} x {name} ÷ 1 x", runs[name], runs["base"], MOST)
        )
        found += [
            row for part in runs["base"][0].parts if (row := _of(part, name, runs)).value > MOST
        ]
    remark = (
        f"{size.tables} tables of {size.rows} rows; rows below are of single parts beyond {MOST:g}"
    )
    return Group("growth", runs, found, [remark])


def _of(part: str, name: str, runs: dict[str, list[Run]]) -> Row:
    """The least of each: small parts are mostly noise."""
    large, small = (min(run.parts[part] for run in runs[which]) for which in (name, "base"))
    return Row(
        f"{part} alone, {TIMES} x {name} ÷ 1 x", large / small, large / small, large / small, MOST
    )


def make(stack: Stack, name: str, tables: int, rows: int) -> None:
    """A database of that shape."""
    with stack.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {name}")
    with stack.connect(name) as connection:
        for number in range(tables):
            connection.execute(MAKE.format(number=number, rows=rows))
        connection.execute("VACUUM ANALYZE")


def look(stack: Stack, name: str) -> Run:
    """Seconds of the baseline, of settling on a quiet server, and of each check."""
    cluster = stack.cluster
    access = Access(
        cluster.model_copy(
            update={"server": cluster.server.model_copy(update={"databases": (name,)})}
        ),
        stack.credentials,
    )
    with stack.connect(name) as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
    with Meter() as meter:
        parts = _parts(stack, access, name)
    return meter.run(parts=parts)


def _parts(stack: Stack, access: Access, name: str) -> dict[str, float]:
    seconds = {}
    began = time.monotonic()
    baseline = take_baseline(access)
    seconds["baseline"] = time.monotonic() - began
    began = time.monotonic()
    settle(access, baseline)
    seconds["settle"] = time.monotonic() - began
    context = Context(
        cluster=access.cluster,
        connect=checking(stack.connect, 600),
        databases=(name,),
        baseline=baseline,
        settle=lambda: True,
        settle_catalogs=lambda: True,
        prepare=stack.connect,
    )
    for check in CHECKED:
        began = time.monotonic()
        answers = list(CHECKS[check].run(context))
        seconds[check.replace("-", "_")] = time.monotonic() - began
        assert {answer.status for answer in answers} == {"pass"}, answers
    return seconds

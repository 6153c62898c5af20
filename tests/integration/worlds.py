"""A small production with vectors that a drill passes, for tests of what else productions are
like."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pgdrill.drill import drill
from pgdrill.postgres.binaries import Binaries, as_ordinary_user
from pgdrill.postgres.server import LocalServer
from pgdrill.reports.model import Report
from pgdrill_demo.stack import binaries
from tests.damage.small import SmallStack

ROWS = 400
SCHEMA = f"""
CREATE EXTENSION vector;
CREATE TABLE docs (id int PRIMARY KEY, body text, v vector(8));
INSERT INTO docs SELECT i, md5(i::text),
    (SELECT array_agg(10 * sin(i % 16 + d) + sin(i * d * 0.37))
     FROM generate_series(1, 8) d)::vector
FROM generate_series(1, {ROWS}) i;
CREATE INDEX docs_v ON docs USING hnsw (v vector_l2_ops);
COMMENT ON COLUMN docs.v IS 'pgdrill: {{"model": "made", "version": "1", "text_column": "body"}}';
ANALYZE docs;
"""


class World(SmallStack):
    """The small cluster's configuration, with time enough on a machine that has other work."""

    def write_config(self) -> None:
        super().write_config()
        text = self.config_file.read_text()
        for name, seconds in (
            ("statement_timeout_seconds", 120),
            ("timeout_seconds", 600),
            ("stall_seconds", 300),
        ):
            text = re.sub(rf"^{name} = \d+$", f"{name} = {seconds}", text, flags=re.MULTILINE)
        self.config_file.write_text(text)


@contextmanager
def production(
    tool: str,
    *,
    options: dict[str, str] | None = None,
    schema: str = SCHEMA,
    prepare: Callable[[SmallStack], None] = lambda _: None,
) -> Iterator[SmallStack]:
    """A running production, not yet backed up. ``prepare`` is called before its first start."""
    stack = World(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool=tool)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RCLONE_DIR_CACHE_TIME", "1ms")  # tests change files behind its back
            stack.create(sample=False)
        stack.primary.options.update(options or {})  # type: ignore[attr-defined]
        prepare(stack)
        stack.start()
        if schema:
            with stack.connect() as connection:
                connection.execute(schema)  # type: ignore[call-overload]
        yield stack
    finally:
        stack.remove()


def healthy(report: Report) -> None:
    """It passed, without an alarm."""
    alarms = [
        (one.name, one.thing, one.value, one.message)
        for one in report.results
        if one.status == "fail" or (one.required and one.status == "skip")
    ]
    assert not alarms
    assert report.verdict == "passed", (
        report.reason,
        report.restore.trouble,
        report.checks.trouble,
    )


def drilled(stack: SmallStack, target: str = "latest", **more: str) -> Report:
    """A drill that has to pass."""
    report = drill(stack.access, target=target, **more)
    healthy(report)
    return report


def delete(stack: SmallStack, name: str) -> None:
    """Take a backup away again."""
    from pgdrill.host.process import Runner

    home = stack.home / "delete"
    home.mkdir()
    assert Runner().run(stack.access.tool.delete(name, home=home, confirm=True)).code == 0
    shutil.rmtree(home)


@contextmanager
def empty_server(programs: Binaries | None = None, *more: str) -> Iterator[LocalServer]:
    """A new cluster with nothing in it, and its server. ``more``: words for initdb."""
    programs, home = programs or binaries(), Path(tempfile.mkdtemp(prefix="pgdrill-"))
    made = LocalServer(
        programs,
        home / "data",
        home / "s",
        home / "log",
        options={"listen_addresses": "", "fsync": "off"},
    )
    words = [
        *as_ordinary_user(),
        programs.path("initdb"),
        "-D",
        home / "data",
        "-U",
        "postgres",
        "--auth=trust",
        "--no-sync",
        "--locale=C",
        *more,
    ]
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, "LC_ALL": "C"})
    try:
        made.start()
        yield made
    finally:
        made.stop(to_be_removed=True)
        shutil.rmtree(home)

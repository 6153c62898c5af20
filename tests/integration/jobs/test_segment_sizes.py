"""WAL segments of another size than 16 MB (``initdb --wal-segsize``): everything that reads, counts
or fetches them does so right.

WAL begins just below 4 GB, where the middle digits of segments' names change: who takes them for 16
MB counts wrong there.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pgdrill.access import Access
from pgdrill.backup import take_backup
from pgdrill.baseline import segment_size
from pgdrill.cli import app
from pgdrill.drill import drill
from pgdrill.host.process import Runner
from pgdrill.postgres.binaries import as_ordinary_user
from pgdrill.postgres.wal import Segment
from pgdrill.reports.forecast.inputs import collect
from pgdrill.repository.archiver import check_archiving, wait_archived
from pgdrill.retention.prune import look, prune
from pgdrill_demo.stack import binaries, preferred_tool
from tests.conftest import TOOLS, need, thorough
from tests.integration.pruning import EASY, LATER
from tests.integration.worlds import SCHEMA, World, healthy

MB = 2**20


@contextmanager
def production(tool: str, segment_bytes: int) -> Iterator[World]:
    """A running one whose WAL begins two segments below 4 GB."""
    stack = World(
        Path(tempfile.mkdtemp(prefix="pgdrill-")), tool=need(tool), segment_bytes=segment_bytes
    )
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RCLONE_DIR_CACHE_TIME", "1ms")  # files change behind its back
            stack.create(sample=False)
        first = Segment(1, 2**32 // segment_bytes - 2, segment_bytes).name
        words = [
            *as_ordinary_user(),
            binaries().path("pg_resetwal"),
            "-l",
            first,
            str(stack.home / "primary"),
        ]
        subprocess.run(words, check=True, capture_output=True)
        stack.start()
        with stack.connect() as connection:
            connection.execute(SCHEMA)
        yield stack
    finally:
        stack.remove()


def switched(stack: World, times: int) -> None:
    """So many segments more, archived."""
    with stack.connect() as connection:
        for number in range(times):
            connection.execute("UPDATE docs SET body = body || '.' WHERE id = %s", (number + 1,))
            name = connection.execute(
                "SELECT pg_walfile_name(pg_current_wal_lsn()), pg_switch_wal()"
            ).fetchone()[0]
        wait_archived(
            connection, stack.access.repository, Segment.parse(name, stack.segment_bytes), 120
        )
        check_archiving(connection, stack.cluster)


def changed(stack: World, **sections: dict[str, object]) -> Access:
    cluster = stack.cluster
    parts = {
        name: getattr(cluster, name).model_copy(update=values) for name, values in sections.items()
    }
    return Access(cluster.model_copy(update=parts), stack.credentials)


def elsewhere(stack: World) -> Access:
    """As on a host without production's data directory, when production is gone."""
    return changed(
        stack, server={"dsn": f"host={stack.home}/gone", "data_directory": stack.home / "gone"}
    )


def told(stack: World, *words: str) -> dict:
    done = CliRunner().invoke(app, [*words, "--json"], env=stack.environment)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def archive_line_is_right(stack: World) -> None:
    line = told(stack, "archive-command", "agents")
    assert f" push {stack.segment_bytes} " in line["archive_command"]
    if stack.tool == "wal-g":
        assert line["environment"]["WALG_PG_WAL_SIZE"] == str(stack.segment_bytes // MB)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("megabytes", [1, 64, 1024])
def test_a_production_with_segments_of_another_size_is_backed_up_drilled_and_pruned(
    tool: str, megabytes: int
) -> None:
    if not thorough() and (megabytes == 1024 or (megabytes == 1 and tool != preferred_tool())):
        pytest.skip("gigabytes of WAL, or minutes: for make thorough")
    with production(tool, megabytes * MB) as stack:
        archive_line_is_right(stack)
        for _ in range(2):
            take_backup(stack.access)
            switched(stack, 3)
        newest = stack.access.repository.backups()[-1]

        report = drill(stack.access, target="latest")
        healthy(report)
        wal = report.timings.wal
        assert wal
        assert wal.by_reader == wal.segments >= (report.timings.wal_segments or 0) > 2
        assert wal.compared >= 2, "the tool fetched the same"
        if thorough() or tool == preferred_tool():
            healthy(drill(changed(stack, drill={"wal_fetch": "tool"}), target="latest"))

        inputs = collect(stack.access)
        assert inputs.now.wal_segments == len(
            [
                n
                for n in stack.access.repository.wal()
                if n >= newest.first_segment(stack.segment_bytes).name
            ]
        )
        assert segment_size.segment_bytes(elsewhere(stack)) == stack.segment_bytes
        [span] = told(stack, "window", "agents")[0]["spans"]
        assert len(span["backups"]) == 2, "no gap that is none"
        alone = drill(elsewhere(stack), target="latest")
        assert alone.restore.status == "ok", alone.restore.trouble

        freed_as_planned(stack, newest.first_segment(stack.segment_bytes).name)


def freed_as_planned(stack: World, first_kept: str) -> None:
    """Also on a host that knows production by its records alone."""
    access = changed(stack, retention=EASY, server={"data_directory": stack.home / "gone"})
    outlook = look(access, Runner(), now=LATER)
    assert outlook.refusals == ()
    assert len(outlook.plan.going("backup")) == 1
    prune(access, Runner(), now=LATER, approved=outlook.plan.digest)
    assert len(access.repository.backups()) == 1
    assert (
        min(name for name in access.repository.wal() if not name.endswith("history")) == first_kept
    )

"""Forged timelines of the highest numbers in the repository: named, or passed over with words;
nothing hangs or counts up to them.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pgdrill.host.process import Runner
from pgdrill.postgres.wal import format_lsn
from pgdrill.recovery.timelines import MOST, archived_timelines
from pgdrill.repository.restorable_window import Line
from pgdrill.retention.collect import take_inventory
from pgdrill.retention.plan import make_plan
from pgdrill.retention.window import window_of
from tests.damage.repository import put_wal
from tests.integration.conftest import Copy

SECONDS = 120.0  # on a busy machine; without an end it would be hours
HIGHEST = ("FFFFFFFF", "FFFFFFFE", "80000000", "7FFFFFFF")


def history(repository: Copy, *, far: bool) -> bytes:
    """Of a timeline that left production's early, or behind everything that is archived, so that it
    looks like a failover.
    """
    return (
        f"1\t{format_lsn((1 << 50) if far else repository.golden.marks[0].lsn)}\tno recovery target"
        " specified\n".encode()
    )


@pytest.mark.parametrize("number", HIGHEST)
@pytest.mark.parametrize("far", [False, True], ids=["early", "behind the end"])
def test_a_forged_highest_timeline_neither_leads_nor_hides_what_is_there(
    repository: Copy, number: str, far: bool
) -> None:
    put_wal(repository.access(), f"{number}.history", history(repository, far=far))
    put_wal(repository.access(), f"{number}0000000000000001", bytes(16 * 2**20))
    started = time.monotonic()
    report = repository.drill()
    assert report.restore.status == "ok", report.restore.trouble
    assert report.restored is not None
    assert report.restored.recovered_timeline == 1
    latest = repository.drill(target="latest")
    assert latest.restored is None or latest.restored.recovered_timeline == 1, latest.restored
    told = [one for one in latest.results if one.name == "stray-timeline"]
    assert [(one.thing, one.status) for one in told] == [(f"{number}.history", "skip")], told
    assert time.monotonic() - started < SECONDS


@pytest.mark.parametrize(
    "name",
    [
        "FFFFFFFFFFFFFFFFFFFFFFFF",
        "FFFFFFFFFFFFFFFF000000FF",
        "00000000.history",
        "000000000000000000000001",
        "FFFFFFFF.history",
    ],
)
def test_window_and_retention_answer_beside_it(repository: Copy, name: str) -> None:
    put_wal(repository.access(), name, b"nothing of the kind")
    started, access = time.monotonic(), repository.access()
    inventory, now = take_inventory(access, Runner()), datetime.now(UTC)
    window = window_of(access.cluster.name, inventory, access.cluster.retention, now)
    assert (window.timeline, len(window.spans)) == (1, 1), window
    made = make_plan(inventory, access.cluster.retention, now)
    assert repository.golden.backup.name not in made.going("backup"), made
    assert time.monotonic() - started < SECONDS


def test_of_many_forged_histories_a_hundred_are_read(repository: Copy, tmp_path: Path) -> None:
    listed = {
        **repository.access().repository.wal(),
        **{f"{number:08X}.history": 50 for number in range(2, 20_000)},
    }
    started = time.monotonic()
    found = archived_timelines(repository.access().wal_reader(Runner(), tmp_path), listed)
    assert len(found.wal.histories) == MOST
    assert time.monotonic() - started < SECONDS
    assert Line(1).newest(listed, 3)

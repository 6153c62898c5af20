"""Whose end of WAL it is: with production's word, and without it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pgdrill.access import Access
from pgdrill.config import Cluster, RepositorySettings, Server
from pgdrill.postgres.wal import TimelineSwitch
from pgdrill.recovery.timelines import Timelines, branches, followed, removal
from pgdrill.repository.wal_ranges import Run, Wal

SIZE = 16 * 2**20


def archived(**ends: tuple[int, int, float]) -> Timelines:
    """``t2=(5, 7, 5.5)``: segments 5 to 7 of timeline 2, which left the one before it in the middle
    of segment 5.
    """
    runs, histories = [], {}
    for name, (first, last, left) in ends.items():
        number = int(name[1])
        runs.append(Run(number, first, last))
        if left:
            parent = int(name[2:] or number - 1)
            before = histories.get(parent, ())
            histories[number] = (*before, TimelineSwitch(parent, int(left * SIZE)))
    return Timelines(Wal(tuple(runs), histories))


ONE = (1, 5, 0.0)


@pytest.mark.parametrize(
    ("found", "last_known", "expected"),
    [
        (archived(t1=ONE), 1, (1, [])),
        (archived(t1=ONE), None, (1, [])),
        (archived(), None, (None, [])),
        (archived(t1=ONE, t2=(5, 7, 5.5)), 1, (2, [])),  # a failover: nothing of 1 behind it
        (archived(t1=ONE, t2=(5, 7, 5.5), t3=(7, 9, 7.5)), 1, (3, [])),  # and another
        (archived(t1=(1, 9, 0.0), t2=(5, 7, 5.5)), 2, (2, [])),  # production was last seen on 2
        (archived(t1=(1, 9, 0.0), t2=(5, 7, 5.5)), 1, (1, [2])),  # both go on
        (archived(t1=(1, 5, 0.0), t2=(5, 7, 5.5), t31=(5, 7, 5.6)), 1, (1, [2, 3])),  # two left it
        # and one went on from the other
        (archived(t1=(1, 9, 0.0), t2=(5, 7, 5.5), t3=(7, 9, 7.5)), 1, (1, [2, 3])),
        # forged
        (
            Timelines(Wal((Run(1, 1, 5),), {2**32 - 1: (TimelineSwitch(1, 1 << 50),)})),
            1,
            (1, [2**32 - 1]),
        ),
    ],
)
def test_without_production_failovers_are_followed_and_ends_that_compete_are_told(
    found: Timelines, last_known: int | None, expected: tuple[int | None, list[int]]
) -> None:
    assert followed(found, last_known) == expected


def access(url: str, endpoint: str = "") -> Access:
    """By a program that is on every host: what is asked is where the tool keeps things."""
    repository = RepositorySettings(
        url=url, tool="wal-g", endpoint_url=endpoint, binary=sys.executable
    )
    return Access(Cluster(server=Server(data_directory=Path("/x")), repository=repository))


def test_with_productions_word_what_is_above_it_is_stray_and_what_is_below_is_not() -> None:
    found = archived(t1=(1, 9, 0.0), t2=(5, 7, 5.5), t32=(7, 9, 7.5))
    for production, strays in ((1, [2, 3]), (2, [3]), (3, [])):
        told = branches(access("s3://bucket/agents"), found, production, [], production=True)
        assert [one.timeline for one in told] == strays
        assert all(one.stray for one in told)
    stray = branches(access("s3://bucket/agents"), found, 2, [], production=True)[0]
    assert (stray.history, stray.segments, stray.first_segment) == (
        "00000003.history",
        3,
        "000000030000000000000007",
    )
    assert (stray.left_at, stray.ends_at) == ("0/7800000", "0/A000000")


def test_the_command_that_removes_a_stray_names_its_objects_and_no_others() -> None:
    assert (
        removal(access("s3://bucket/agents", "http://there:9000"), 2)
        == "aws --endpoint-url http://there:9000 s3 rm --recursive s3://bucket/agents/wal_005/"
        " --exclude '*' --include '00000002*'"
    )
    assert removal(access("file:///backups"), 10) == "rm -r /backups/wal_005/0000000A*"

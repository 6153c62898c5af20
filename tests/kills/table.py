"""docs/evidence/kills.md: what killing at every point came to, written by ``make kills`` as it goes
along.
"""

from __future__ import annotations

from collections.abc import Iterable

from tests.kept import ROOT, Kept, Values
from tests.kills.cases import Found

HEAD = """# kill -9, point by point

A point is right before a command is started, a file or folder is written, renamed or removed, \
a signal is sent, or an object is
written or deleted, and right after an object was. \
A job is counted, then killed by SIGKILL at one point, and run again. A case is
wrong if anything that was kept before is lost or unreadable, \
if the next run does not end well or what it reports is not there, or if
a process or a folder of the killed one is left after that. \
Written by `make kills`; `make test` draws ten points by the commit's number.

| tool | job | kind of point | points | killed there | wrong | slowest pair of runs, s |
| --- | --- | --- | --- | --- | --- | --- |
"""


def _columns(cases: list[Values]) -> Iterable[object]:
    killed, wrong = sum(killed for killed, _, _ in cases), sum(bool(said) for *_, said in cases)
    return len(cases), killed, wrong, max(seconds for _, seconds, _ in cases)


TABLE = Kept(
    ROOT / "tests" / "kills" / "found.json",
    ROOT / "docs" / "evidence" / "kills.md",
    HEAD,
    by=3,
    columns=_columns,
)


def keep(found: Found) -> None:
    """Add a point."""
    kill = found.kill
    TABLE.keep(
        str(kill),
        [
            kill.tool,
            kill.job,
            kill.where.partition(" ")[0],
            found.killed,
            found.seconds,
            found.wrong,
        ],
    )

"""docs/kills.md: what killing at every point came to, written by ``make kills`` as it goes along."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.conftest import thorough
from tests.kills.cases import Found

ROOT = Path(__file__).parents[2]
FOUND, TABLE = ROOT / "tests" / "kills" / "found.json", ROOT / "docs" / "kills.md"
HEAD = """# kill -9, point by point

A point is right before a command is started, a file or folder is written, renamed or removed, a signal is sent, or an object is
written or deleted, and right after an object was. A job is counted, then killed by SIGKILL at one point, and run again. A case is
wrong if anything that was kept before is lost or unreadable, if the next run does not end well or what it reports is not there, or if
a process or a folder of the killed one is left after that. Written by `make kills`; `make test` draws ten points by the commit's number.

| tool | job | kind of point | points | killed there | wrong | slowest pair of runs, s |
| --- | --- | --- | --- | --- | --- | --- |
"""


def known() -> dict[str, Any]:
    """The points that were tried and were not wrong."""
    every = json.loads(FOUND.read_text()) if thorough() and FOUND.exists() else {}
    return {kill: found for kill, found in every.items() if not found[-1]}


def keep(found: Found) -> None:
    """Add a case, and write the table anew."""
    if not thorough():
        return
    every = json.loads(FOUND.read_text()) if FOUND.exists() else {}
    kill = found.kill
    every[str(kill)] = [kill.tool, kill.job, kill.where.partition(" ")[0], found.killed, found.seconds, found.wrong]
    FOUND.write_text(json.dumps(dict(sorted(every.items())), indent=0, ensure_ascii=False) + "\n")
    TABLE.write_text(HEAD + "".join(_rows(every)))


def _rows(every: dict[str, list]) -> list[str]:  # type: ignore[type-arg]
    groups: dict[tuple[str, str, str], list[list]] = defaultdict(list)  # type: ignore[type-arg]
    for tool, job, kind, *rest in every.values():
        groups[tool, job, kind].append(rest)
    rows = []
    for key, cases in sorted(groups.items()):
        counts = [len(cases), sum(killed for killed, _, _ in cases), sum(bool(said) for *_, said in cases), max(s for _, s, _ in cases)]
        rows.append(f"| {' | '.join((*key, *map(str, counts)))} |\n")
    return rows

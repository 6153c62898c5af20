"""kill -9 at every point of drill, backup, dump and prune: nothing kept is lost, and the next run
is clean.

``make kills`` tries every point, goes on where it was stopped, and writes docs/evidence/kills.md;
``make test`` draws ten by the commit's number (PGDRILL_SEED names another draw).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.conftest import TOOLS, need, thorough
from tests.faults.cases import at_once, draw, seed
from tests.faults.site import Site, site
from tests.kills import table
from tests.kills.cases import JOBS, Kill, full, judge

DRAWN = 10  # by both tools together
SHARE = int(os.environ.get("PGDRILL_KILLS") or 0)  # so many points of each tool and job; 0: all
LEAST = 200


@pytest.fixture(scope="module", params=TOOLS)
def place(request: pytest.FixtureRequest) -> Iterator[Site]:
    with site(need(request.param)) as made:
        yield made


@pytest.mark.timeout(0)  # the full set takes hours; each case has a limit of its own
def test_killed_at_any_point_it_loses_nothing_and_can_be_run_again(place: Site) -> None:
    wrong, known = [], table.TABLE.settled()
    kills = [kill for kill in chosen(place) if str(kill) not in known]
    for found in at_once(kills, lambda kill: judge(place, kill), lambda kill: kill.job):
        table.keep(found)
        print(
            f"{found.kill}: {'killed' if found.killed else 'came to its end'}, {found.seconds} s"
            f" {found.wrong}",
            flush=True,
        )
        if found.wrong:
            wrong.append(f"{found.kill}: {found.wrong}")
    assert not wrong, f"seed {seed()}:\n" + "\n".join(wrong)


def chosen(place: Site) -> list[Kill]:
    """All, some of each job, or half of the ten."""
    tool = place.stack.tool
    jobs = tuple(job for job in os.environ.get("PGDRILL_JOBS", "").split(",") if job) or JOBS
    if not thorough():
        return draw(
            full(place, tuple(draw(list(jobs), 2, f"{tool} killed"))),
            DRAWN // len(TOOLS),
            f"{tool} kills",
        )
    every = full(place, jobs)
    print(f"{len(every)} points with {tool}", flush=True)
    if jobs == JOBS and tool == TOOLS[0]:
        assert len(every) >= LEAST
    again, settled = table.TABLE.wrong(), table.TABLE.settled()
    by_job = {job: [kill for kill in every if kill.job == job] for job in jobs}
    for job, kills in by_job.items():  # threads take turns: two runs have not quite the same points
        table.TABLE.only(tool, job, settled | {str(kill) for kill in kills})
    if not SHARE:
        return every
    drawn = [kill for job, kills in by_job.items() for kill in draw(kills, SHARE, f"{tool} {job}")]
    return list(dict.fromkeys([*(kill for kill in every if str(kill) in again), *drawn]))

"""Stores that go wrong at one call of a job, every call in every way: never green with work
missing, and an end in time.

``make faults`` runs the full set, goes on where it was stopped, and writes docs/evidence/faults.md;
``make test`` draws ten by the commit's number (PGDRILL_SEED names another draw).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.conftest import TOOLS, need, thorough
from tests.faults import table
from tests.faults.cases import Case, at_once, draw, full, judge, seed
from tests.faults.jobs import JOBS
from tests.faults.site import Site, site

DRAWN = 10  # by both tools together
# so many of the full set, of each tool and job; 0: all
SHARE = int(os.environ.get("PGDRILL_FAULTS") or 0)


@pytest.fixture(scope="module", params=TOOLS)
def place(request: pytest.FixtureRequest) -> Iterator[Site]:
    with site(need(request.param)) as made:
        yield made


@pytest.mark.timeout(0)  # the full set takes hours; each case has a limit of its own
def test_a_store_that_goes_wrong_is_told_in_time_and_never_taken_for_a_good_one(
    place: Site,
) -> None:
    jobs = [job for job in os.environ.get("PGDRILL_JOBS", "").split(",") if job] or list(JOBS)
    wrong, known = [], table.TABLE.settled()
    cases = [case for case in chosen(place, jobs) if str(case) not in known]
    print(f"{len(cases)} cases with {place.stack.tool}", flush=True)
    for found in at_once(cases, lambda case: judge(place, case), lambda case: case.job):
        table.keep(found)
        print(
            f"{found.case}: {found.end} ({found.said}) in {found.seconds}"
            f" s{'' if found.met else ', never met'} {found.wrong}",
            flush=True,
        )
        if found.wrong:
            wrong.append(f"{found.case}: {found.wrong}")
    assert not wrong, f"seed {seed()}:\n" + "\n".join(wrong)


def chosen(place: Site, jobs: list[str]) -> list[Case]:
    """All, some of each job, or half of the ten."""
    tool = place.stack.tool
    if not thorough():
        return draw(full(place, draw(jobs, 3, f"{tool} jobs")), DRAWN // len(TOOLS), tool)
    every = {job: full(place, [job]) for job in jobs}
    for job, cases in every.items():
        table.TABLE.only(tool, job, {str(case) for case in cases})
    shares = {
        job: draw(cases, SHARE, f"{tool} {job}") if SHARE else cases for job, cases in every.items()
    }
    return sorted(
        (case for cases in shares.values() for case in cases),
        key=lambda case: case.fault.call.number,
    )

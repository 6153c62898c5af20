"""A job killed at a point, then run again: nothing kept is lost, the next run is clean, and nothing
is left of the killed one.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from pgdrill.reports import store
from tests.faults.cases import SITES, left_over, look_again, lost, place_for, run_job
from tests.faults.site import Place, Site, files

JOBS = ("drill", "backup", "dump", "dump-drill", "prune")


@dataclass(frozen=True, slots=True)
class Kill:
    """At the n-th point of a job; ``where`` as the counted run told it."""

    tool: str
    job: str
    number: int
    where: str

    def __str__(self) -> str:
        return f"{self.tool} {self.job} {self.number}: {self.where}"


@dataclass(frozen=True, slots=True)
class Found:
    """What became of it. ``killed`` False: this run had fewer points."""

    kill: Kill
    killed: bool
    seconds: float
    wrong: str


@functools.cache
def points(site_key: int, job: str) -> tuple[str, ...]:
    """A whole run's."""
    with place_for(SITES[site_key], job) as place:
        ended = run_job(job, place, place.access().cluster.repository.endpoint_url, point=0)
        assert ended["end"] == "done", f"{job}: {ended}"
        return tuple(ended["points"])


def full(site: Site, jobs: tuple[str, ...] = JOBS) -> list[Kill]:
    """Every point of these jobs."""
    SITES[id(site)] = site
    tool = site.stack.tool
    return [
        Kill(tool, job, at, where)
        for job in jobs
        for at, where in enumerate(points(id(site), job), 1)
    ]


def judge(site: Site, kill: Kill) -> Found:
    """Kill it there, look, run it again, and look again."""
    with place_for(site, kill.job) as place:
        before = files(place.folder)
        endpoint = site.stack.s3.endpoint_url
        killed = run_job(kill.job, place, endpoint, point=kill.number)
        wrong = [*lost(kill.job, place, before), *_readable(place)]
        again = run_job(kill.job, place, endpoint, point=0)
        if again["end"] != "done":
            wrong.append(f"the next run: {again['end']}, {again['said']}")
        else:
            wrong.append(look_again(kill.job, place, again, again, set(before)))
        wrong += [*left_over(place), *lost(kill.job, place, before)]
    seconds = killed["seconds"] + again["seconds"]
    return Found(
        kill,
        killed["end"] == "killed",
        round(seconds, 1),
        "; ".join(said for said in wrong if said)[:600],
    )


def _readable(place: Place) -> list[str]:
    """Reports that a killed job left can be read."""
    access: Any = place.access()
    return [said for name in store.list_reports(access) if (said := _trouble(access, name))]


def _trouble(access: Any, name: str) -> str:
    try:
        store.load_report(access, name)
    except Exception as error:
        return f"report {name}: {error}"
    return ""

"""A case: a job, a call of it, and what happens to that call; what it came to, judged by a look
without the proxy.
"""

from __future__ import annotations

import functools
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pgdrill.access import Access
from pgdrill.baseline import backup_record
from pgdrill.host.process import Runner
from pgdrill.logical import manifest as manifests
from pgdrill.logical.restore import check_files
from pgdrill.logical.transfer import download
from pgdrill.reports import store
from pgdrill.retention import holds
from pgdrill.retention.prune import look, prune
from tests.faults.apart import run_apart
from tests.faults.jobs import LIVE, Work
from tests.faults.proxy import EVERY, Call, Fault, Proxy
from tests.faults.site import Place, Site, files
from tests.integration.conftest import processes_in

ROOT = Path(__file__).parents[2]
# than without a fault: the tools' own tries, and limits of four seconds one after another
LONGER_SECONDS = 60
COMMANDS = {"prune": 6}  # of the tool, each of which tries by itself; one in the other jobs
SEEDLESS = "pgdrill"  # outside git
Tried, Answer = TypeVar("Tried"), TypeVar("Answer")
# most of a case is waiting: for a store that stalls, or between two tries
AT_ONCE = int(os.environ.get("PGDRILL_AT_ONCE") or 4)


@dataclass(frozen=True, slots=True)
class Case:
    """One of the full set."""

    tool: str
    job: str
    fault: Fault

    def __str__(self) -> str:
        return f"{self.tool} {self.job}: {self.fault.how} at {self.fault.call}"


@dataclass(frozen=True, slots=True)
class Found:
    """What became of a case. ``wrong`` is empty where all is as it should be; ``met`` False where
    the call never came.
    """

    case: Case
    end: str
    said: str
    seconds: float
    met: bool
    wrong: str


def run_job(
    job: str,
    place: Place,
    endpoint_url: str,
    limit_seconds: float = 240,
    *,
    point: int | None = None,
) -> dict[str, Any]:
    """In a process of its own."""
    site = place.site
    access = place.access(endpoint_url)
    access = place.without_production(access) if job == "drill" else access
    spare = next(name for name in site.backups if name != site.held)
    return run_apart(
        job,
        Work(access, site.target, site.later, site.held, spare, site.dump),
        limit_seconds,
        point,
    )


@contextmanager
def place_for(site: Site, job: str) -> Iterator[Place]:
    """Where that job has to work."""
    with site.live() if job in LIVE else site.copy() as place:
        yield place


@functools.cache
def clean(site_key: int, job: str) -> tuple[dict[str, Any], tuple[Call, ...]]:
    """How a job ends with a store that is well, and the calls that it makes."""
    site = SITES[site_key]
    with (
        place_for(site, job) as place,
        Proxy(site.stack.s3.endpoint_url, site.stack.s3.bucket) as proxy,
    ):
        ended = run_job(job, place, proxy.endpoint_url)
        assert ended["end"] == "done", f"{job} without any fault: {ended}"
        wrong = look_again(job, place, ended, ended, set())
        assert not wrong, f"{job} without any fault: {wrong}"
        return ended, tuple(sorted(set(proxy.calls)))


SITES: dict[int, Site] = {}


def full(site: Site, jobs: Iterable[str]) -> list[Case]:
    """Every call of these jobs with every fault that it can meet; the first of each kind of call
    before those like it.
    """
    SITES[id(site)] = site
    tool = site.stack.tool
    cases = [
        Case(tool, job, Fault(call, how))
        for job in jobs
        for call in clean(id(site), job)[1]
        for how in call.faults
    ]
    return sorted(cases, key=lambda case: case.fault.call.number)


def seed() -> str:
    """The commit's number: each commit draws others, and whoever has the commit draws the same."""
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    return os.environ.get("PGDRILL_SEED") or done.stdout.strip() or SEEDLESS


def draw(cases: list[Any], count: int, kind: str) -> list[Any]:
    """Some of them, by the seed."""
    return random.Random(f"{seed()}/{kind}").sample(cases, min(count, len(cases)))


def at_once(
    cases: Sequence[Tried], judge: Callable[[Tried], Answer], job_of: Callable[[Tried], str]
) -> Iterator[Answer]:
    """Some at a time, each in a repository of its own; those that need production's own repository
    one after another.
    """
    with ThreadPoolExecutor(AT_ONCE) as several, ThreadPoolExecutor(1) as one:
        running = [(one if job_of(case) in LIVE else several).submit(judge, case) for case in cases]
        try:
            for ended in as_completed(running):
                yield ended.result()
        finally:  # who interrupts does not wait for thousands
            for waiting in running:
                waiting.cancel()


def judge(site: Site, case: Case) -> Found:
    """Run it, and look."""
    SITES[id(site)] = site
    usual, _ = clean(id(site), case.job)
    with place_for(site, case.job) as place:
        before = files(place.folder)
        with Proxy(site.stack.s3.endpoint_url, site.stack.s3.bucket, case.fault) as proxy:
            ended = run_job(
                case.job,
                place,
                proxy.endpoint_url,
                usual["seconds"] + longer_seconds(case.job) + LONGER_SECONDS,
            )
        wrong = [*_wrong_end(case, usual, ended), *left_over(place), *lost(case.job, place, before)]
        if not wrong:
            wrong = (
                [said]
                if (said := look_again(case.job, place, usual, ended, set(before), case.fault.how))
                else []
            )
    return Found(
        case,
        ended["end"],
        str(ended["said"])[:200],
        ended["seconds"],
        proxy.met.is_set(),
        "; ".join(wrong)[:600],
    )


def _wrong_end(case: Case, usual: dict[str, Any], ended: dict[str, Any]) -> Iterator[str]:
    # to a host that knows of nothing there is nothing
    said_so = ended["end"] == "config" and case.fault.how == "empty"
    if ended["end"] in ("crash", "hang", "config") and not said_so:
        yield f"{ended['end']}: {ended['said']}"
    elif ended["end"] == "failed" and case.fault.how in EVERY:
        yield f"the backup is blamed for a store that does not answer: {ended['said']}"
    if ended["seconds"] > usual["seconds"] + longer_seconds(case.job):
        yield f"took {ended['seconds']} s, {usual['seconds']} s without a fault"


def longer_seconds(job: str) -> float:
    """What a job may take more than without a fault."""
    return LONGER_SECONDS * COMMANDS.get(job, 1)


def left_over(place: Place) -> Iterator[str]:
    """Folders of jobs, and processes that have to do with them."""
    found = [
        path
        for pattern in ("*/drills/*", "*/dumping/*", "*/backup/*")
        for path in place.work.glob(pattern)
    ]
    left = [str(path.relative_to(place.work)) for path in found if not _only_begun(path)]
    if left:
        yield f"left over: {left}"
    until = time.monotonic() + 5
    while (processes := processes_in(place.work)) and time.monotonic() < until:
        time.sleep(0.1)
    if processes:
        yield f"still running: {processes}"


def _only_begun(folder: Path) -> bool:
    """One whose job was killed before its lease was written: nothing is in it, and a sweep takes it
    after a minute.
    """
    inside = {path.name for path in folder.rglob("*")}
    return "lease.json" not in inside and all(
        name == "lock" or "lease.json" in name for name in inside
    )


def lost(job: str, place: Place, before: dict[str, str]) -> Iterator[str]:
    """No job but a prune deletes or changes what was there; leases come and go."""
    now = files(place.folder)
    if job != "prune":
        lost = sorted(
            name
            for name in before
            if name not in now or (now[name] != before[name] and "/leases/" not in name)
        )
        if lost:
            yield f"lost or changed: {lost[:3]}"


def look_again(
    job: str,
    place: Place,
    usual: dict[str, Any],
    ended: dict[str, Any],
    before: set[str],
    how: str = "",
) -> str:
    """Without the proxy: is what was reported as done there, and what was kept still kept? Empty,
    or what is wrong.
    """
    access, said, done = place.access(), ended["said"], ended["end"] == "done"
    if place.site.held not in {hold.name for hold in holds.list_holds(access)}:
        return "the hold is lost"
    if job == "prune":
        return _pruned(
            access, place.site, done and not (how in ("wrong", "empty") and said["deleted"] == 0)
        )
    if not done:
        return _no_half_dump(access, place, before) if job == "dump" else ""
    look_at = {
        "backup": lambda: _backup_is_good(access, said),
        "drill": lambda: _drill_is_true(access, place.site, said),
        "dump": lambda: _dump_is_good(access, said, place.work),
        "baseline": lambda: _baseline_is_there(access, said),
        "hold": lambda: (
            ""
            if said in {hold.name for hold in holds.list_holds(access)}
            else "an acknowledged hold is not kept"
        ),
        # compared with the dump's own manifest, and nothing is left to look at
        "dump-drill": lambda: "",
    }
    if job in look_at:
        return look_at[job]()
    refused = job == "plan" and said["refused"]  # it deletes nothing, and says why
    same = (
        refused
        or said == usual["said"]
        or (how in ("wrong", "empty") and _says_less(job, said, usual["said"]))
    )
    return "" if same else f"another answer than without a fault: {said}"


def _says_less(job: str, said: dict[str, Any], usual: dict[str, Any]) -> bool:
    """Other bytes cannot be told from a damaged object, nor an empty listing from an empty store by
    a host that knows of nothing: then nothing more may go, and nothing more be called restorable.
    """
    if job == "plan":
        return set(said["goes"]) <= set(usual["goes"])
    return (
        said["backups"] <= usual["backups"]
        if job == "window"
        else all(not counts for _, counts in said["dumps"])
    )


def _drill_is_true(access: Access, site: Site, said: dict[str, Any]) -> str:
    if "content" in said and tuple(said["content"]) != tuple(site.content):
        return f"passed with other content: {said['content']}"
    places = [place for place in said["kept_at"] if place.startswith("s3://")]
    if places and not access.reports.read(f"reports/{said['drill_id']}.json"):
        return "the report is not where it says that it is"
    return (
        ""
        if store.load_report(access, said["drill_id"]).verdict == "passed"
        else "its report says something else"
    )


def _baseline_is_there(access: Access, said: dict[str, Any]) -> str:
    stored = len(said["kept_at"]) > 1
    return (
        ""
        if not stored or access.reports.read(f"baselines/{said['name']}.json")
        else "the baseline is not in the store"
    )


def _no_half_dump(access: Access, place: Place, before: set[str]) -> str:
    names = {
        name.split("/")[1]
        for name in set(files(place.folder)) - before
        if name.startswith("dumps/")
    }
    whole = set(manifests.list_dumps(access)) & names
    return f"a dump that failed is listed: {whole}" if whole else ""


def _backup_is_good(access: Access, name: str) -> str:
    backup = next((one for one in access.repository.backups() if one.name == name), None)
    if backup is None:
        return "the backup is not listed"
    parts = access.repository.parts(backup)
    recorded = backup_record.read(access.reports, name)
    if recorded is None:
        return "the backup is not recorded"
    problems = [
        *access.repository.problems(backup, parts),
        *backup_record.differences(
            recorded,
            access.repository.url,
            parts,
            backup.finish_time,
            access.tool.changed_by_marking,
        ),
    ]
    return "; ".join(map(str, problems))


def _dump_is_good(access: Access, dump_id: str, work: Path) -> str:
    manifest = manifests.read(access, dump_id)
    check_files(access, manifest)
    for file in (
        manifest.global_objects,
        *(file for database in manifest.databases for file in database.files),
    ):
        download(
            access.dumps,
            manifests.key(dump_id, file.name),
            file,
            work / "look" / file.name.replace("/", "_"),
            lambda _: None,
        )
    return ""


def _pruned(access: Access, site: Site, done: bool) -> str:
    """Kept is what a hold or the window keeps; a run that failed is made good by the next one.

    Where bytes or parts of a backup are other than they were, it is damaged as far as a prune can
    see, and stays.
    """
    there = {
        backup.name: backup.damage
        for backup in look(access, Runner(), now=site.later).inventory.backups
    }
    if there.get(site.held, "gone") or there.get(site.backups[-1], "gone"):
        return f"what is kept is lost or damaged: {there}"
    if done and set(there) != {site.held, site.backups[-1]}:
        return f"not deleted, and called done: {there}"
    if not done:
        prune(access, Runner(), now=site.later)
        there = {
            backup.name: backup.damage
            for backup in look(access, Runner(), now=site.later).inventory.backups
        }
        if there != {site.held: "", site.backups[-1]: ""}:
            return f"the next run did not make it good: {there}"
    return ""

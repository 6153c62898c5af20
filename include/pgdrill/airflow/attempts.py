"""The drills of one run of a scheduler: the first has the run's id, those after a *Clear* a number
behind it.

A try that a scheduler repeats by itself goes on with the drill that it began; what came to an end
is evidence, and stays.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass

from pgdrill.access import Access
from pgdrill.errors import CouldNotVerify
from pgdrill.logical import store as dump_store
from pgdrill.reports import store
from pgdrill.reports.model import Report

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """Which drill to begin, and which one of the same run was before it, if any."""

    drill_id: str
    earlier: str = ""


def next_attempt(access: Access, run: str, trigger: str) -> Attempt:
    """The drill that a restore of this run begins or begins again.

    ``trigger``: as the run's reports have it.
    """
    found = _numbered(_known(access), run)
    for drill_id in reversed(found):
        try:
            report = store.load_report(access, drill_id)
        except CouldNotVerify as error:
            logger.warning("report passed over: %s", error)
            continue
        if report.trigger == trigger:
            return (
                Attempt(drill_id) if _unfinished(report) else Attempt(_free(found, run), drill_id)
            )
    return Attempt(_free(found, run))


def next_dump_attempt(access: Access, run: str) -> Attempt:
    """The same for a restore of a dump, which is one step: each has a report of its own."""
    found = _numbered(
        _known_of_dumps(access) | {report.drill_id for report in dump_store.local_reports(access)},
        run,
    )
    return Attempt(_free(found, run), found[-1] if found else "")


def newest_attempt(access: Access, run: str) -> str:
    """The id of the run's newest drill that has a report; empty where none has."""
    found = _numbered(_known(access), run)
    return found[-1] if found else ""


def left_behind(access: Access, run: str) -> list[str]:
    """The run's drills that have a folder on this host."""
    folder = access.cluster.state_directory / "drills"
    return _numbered((one.name for one in folder.iterdir()), run) if folder.is_dir() else []


def _known(access: Access) -> list[str]:
    try:
        return store.list_reports(access)
    except CouldNotVerify as error:
        logger.warning("only the reports of this host are looked at: %s", error)
        return [file.stem for file in store.report_file(access, "x").parent.glob("*.json")]


def _known_of_dumps(access: Access) -> set[str]:
    try:
        return {
            key.rpartition("/drill-")[2].removesuffix(".json")
            for key in access.dumps.sizes()
            if "/drill-" in key
        }
    except CouldNotVerify as error:
        logger.warning("only the reports of this host are looked at: %s", error)
        return set()


def _numbered(names: Iterable[str], run: str) -> list[str]:
    pattern = re.compile(rf"{re.escape(run)}(?:-(\d{{1,4}}))?")
    matches = [match for name in names if (match := pattern.fullmatch(name))]
    return [match[0] for match in sorted(matches, key=lambda match: int(match[1] or 1))]


def _free(found: list[str], run: str) -> str:
    if not found:
        return run
    return f"{run}-{int(found[-1].removeprefix(run).removeprefix('-') or 1) + 1}"


def _unfinished(report: Report) -> bool:
    """A restore that did not get to its checks and was not cleared away: nothing came of it yet."""
    return (report.checks.status, report.cleanup.status, report.verdict) == (
        "not run",
        "not run",
        "could not verify",
    )

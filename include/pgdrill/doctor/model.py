"""The results of a look at a cluster and its host: lines of data.

How they are shown is :mod:`pgdrill.doctor.render`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pgdrill.documents import StrictModel

Job = Literal["backup", "drill", "dump", "prune"]
JOBS: tuple[Job, ...] = ("backup", "drill", "dump", "prune")
# green: measured, and as it should be. warn: works, and somebody should look. red: a job would meet
# it. unknown: could not be asked, which is never green. not asked: no matter here, and the line
# says why.
Status = Literal["green", "warn", "red", "unknown", "not asked"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer of an examination.

    An empty ``hint`` of one that is not green stands for the examination's own.
    """

    status: Status
    thing: str
    found: str
    expected: str = ""
    hint: str = ""
    reason: str = ""


def green(thing: str, found: str) -> Finding:
    """Return a finding that is as it should be; ``found`` is what was measured."""
    return Finding("green", thing, found)


def warn(thing: str, found: str, expected: str, hint: str = "") -> Finding:
    """Return a finding of what works, and somebody should look at."""
    return Finding("warn", thing, found, expected, hint)


def red(thing: str, found: str, expected: str, hint: str = "") -> Finding:
    """Return a finding that a job would meet."""
    return Finding("red", thing, found, expected, hint)


def unknown(thing: str, found: str, expected: str = "an answer", hint: str = "") -> Finding:
    """Return a finding that could not be asked."""
    return Finding("unknown", thing, found, expected, hint)


def not_asked(thing: str, why: str) -> Finding:
    """Return a finding of a question that is no matter here."""
    return Finding("not asked", thing, why)


class Line(StrictModel):
    """One answer, with the examination that gave it.

    ``reason``: the error's stable word, where an error gave it.
    """

    name: str
    part: str
    status: Status
    thing: str
    found: str
    expected: str = ""
    hint: str = ""
    reason: str = ""
    seconds: float = 0.0


class Diagnosis(StrictModel):
    """All lines about one cluster, as one user of one host sees it.

    They are asked for the jobs that the host is to do.
    """

    cluster: str
    host: str
    user: str
    jobs: list[Job]
    started_at: datetime
    seconds: float
    lines: list[Line]

    def count(self, status: Status) -> int:
        """Return how many lines have this status."""
        return sum(line.status == status for line in self.lines)

    @property
    def exit_code(self) -> int:
        """The exit code.

        0: all good, warnings aside; 1: something is wrong; 2: something could not be asked.
        """
        return 1 if self.count("red") else 2 if self.count("unknown") else 0

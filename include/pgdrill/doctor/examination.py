"""An examination: one question about a cluster and this host.

What green means and the hint stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from pgdrill.doctor.model import JOBS, Finding, Job
from pgdrill.doctor.subject import Subject

PARTS = (
    "configuration",
    "folders",
    "fence",
    "server",
    "rights",
    "settings",
    "archiving",
    "clock",
    "tool",
    "bucket",
    "repository",
    "drill",
    "airflow",
)
Question = Callable[[Subject], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Examination:
    """A registered examination.

    ``needs`` are others that have to be answered, and neither red nor unknown, before this one can
    be asked; ``after`` are those that it waits for and makes do without.
    """

    name: str
    part: str
    green: str
    hint: str
    example: str
    needs: tuple[str, ...]
    jobs: frozenset[Job]
    ask: Question = field(repr=False)
    after: tuple[str, ...] = ()


EXAMINATIONS: dict[str, Examination] = {}


def examination(
    name: str,
    part: str,
    *,
    green: str,
    hint: str,
    example: str,
    needs: tuple[str, ...] = (),
    after: tuple[str, ...] = (),
    jobs: tuple[Job, ...] = JOBS,
) -> Callable[[Question], Question]:
    """Register an examination under its name. ``jobs`` are those that would meet what it finds."""

    def register(ask: Question) -> Question:
        EXAMINATIONS[name] = Examination(
            name, part, green, hint, example, needs, frozenset(jobs), ask, after
        )
        return ask

    return register


def in_order() -> list[Examination]:
    """Return all examinations, part by part, as they are shown."""
    return sorted(EXAMINATIONS.values(), key=lambda one: PARTS.index(one.part))

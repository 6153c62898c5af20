"""An examination: one question about a cluster and this host.

What green means and the hint stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypedDict, Unpack

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
    be asked; ``after`` are those that it waits for and makes do without. ``jobs`` are those that
    would meet what it finds.
    """

    name: str
    part: str
    green: str
    hint: str
    example: str
    ask: Question = field(repr=False)
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    jobs: tuple[Job, ...] = JOBS


EXAMINATIONS: dict[str, Examination] = {}


class Occasion(TypedDict, total=False):
    """When it is asked: what :class:`Examination` has a default for."""

    needs: tuple[str, ...]
    after: tuple[str, ...]
    jobs: tuple[Job, ...]


def examination(
    name: str, part: str, *, green: str, hint: str, example: str, **occasion: Unpack[Occasion]
) -> Callable[[Question], Question]:
    """Register an examination under its name."""

    def register(ask: Question) -> Question:
        EXAMINATIONS[name] = Examination(name, part, green, hint, example, ask, **occasion)
        return ask

    return register


def in_order() -> list[Examination]:
    """Return all examinations, part by part, as they are shown."""
    return sorted(EXAMINATIONS.values(), key=lambda one: PARTS.index(one.part))

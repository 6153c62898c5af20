"""A health check: one question asked again and again, with what passing means and the hint."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, TypedDict, Unpack

from pgdrill.health.answer import Answer
from pgdrill.health.subject import HealthSubject

# the places where answers come from; questions of one place are asked one after another
PLACES = ("server", "replication", "repository", "promises", "queues", "host", "airflow")
Cost = Literal["each look", "every 5 minutes"]
Ask = Callable[[HealthSubject], Iterable[Answer]]


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A registered health check.

    ``needs`` are others that have to stand before this one can be asked; ``after`` are those that
    it waits for and makes do without. ``hides`` names those whose bad state is a consequence of
    this one's own. ``cost`` says how often it may be asked: a look comes every 5 to 10 seconds.
    """

    name: str
    place: str
    passing: str
    hint: str
    example: str
    ask: Ask = field(repr=False)
    cost: Cost = "every 5 minutes"
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()


HEALTH_CHECKS: dict[str, HealthCheck] = {}


class Occasion(TypedDict, total=False):
    """When it is asked: what :class:`HealthCheck` has a default for."""

    cost: Cost
    needs: tuple[str, ...]
    after: tuple[str, ...]
    hides: tuple[str, ...]


def health_check(
    name: str, place: str, *, passing: str, hint: str, example: str, **occasion: Unpack[Occasion]
) -> Callable[[Ask], Ask]:
    """Register a health check under its name."""

    def register(ask: Ask) -> Ask:
        HEALTH_CHECKS[name] = HealthCheck(name, place, passing, hint, example, ask, **occasion)
        return ask

    return register


def in_order() -> list[HealthCheck]:
    """Return all health checks, place by place, each after those that it waits for."""
    return sorted(
        HEALTH_CHECKS.values(), key=lambda one: (PLACES.index(one.place), _depth(one.name))
    )


def _depth(name: str) -> int:
    one = HEALTH_CHECKS[name]
    return 1 + max(map(_depth, (*one.needs, *one.after)), default=0)

"""Groups of answers, so that one cause is told once.

Answers that say the same of many things are one group, and what explains others comes first.

A report keeps every answer. Whoever reads it as text sees the groups: one dropped index is a line
and not one for each catalog that knew it, one setting is a line and not one for each index that it
made blind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgdrill.reports.measured import figure

if TYPE_CHECKING:
    from pgdrill.reports.model import CheckResult

FEWEST = 3  # so many that say the same are shown as one
NAMED = 3  # things that a group names
# Checks that tell causes, and checks that may follow from something else. All others stand between.
CAUSES = (
    "system-identifier",
    "server-version",
    "stray-timeline",
    "timeline",
    "target-reached",
    "promoted",
    "instant",
    "databases",
    "search-settings",
    "vector-indexes",
    "dump-definitions",
    "catalogs",
    "extension-versions",
    "collations",
    "relation-files",
    "page-checksums",
    "amcheck",
)
EFFECTS = (
    "index-recall",
    "filtered-search",
    "index-used",
    "exact-neighbours",
    "index-coverage",
    "index-values",
    "search-latency",
    "access-methods",
    "server-log",
)
CATALOGS = ("catalogs", "dump-definitions")
FIGURES = re.compile(r"\(?\d[\d.,:/e+-]*\)?")
# `constraint c on table t`, `column c of table t`, `default value for column c of table t`: it is
# the table's.
BELONGS = re.compile(r" (?:on|of) ((?:materialized view|foreign table|table|view|index) .+)$")
# A table is a type, too, with an array of it; what it is kept in has no name of its own.
ITS_TYPE = re.compile(r"^type (.+?)(?:\[\])?$")
# Every check that compares databases says so of one that is missing.
NO_DATABASE = "no such database"
WORST_IS_LOWEST = ("index-recall", "filtered-search")


@dataclass(frozen=True, slots=True)
class Group:
    """Answers of one status that say the same, the most telling one first.

    They are of one check, but where all that they say is that a database is missing.
    """

    results: tuple[CheckResult, ...]

    @property
    def first(self) -> CheckResult:
        """The answer to be told."""
        return self.results[0]

    @property
    def things(self) -> list[str]:
        """The things that it is about, each once."""
        return list(dict.fromkeys(result.thing for result in self.results))

    def shown(self) -> CheckResult:
        """Return the group as one answer: names, what was found, and the seconds of all."""
        if len(self.results) == 1:
            return self.first
        seconds = sum(one.seconds for one in self.results)
        if len(self.things) == 1 and self.first.value == NO_DATABASE:
            return self.first.model_copy(update={"seconds": seconds})
        named = ", ".join(self.things[:NAMED])
        more = len(self.things) - NAMED
        return self.first.model_copy(
            update={
                "thing": (
                    f"{len(self.things)} things: {named}{f' and {more} more' if more > 0 else ''}"
                    if len(self.things) > 1
                    else named
                ),
                **_figures(self.results),
                "message": _messages(self.results),
                "seconds": seconds,
            }
        )


def by_telling(results: Sequence[CheckResult]) -> list[CheckResult]:
    """Return the answers that explain others first, those that follow from others last.

    The rest is in the order in which it was asked.
    """
    return sorted(results, key=lambda result: rank(result.name))


def rank(name: str) -> int:
    """Return how telling a check's answer is: causes have the lowest numbers."""
    plain = name.removesuffix(" (migrated)")
    if plain in CAUSES:
        return CAUSES.index(plain)
    return len(CAUSES) + (1 + EFFECTS.index(plain) if plain in EFFECTS else 0)


def grouped(results: Sequence[CheckResult]) -> Iterator[Group]:
    """Yield groups of the answers, which are of one status, in the order of their first ones."""
    for parts in _parted(by_telling(results)):
        yield Group(tuple(sorted(parts, key=_worst)))


def _parted(results: Sequence[CheckResult]) -> Iterator[list[CheckResult]]:
    """Yield what is said of one object together.

    Objects of which the same is said are then put together, where they are many.
    """
    by_object: dict[tuple[str, str], list[CheckResult]] = {}
    for result in results:
        missing = result.value == NO_DATABASE
        key = ("databases", result.thing) if missing else (result.name, _object(result))
        by_object.setdefault(key, []).append(result)
    alike: dict[tuple[str, ...], list[list[CheckResult]]] = {}
    for (name, _), found in by_object.items():
        alike.setdefault(
            (name, _database(found[0]), *sorted({_cause(one) for one in found})), []
        ).append(found)
    for several in alike.values():
        if len(several) < FEWEST:
            yield from several
        else:
            yield [one for found in several for one in found]


def _object(result: CheckResult) -> str:
    """Return what the answer is about in the end: of a constraint, column or trigger, its table."""
    if result.name not in CATALOGS:
        return result.thing
    database, _, name = result.thing.partition(": ")
    if found := BELONGS.search(name):
        name = found[1]
    elif found := ITS_TYPE.match(name):
        name = f"table {found[1]}"
    return f"{database}: {name}"


def _database(result: CheckResult) -> str:
    return result.thing.partition(": ")[0] if result.name in CATALOGS else ""


def _cause(result: CheckResult) -> str:
    """Return the words without figures: they are common to two answers that tell the same."""
    return FIGURES.sub(
        "#",
        f"{result.value if isinstance(result.value, str) else '#'}"
        f"|{result.threshold}|{result.message}|{result.hint}",
    )


def _worst(result: CheckResult) -> tuple[int, float]:
    """Return a sort key: the object itself before what belongs to it.

    The lowest figure comes first where that is the worst.
    """
    itself = 0 if result.name not in CATALOGS or _object(result) == result.thing else 1
    figure = float(result.value) if isinstance(result.value, int | float) else 0.0
    return itself, figure if result.name in WORST_IS_LOWEST else -figure


def _figures(results: Sequence[CheckResult]) -> dict[str, object]:
    """Return what was found beside what was wanted.

    Where each is held against another figure, it is the first one's alone.
    """
    first, wanted = results[0], {one.threshold for one in results}
    numbers = [one.value for one in results if isinstance(one.value, int | float)]
    found = list(dict.fromkeys(str(one.value) for one in results if one.value is not None))
    if len(found) <= 1 and len(wanted) == 1:
        return {"value": first.value, "threshold": first.threshold}
    if len(wanted) > 1 or len(numbers) < len(results):
        return {
            "value": f"first: {figure(first.value)}" if first.value is not None else None,
            "threshold": first.threshold,
        }
    low, high = figure(min(numbers)), figure(max(numbers))
    return {"value": f"{low} to {high}", "threshold": first.threshold}


def _messages(results: Sequence[CheckResult]) -> str:
    different = list(dict.fromkeys(one.message for one in results if one.message))
    if len(different) <= 1:
        return "".join(different)
    if results[0].name in CATALOGS:
        return "; ".join(different[:6]) + (
            f"; and {len(different) - 6} more" if len(different) > 6 else ""
        )
    return f"first: {results[0].message}" if results[0].message else different[0]

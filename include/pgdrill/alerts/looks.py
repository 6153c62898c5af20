"""A look at a cluster, sorted by cause: what is bad, what could not be asked, what is good."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pgdrill.alerts.model import RANK, SHOWN, Link, Severity
from pgdrill.alerts.policy import Policy
from pgdrill.health.model import HealthFinding, HealthReport

UNKNOWN = ".unknown"
LONGEST = 500  # characters of a finding's words: others named and said them


@dataclass(frozen=True, slots=True)
class Look:
    """One look: its findings, and a name by which the same look is known when it comes twice."""

    cluster: str
    name: str
    findings: tuple[HealthFinding, ...]
    links: Mapping[str, tuple[Link, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look says about one cause.

    ``bad``: the findings that open it, the worst first. ``good``: it would stay closed.
    ``clears``: it ends. Neither bad nor good: nothing is known of it.
    """

    bad: tuple[HealthFinding, ...] = ()
    good: bool = False
    clears: bool = False
    severity: Severity = "unknown"
    not_asked: bool = False
    bad_looks: int = 1
    good_looks: int = 1


def look_of(report: HealthReport, links: Mapping[str, tuple[Link, ...]] | None = None) -> Look:
    """Return a health report as a look."""
    name = f"{report.host[:100]} {report.started_at.isoformat()}"
    return Look(report.cluster, name, tuple(report.findings), links or {})


def by_cause(findings: Iterable[HealthFinding], policy: Policy) -> Iterator[tuple[str, Seen]]:
    """Yield what the findings say, for each check and for its being askable at all."""
    checks: dict[str, list[HealthFinding]] = {}
    for finding in findings:
        checks.setdefault(finding.check, []).append(finding)
    for check, found in checks.items():
        rule = policy.rule(check)
        unknown = tuple(one for one in found if one.status == "unknown")
        bad = tuple(sorted((one for one in found if one.status in RANK and one not in unknown),
                           key=_worst_first))  # fmt: skip
        good = not bad and not unknown
        not_asked = all(one.status == "not asked" for one in found)
        yield (
            check,
            Seen(
                bad,
                good=good,
                clears=good and all(map(rule.clears, found)),
                severity="critical" if any(one.status == "critical" for one in bad) else "warning",
                not_asked=not_asked,
                bad_looks=rule.bad_looks,
                good_looks=rule.good_looks,
            ),
        )
        known = not unknown
        yield (
            check + UNKNOWN,
            Seen(
                unknown,
                good=known,
                clears=known,
                not_asked=not_asked,
                bad_looks=rule.unknown_looks,
                good_looks=rule.good_looks,
            ),
        )


def shortened(findings: tuple[HealthFinding, ...]) -> tuple[HealthFinding, ...]:
    """Return the worst findings, with words of a bearable length."""
    return tuple(
        one.model_copy(
            update={
                name: getattr(one, name)[:LONGEST] for name in ("thing", "found", "promise", "hint")
            }
        )
        for one in findings[:SHOWN]
    )


def by_clock(finding: HealthFinding, now: datetime) -> datetime:
    """Return when a finding was made, never later than now."""
    return min(finding.looked_at, now)


def _worst_first(finding: HealthFinding) -> tuple[int, float]:
    rank = -RANK["critical" if finding.status == "critical" else "warning"]
    return rank, -(finding.would_lose_seconds or 0)

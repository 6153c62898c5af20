"""When an alert opens, closes and is told again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from pgdrill.alerts.model import Severity
from pgdrill.health.model import HealthFinding
from pgdrill.health.runs import JOBS, check_of


@dataclass(frozen=True, slots=True)
class Rule:
    """How many looks make an alert of a check, and end it.

    ``clear_share``: an open alert ends only below that share of the promise, so that a measure
    which hovers at the promise does not open and close all the time.
    """

    bad_looks: int = 1
    good_looks: int = 2
    unknown_looks: int = 3
    clear_share: float = 1.0

    def clears(self, finding: HealthFinding) -> bool:
        """Return whether a good finding is good enough to end an alert."""
        if self.clear_share == 1 or finding.value is None or finding.promised is None:
            return True
        return finding.value < finding.promised * self.clear_share


# Lag goes by seconds, not by looks: it is told at 30 and over below 15. A watch that looks again is
# back: it is asked for every five minutes only. Of a job's runs, one that passed ends the alert.
RULES: Mapping[str, Rule] = {
    "replay-lag": Rule(good_looks=1, clear_share=0.5),
    "watch": Rule(good_looks=1),
    **{check_of(job): Rule(good_looks=1) for job in JOBS},
}


@dataclass(frozen=True)
class Policy:
    """What the transition goes by.

    ``hides``: check -> the checks whose bad state is its consequence. ``routes``: the channels of
    the cluster by severity.
    """

    default: Rule = Rule()
    rules: Mapping[str, Rule] = field(default_factory=lambda: RULES)
    hides: Mapping[str, Collection[str]] = field(default_factory=dict)
    routes: Mapping[Severity, tuple[str, ...]] = field(default_factory=dict)
    repeat: timedelta = timedelta(days=1)

    def rule(self, check: str) -> Rule:
        """Return the rule of a check."""
        return self.rules.get(check, self.default)

"""Bounds on how often a healthy cluster would be called damaged, for checks that ask few probes.

A check that draws fifty probes sees what they happen to show. A failure may only be what a healthy
copy shows so seldom that all checks of a whole drill together raise a false alarm in fewer than one
of a thousand drills. Each question gets the same share of that; what is more likely than its share
is a warning.
"""

from __future__ import annotations

import math
from functools import cache

FALSE_ALARMS = 0.001  # of a whole drill, at most
# Questions that probes ask of each search: recall, a tenant's recall, as a tenant's role, and
# coverage by samples.
KINDS_OF_QUESTION = 4


def share_of(searches: int) -> float:
    """Return the share of false alarms that one question may raise among so many searches.

    By Bonferroni, this holds whatever the questions have in common.
    """
    return FALSE_ALARMS / (KINDS_OF_QUESTION * max(searches, 1))


def at_least(successes: int, trials: int, share: float) -> float:
    """Return the chance of so many successes or more, each with the chance ``share`` (binomial)."""
    if successes <= 0:
        return 1.0
    if not 0.0 < share < 1.0 or successes > trials:
        return 1.0 if share >= 1.0 and successes <= trials else 0.0
    terms = (
        _log_choose(trials, k) + k * math.log(share) + (trials - k) * math.log1p(-share)
        for k in range(successes, trials + 1)
    )
    return min(1.0, math.fsum(map(math.exp, terms)))


def as_uneven(now: int, trials: int, before: int, trials_before: int) -> float:
    """Return the chance that so many failures, or more, fall among these trials.

    It holds if both groups of trials were alike, given all that failed in both (hypergeometric).
    """
    failed, every = now + before, trials + trials_before
    most = min(failed, trials)
    if now <= 0 or now > most:
        return 1.0
    base = _log_choose(every, failed)
    terms = (
        _log_choose(trials, k) + _log_choose(trials_before, failed - k) - base
        for k in range(max(now, failed - trials_before), most + 1)
    )
    return min(1.0, math.fsum(map(math.exp, terms)))


def as_lopsided(worse: int, better: int) -> float:
    """Return the chance that so many probes are worse, of those whose answer differs.

    It holds if either way is as likely (the sign test).
    """
    return at_least(worse, worse + better, 0.5)


@cache
def _log_choose(every: int, some: int) -> float:
    if not 0 <= some <= every:
        return -math.inf
    return math.lgamma(every + 1) - math.lgamma(some + 1) - math.lgamma(every - some + 1)

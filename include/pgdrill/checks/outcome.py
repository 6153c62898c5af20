"""The answer of a check to its question."""

from __future__ import annotations

from dataclasses import dataclass

from pgdrill.reports.model import NOT_ASKED, CheckStatus


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer. ``thing`` names what was looked at, ``value`` is what was measured.

    ``hint`` goes before the check's own where the thing brings one; ``required`` false lets this
    skip keep no drill from green. ``proved``: a difference from an older baseline that nothing
    written since explains.
    """

    status: CheckStatus
    thing: str = ""
    value: float | int | str | None = None
    threshold: str = ""
    message: str = ""
    hint: str = ""
    required: bool = True
    proved: bool = False


def not_asked(thing: str, why: str) -> Outcome:
    """Return the skip of a question that configuration and data do not ask.

    Such a skip keeps no drill from green.
    """
    return Outcome("skip", thing, NOT_ASKED, message=why, required=False)

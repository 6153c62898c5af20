"""What became of a damage."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

# The columns of the summary; the last two must stay empty.
CAUGHT = ("preflight", "tool", "start", "recovery", "checks")
HARMLESS = ("same bytes", "same content")
MISSED = "missed"
CRASHED = "crashed"  # with a traceback, for which no report has a word: as bad


@dataclass(frozen=True, slots=True)
class Outcome:
    """``area`` and ``kind`` of a damage to ``thing``, and what ended it (``CAUGHT``, ``HARMLESS``,
    ``CRASHED`` or ``MISSED``).
    """

    area: str
    kind: str
    thing: str
    end: str
    words: str = ""


def table(outcomes: list[Outcome]) -> list[str]:
    """The figures as a Markdown table: a row for each area and kind."""
    ends = (*CAUGHT, *HARMLESS, CRASHED, MISSED)
    lines = [
        "| damaged | how | " + " | ".join(ends) + " | all |",
        "| --- | --- |" + " ---: |" * (len(ends) + 1),
    ]
    for area, kind in dict.fromkeys(
        (o.area, o.kind) for o in sorted(outcomes, key=lambda o: (o.area, o.kind))
    ):
        found = Counter(o.end for o in outcomes if (o.area, o.kind) == (area, kind))
        lines.append(
            f"| {area} | {kind} | "
            + " | ".join(str(found[end] or "") for end in ends)
            + f" | {found.total()} |"
        )
    total = Counter(o.end for o in outcomes)
    lines.append(
        "| **all** | | " + " | ".join(str(total[end]) for end in ends) + f" | {total.total()} |"
    )
    return lines

"""Believable texts for the sample data: three verticals, each with topics, so that neighbours share
a subject.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

from pgdrill_demo import vocabulary as words

if TYPE_CHECKING:
    from collections.abc import Sequence

VERTICALS = ("healthcare", "real_estate", "sales")
_Choice = TypeVar("_Choice")


def pick(rng: random.Random, choices: Sequence[_Choice]) -> _Choice:
    """Draw one of *choices*. Only ``random()`` promises the same numbers in every Python, so
    nothing else is used.
    """
    return choices[int(rng.random() * len(choices))]


def below(rng: random.Random, limit: int) -> int:
    """Draw a whole number from 0 up to, not including, *limit*."""
    return int(rng.random() * limit)


def passage(vertical: str, rng: random.Random) -> str:
    """Return two or three sentences on one topic of *vertical*, some 100 to 250 characters."""
    subject, finding, action = (
        pick(rng, part.split("|")) for part in pick(rng, words.TOPICS[vertical])
    )
    opening = pick(rng, words.OPENINGS[vertical])
    closing = pick(rng, words.CLOSINGS[vertical])
    # People and places are drawn for every sentence apart: the same subject, yet rarely the same
    # text twice.
    return f"{_fill(opening, rng)} {subject}; {finding}. {_sentence(action)} {_fill(closing, rng)}"


def passages(vertical: str, count: int, seed: int) -> list[str]:
    """Return *count* texts; the same arguments give the same texts, on every machine."""
    rng = random.Random(seed)
    return [passage(vertical, rng) for _ in range(count)]


def _fill(template: str, rng: random.Random) -> str:
    return template.format(
        first=pick(rng, words.FIRST_NAMES),
        last=pick(rng, words.LAST_NAMES),
        city=pick(rng, words.CITIES),
        street=pick(rng, words.STREETS),
        day=pick(rng, words.WEEKDAYS),
        number=10 + below(rng, 990),
    )


def _sentence(clause: str) -> str:
    return f"{clause[0].upper()}{clause[1:]}."

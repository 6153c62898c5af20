"""The threat model names a test for each claim: those tests are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(test_\w+)`")
DEFINED = re.compile(r"^def (test_\w+)", re.MULTILINE)


def test_every_test_that_the_threat_model_names_is_there() -> None:
    named = set(NAMED.findall((ROOT / "docs" / "explanation" / "security.md").read_text()))
    there = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in DEFINED.findall(file.read_text())
    }
    assert len(named) > 30
    assert sorted(named - there) == []


def test_every_line_of_what_somebody_cannot_do_names_a_test() -> None:
    claims = list(_claims())
    assert len(claims) > 40
    assert [line for line in claims if not NAMED.search(line.rstrip(" |").rpartition("|")[2])] == []


def _claims() -> Iterator[str]:
    """Yield the lines of the tables that name tests."""
    for table in (ROOT / "docs" / "explanation" / "security.md").read_text().split("\n\n"):
        head, *lines = table.strip().splitlines()
        if head.endswith("| test |"):
            yield from lines[1:]

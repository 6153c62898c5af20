"""The threat model names a test for each claim: those tests are there."""

from __future__ import annotations

import re
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

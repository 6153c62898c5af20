"""Every check says what passing means, what a failing answer looks like and what to do; the
documentation keeps step.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pgdrill.checks import CHECKS, FAMILIES
from pgdrill.cli import app

PROJECT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_explains_itself(name: str) -> None:
    check = CHECKS[name]
    assert check.family in FAMILIES
    assert check.passing
    assert check.hint
    assert check.example, f"{name} has no example of a failing answer: check(…, example=…)"
    assert "wanted" in check.example, f"{name}: an example shows what was found and what was wanted"


def test_docs_checks_md_is_what_the_registry_says() -> None:
    shown = CliRunner().invoke(app, ["checks", "--markdown"])
    assert shown.exit_code == 0
    assert (PROJECT / "docs" / "reference" / "checks.md").read_text() == shown.stdout, (
        "run: pgdrill checks --markdown > docs/reference/checks.md"
    )
    assert [line[4:] for line in shown.stdout.splitlines() if line.startswith("### ")] == sorted(
        CHECKS, key=lambda name: FAMILIES.index(CHECKS[name].family)
    )

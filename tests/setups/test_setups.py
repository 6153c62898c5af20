"""Ordinary servers, roles, clients and stores: each works, or is answered in words that doctor had
said beforehand.

``make setups`` tries the full set, goes on where it was stopped, and writes
docs/evidence/setups.md; ``make test`` draws ten by the commit's number (PGDRILL_SEED names another
draw). PGDRILL_SETUPS=words tries those that have the words in their names.
"""

from __future__ import annotations

import json
import os

import pytest

from pgdrill.tool_facts import TOOLS
from tests.conftest import thorough
from tests.faults.cases import at_once, draw, seed
from tests.setups import table
from tests.setups.full import FULL
from tests.setups.judge import judge
from tests.setups.programs import programs
from tests.setups.setup import Setup

DRAWN = 10
LEAST = 60
WORDS = os.environ.get("PGDRILL_SETUPS", "")


@pytest.mark.timeout(0)  # each command has a limit of its own
def test_an_ordinary_set_up_works_or_is_answered_in_words_that_doctor_said_beforehand() -> None:
    wrong = []
    for found in at_once(chosen(), judge, lambda _: ""):
        table.keep(found)
        print(
            f"{found.setup}: {found.answered} ({found.foreseen}) in {found.seconds} s"
            f" {found.wrong and 'WRONG: ' + found.wrong}",
            flush=True,
        )
        if found.wrong:
            wrong.append(f"{found.setup}: {found.wrong}")
    assert not wrong, f"seed {seed()}:\n" + "\n".join(wrong)


def chosen() -> list[Setup]:
    """All that are not settled yet, or ten; those whose PostgreSQL and tool are here."""
    place = {
        id(one): number
        for family in {one.family for one in FULL}
        for number, one in enumerate(one for one in FULL if one.family == family)
    }
    # quick ones first, then of each family
    here = sorted(
        (one for one in FULL if programs(one.postgres) and TOOLS[one.tool].found() and one.here()),
        key=lambda one: (not one.answer, place[id(one)]),
    )
    if WORDS:
        return [one for one in here if WORDS in str(one)]
    if not here:
        pytest.skip("neither wal-g nor barman-cloud is installed here: set-ups are left out")
    if not thorough():  # of those that the full set has tried somewhere
        tried = set(json.loads(table.TABLE.found.read_text()))
        return draw([one for one in here if str(one) in tried], DRAWN, "setups")
    table.TABLE.there({str(one) for one in FULL})
    known = table.TABLE.settled()
    return [one for one in here if str(one) not in known]


def test_there_are_at_least_sixty_of_them_and_each_has_a_name_of_its_own() -> None:
    names = [str(one) for one in FULL]
    assert len(names) == len(set(names)) >= LEAST

"""pgvector before 0.7, which has one type, ``vector``: backed up, drilled and dumped as newer ones
are.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from pgdrill.backup import take_backup
from pgdrill.drill import drill
from pgdrill.logical.drill import drill_dump
from pgdrill.logical.take import take_dump
from pgdrill.postgres.binaries import Binaries
from pgdrill.reports.model import CheckResult
from pgdrill_demo import stack as demo
from pgdrill_demo.stack import preferred_tool
from tests.conftest import need
from tests.damage import small
from tests.integration.worlds import production

VARIABLE = "PGDRILL_OLD_PGVECTOR"


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Binaries:
    """Those of the wheel ``pgserver`` 0.1.4 (PostgreSQL 16.2, pgvector 0.6.2, no contrib), unpacked
    somewhere or installed.
    """
    found = importlib.util.find_spec("pgserver")
    folder = os.environ.get(VARIABLE) or (
        found and found.origin and str(Path(found.origin).parent / "pginstall" / "bin")
    )
    if not folder:
        pytest.skip(
            "no pgvector before 0.7 here: unpack the wheel pgserver 0.1.4 and name its"
            f" pginstall/bin in {VARIABLE}"
        )
    made = Binaries(Path(folder))
    for module in (demo, small):
        monkeypatch.setattr(module, "binaries", lambda: made)
    return made


def test_pgvector_0_6_is_proved_but_for_what_its_package_lacks(programs: Binaries) -> None:
    with production(need(preferred_tool())) as stack:
        with stack.connect() as connection:
            version = connection.execute(
                "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
            ).fetchone()[0]
            assert tuple(map(int, version.split("."))) < (0, 7)
            connection.execute(
                "CREATE INDEX ON docs USING ivfflat (v vector_cosine_ops) WITH (lists = 2)"
            )
        take_backup(stack.access)
        report = drill(stack.access)
        assert report.restore.status == "ok", report.restore.trouble
        only_without_contrib(report.results)
        assert {"pass"} == {
            one.status
            for one in report.results
            if one.name in ("vector-content", "index-recall", "exact-neighbours", "vector-values")
        }
        take_dump(stack.access)
        only_without_contrib(drill_dump(stack.access).results)


def only_without_contrib(results: list[CheckResult]) -> None:
    lacking = [
        one for one in results if one.status == "fail" or (one.status == "skip" and one.required)
    ]
    assert not [
        (one.name, one.thing, one.message)
        for one in lacking
        if "install PostgreSQL's contrib package" not in str(one.message)
    ]

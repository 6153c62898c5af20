"""Folders with very long names: sockets, whose names hold 107 bytes, are made elsewhere."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from pgdrill.access import Access
from pgdrill.backup import take_backup
from pgdrill.drill import drill
from pgdrill.logical.drill import drill_dump
from pgdrill.logical.take import take_dump
from tests.conftest import TOOLS, need
from tests.integration.worlds import healthy, production


@pytest.mark.parametrize("tool", TOOLS)
def test_work_and_temporary_directories_may_have_long_names(
    tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with production(need(tool)) as stack:
        long = (
            stack.home
            / "a-folder-of-a-name-that-nobody-would-type-by-hand"
            / "and-one-below-it-of-another-such-name"
            / "x"
        )
        long.mkdir(mode=0o700, parents=True)
        access = at(stack.access, long / "work")
        take_backup(access)
        healthy(drill(access))
        monkeypatch.setenv("TMPDIR", str(long))
        monkeypatch.setattr(tempfile, "tempdir", None)
        take_backup(access)
        healthy(drill(access))
        take_dump(access)
        dumped = drill_dump(access)
        assert dumped.verdict == "passed", dumped.reason
        assert not [one for one in long.iterdir() if one.name != "work"], "left behind"


def at(access: Access, work: Path) -> Access:
    drills = access.cluster.drill.model_copy(update={"work_directory": work})
    return Access(access.cluster.model_copy(update={"drill": drills}), access.credentials)

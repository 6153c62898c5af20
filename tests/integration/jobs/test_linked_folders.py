"""Folders that are, or lie below, symbolic links: for work, for temporary files, and production's
own.
"""

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
def test_folders_behind_links_are_as_good_as_others(
    tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with production(need(tool)) as stack:
        home = stack.home
        # Short names: barman-cloud's workers talk by sockets in their temporary folder, whose paths
        # have to be short.
        (home / "disk").mkdir(mode=0o700)
        (home / "d").symlink_to(home / "disk")
        (home / "l").symlink_to(home)  # below it lies what is named by way of it
        (home / "pgdata").symlink_to(home / "primary")
        (home / "t").mkdir(mode=0o700)
        if tool == "wal-g":
            monkeypatch.setenv("TMPDIR", str(home / "l" / "t"))
        monkeypatch.setattr(tempfile, "tempdir", None)
        ways = [(home / "d", home / "pgdata"), (home / "l" / "b", home / "l" / "primary")]
        for work, data in ways if tool == "wal-g" else ways[:1]:
            access = at(stack.access, work, data)
            take_backup(access)
            healthy(drill(access))
        take_dump(access)
        dumped = drill_dump(access)
        assert dumped.verdict == "passed", dumped.reason


def at(access: Access, work: Path, data: Path) -> Access:
    cluster = access.cluster
    places = {
        "drill": cluster.drill.model_copy(update={"work_directory": work}),
        "server": cluster.server.model_copy(update={"data_directory": data}),
    }
    return Access(cluster.model_copy(update=places), access.credentials)

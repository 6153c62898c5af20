"""Files of a data directory that cannot be read are found, but for those that no backup holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pgdrill.host.readable import unreadable


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_closed_files_and_folders_are_named_and_what_tools_leave_out_is_not(tmp_path: Path) -> None:
    for name in (
        "base/1/2601",
        "server.key",
        "postmaster.opts",
        "log/today",
        "pg_replslot/one/state",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch(mode=0)
    (tmp_path / "closed").mkdir(mode=0)
    (tmp_path / "link").symlink_to(tmp_path / "server.key")
    found = {str(path.relative_to(tmp_path)) for path in unreadable(tmp_path)}
    (tmp_path / "closed").chmod(0o700)
    assert found == {"base/1/2601", "server.key", "closed"}


def test_all_that_can_be_read_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "pg_tblspc").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "pg_tblspc" / "16400").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "PG_VERSION").touch()
    assert list(unreadable(tmp_path)) == []

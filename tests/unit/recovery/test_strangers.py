"""Links, pipes and second names in an unpacked backup go before anything is done by their names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pgdrill.recovery.strangers import remove_strangers


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "cluster" / "data"
    (folder / "base" / "1").mkdir(parents=True)
    (folder / "pg_tblspc").mkdir()
    (folder / "base" / "1" / "1249").write_text("page")
    return folder


def test_what_is_a_folder_or_a_plain_file_stays(data: Path) -> None:
    (data / "pg_wal").mkdir()
    before = sorted(data.rglob("*"))
    assert remove_strangers(data, []) == []
    assert sorted(data.rglob("*")) == before


def test_links_pipes_and_second_names_go_and_what_they_lead_to_stays(
    data: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("production's")
    (data / "recovery.signal").symlink_to(outside / "file")
    (data / "base" / "out").symlink_to(outside)
    (data / "postgresql.auto.conf").hardlink_to(outside / "file")
    os.mkfifo(data / "backup_label")
    (data / "dangling").symlink_to("/nowhere")
    gone = remove_strangers(data, [])
    assert {path.name for path in gone} == {
        "recovery.signal",
        "out",
        "postgresql.auto.conf",
        "backup_label",
        "dangling",
    }
    assert not any(os.path.lexists(path) for path in gone)
    assert (outside / "file").read_text() == "production's"


def test_the_links_to_its_own_tablespaces_stay_and_others_go(data: Path, tmp_path: Path) -> None:
    spaces = [tmp_path / "cluster" / "tablespaces" / oid for oid in ("16390", "16391")]
    for space in spaces:
        space.mkdir(parents=True)
        (data / "pg_tblspc" / space.name).symlink_to(space)
    (data / "pg_tblspc" / "16392").symlink_to(spaces[0])
    (data / "pg_tblspc" / "16391").unlink()
    (data / "pg_tblspc" / "16391").symlink_to(tmp_path)
    (spaces[0] / "PG_18").symlink_to(tmp_path)
    gone = remove_strangers(data, spaces)
    assert sorted(path.name for path in gone) == ["16391", "16392", "PG_18"]
    assert (data / "pg_tblspc" / "16390").is_symlink()


def test_a_link_to_another_disk_for_wal_becomes_a_folder(data: Path, tmp_path: Path) -> None:
    (data / "pg_wal").symlink_to("/mnt/wal")
    remove_strangers(data, [])
    assert (data / "pg_wal").is_dir()
    assert not (data / "pg_wal").is_symlink()

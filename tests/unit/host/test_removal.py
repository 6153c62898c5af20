"""Removing what an attacker may have filled: nothing outside is touched, and nothing stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pgdrill.host.removal import GONE, put_away, remove


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "drills" / "d1"
    (made / "cluster" / "data" / "base" / "1").mkdir(parents=True)
    (made / "cluster" / "data" / "base" / "1" / "1259").write_text("rows")
    return made


def left(folder: Path) -> list[Path]:
    return list(folder.parent.iterdir())


def test_a_folder_goes_whole(folder: Path) -> None:
    put_away(folder)
    assert left(folder) == []
    put_away(folder)  # once more


def test_no_link_is_followed(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "production"
    outside.mkdir()
    (outside / "1259").write_text("rows")
    (folder / "cluster" / "tablespaces").symlink_to(outside)
    (folder / "cluster" / "data" / "1259").symlink_to(outside / "1259")
    (folder / "home").symlink_to(outside, target_is_directory=True)
    put_away(folder)
    assert left(folder) == []
    assert [file.name for file in outside.iterdir()] == ["1259"]
    link = folder.with_name("d2")
    link.symlink_to(outside, target_is_directory=True)
    with pytest.raises(OSError, match=r"symbolic|Not a directory"):
        remove(link)
    assert [file.name for file in outside.iterdir()] == ["1259"]


def test_folders_that_are_closed_to_their_owner_go_too(folder: Path) -> None:
    (folder / "cluster" / "data" / "base").chmod(0)
    (folder / "cluster").chmod(0o500)
    put_away(folder)
    assert left(folder) == []


def test_folders_deeper_than_any_path_go_too(folder: Path) -> None:
    deep = os.open(folder / "cluster", os.O_RDONLY)
    for _ in range(3000):  # 6,000 bytes of path, three times as deep as Python's stack
        os.mkdir("d", dir_fd=deep)
        below = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(deep)
    put_away(folder)
    assert left(folder) == []


def test_what_is_no_file_goes_too(folder: Path) -> None:
    os.mkfifo(folder / "cluster" / "asked")
    (folder / "cluster" / "a\nname\x1b[31m").write_text("")
    put_away(folder)
    assert left(folder) == []


def test_an_interrupted_removal_is_finished_by_the_next(folder: Path) -> None:
    folder.rename(folder.with_name(f"d1{GONE}0a0b0c0d"))
    put_away(folder)
    assert left(folder) == []

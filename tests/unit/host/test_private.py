"""Folders that are ours alone: names that nobody can take beforehand, and places that nobody else
rules.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgdrill.errors import ConfigError, CouldNotVerify
from pgdrill.host import private
from pgdrill.recovery.workspace import Workspace

ROOT = os.geteuid() == 0
STRANGER = 12345


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place like /tmp, for folders of short names."""
    with tempfile.TemporaryDirectory(prefix="s", dir=private.short_place()) as name:
        folder = Path(name)
        folder.chmod(0o1777)
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield folder


def long_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "a-folder-of-a-name-that-nobody-would-type-by-hand"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_socket_fits_below_it_however_long_the_name_of_the_temporary_folder(
    tmp_path: Path, link: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = long_named(tmp_path, monkeypatch)
    folder = private.short_folder(link)
    try:
        with socket.socket(socket.AF_UNIX) as one:
            (folder / "pymp-12345678").mkdir()
            one.bind(str(folder / "pymp-12345678" / "listener-12345678"))
        assert not list(elsewhere.iterdir())
    finally:
        private.forget(link)
    assert not folder.exists()


def test_where_every_short_folder_is_closed_the_hint_can_be_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_named(tmp_path, monkeypatch)
    monkeypatch.setattr(private, "SHORT_PLACES", ("/proc/nowhere",))
    with pytest.raises(ConfigError, match="set TMPDIR to a folder with a short name") as caught:
        private.short_place()
    assert caught.value.problem.reason == "long-temporary-folder"
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as short:
        monkeypatch.setenv("TMPDIR", short)
        monkeypatch.setattr(tempfile, "tempdir", None)
        assert private.short_place() == Path(short)


@pytest.fixture
def link(tmp_path: Path) -> Path:
    (tmp_path / "drill").mkdir(mode=0o700)
    return tmp_path / "drill" / "socket"


def test_it_is_closed_to_others_and_found_again(shared: Path, link: Path) -> None:
    folder = private.short_folder(link)
    assert folder.parent == shared
    assert folder.stat().st_mode & 0o777 == 0o700
    assert private.short_folder(link) == private.remembered(link) == folder


def test_two_folders_never_have_a_name_that_could_be_foretold(shared: Path, link: Path) -> None:
    first = private.short_folder(link)
    private.forget(link)
    assert not first.exists()
    assert not link.is_symlink()
    assert private.short_folder(link) != first


@pytest.mark.parametrize("made", ["open to all", "a link", "a file", "another name"])
def test_what_somebody_else_put_in_its_place_is_neither_used_nor_removed(
    shared: Path, link: Path, tmp_path: Path, made: str
) -> None:
    folder = private.short_folder(link)
    folder.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / "kept").write_text("somebody's")
    match made:
        case "open to all":
            folder.mkdir()
            folder.chmod(0o777)
        case "a link":
            folder.symlink_to(elsewhere)
        case "a file":
            folder.write_text("")
        case "another name":
            link.unlink()
            link.symlink_to(elsewhere)
    assert private.remembered(link) is None
    new = private.short_folder(link)
    assert new not in (folder, elsewhere)
    private.forget(link)
    assert (elsewhere / "kept").read_text() == "somebody's"
    assert made == "another name" or os.path.lexists(folder)


@pytest.mark.skipif(not ROOT, reason="only root can give files away")
def test_a_strangers_folder_is_refused_but_the_restored_servers_own_is_used(
    shared: Path, link: Path
) -> None:
    folder = private.short_folder(link)
    os.chown(folder, STRANGER, STRANGER)
    assert private.remembered(link) is None
    assert private.remembered(link, (STRANGER,)) == folder
    private.forget(link, (STRANGER,))
    assert not folder.exists()


def test_the_path_is_short_enough_for_a_socket() -> None:
    assert len(f"/tmp/{private.PREFIX}{'0' * 16}/.s.PGSQL.65535") < 108


# --- where drills work ---


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "work" / "agents" / "drills" / "d1"
    folder.mkdir(mode=0o700, parents=True)
    return folder


def refused(place: Path) -> str:
    with pytest.raises(CouldNotVerify) as caught:
        Workspace(place).create()
    assert caught.value.problem.reason == "unsafe-folder"
    assert caught.value.problem.hint
    return str(caught.value)


def test_a_folder_of_our_own_is_taken_and_one_that_is_not_there_yet_is_made(
    place: Path, shared: Path
) -> None:
    Workspace(place).create()
    other = place.parents[1] / "new" / "d2"
    Workspace(other).create()
    assert other.is_dir()


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_folder_that_everybody_may_write_to_is_refused_by_name(place: Path, level: int) -> None:
    folder = (place, *place.parents)[level]
    folder.chmod(0o1777)
    assert str(folder) in refused(place)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_link_in_its_place_is_refused_by_name(place: Path, level: int, tmp_path: Path) -> None:
    folder = (place, *place.parents)[level]
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    assert str(folder) in refused(place)


@pytest.mark.skipif(not ROOT, reason="only root can give files away")
@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_folder_that_somebody_else_made_beforehand_is_refused_by_name(
    place: Path, level: int
) -> None:
    folder = (place, *place.parents)[level]
    os.chown(folder, STRANGER, STRANGER)
    assert str(folder) in refused(place)


def test_a_place_where_everybody_may_rename_is_refused_unless_only_owners_may(
    place: Path, shared: Path
) -> None:
    work = place.parents[2]
    work.chmod(0o777)
    assert str(work) in refused(place)
    work.chmod(0o1777)  # as /tmp is
    Workspace(place).create()


@pytest.mark.parametrize(("began", "goes_on"), [(0o000, 0o022), (0o027, 0o027), (0o077, 0o077)])
def test_nobody_else_writes_to_folders_in_between_whatever_the_umask_was(
    began: int, goes_on: int, tmp_path: Path
) -> None:
    before = os.umask(began)
    try:
        private.closed_to_writers()
        (tmp_path / "between" / "folder").mkdir(mode=0o700, parents=True)
    finally:
        found = os.umask(before)
    assert found == goes_on
    assert not (tmp_path / "between").stat().st_mode & 0o022

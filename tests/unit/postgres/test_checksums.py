"""The way to switch page checksums on, in words that can be followed on this host."""

from __future__ import annotations

from pathlib import Path

from pgdrill.postgres.checksums import PROGRAMS, switch_on


def test_programs_that_are_there_are_called_by_their_paths(tmp_path: Path) -> None:
    for name in PROGRAMS:
        (tmp_path / name).touch()
    said = switch_on(tmp_path, Path("/srv/our data"))
    assert f"`{tmp_path}/pg_ctl stop -D '/srv/our data' && {tmp_path}/pg_checksums " in said
    assert "install" not in said


def test_a_program_that_is_not_there_is_told_first(tmp_path: Path) -> None:
    (tmp_path / "pg_ctl").touch()
    said = switch_on(tmp_path, Path("/srv/data"))
    assert said.startswith(f"install PostgreSQL's server package ({tmp_path} has no pg_checksums)")

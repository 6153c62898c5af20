"""The work directory is made where that may be, and asked for in words where not."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from pgdrill.errors import ConfigError
from pgdrill.host.place import make_place


def test_a_folder_that_may_be_made_is_made_for_its_user_alone(tmp_path: Path) -> None:
    make_place(tmp_path / "var" / "pgdrill")
    make_place(tmp_path / "var" / "pgdrill")
    assert (tmp_path / "var" / "pgdrill").stat().st_mode & 0o777 == 0o700


def test_one_that_cannot_be_made_is_told_with_the_line_that_makes_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as caught:
        make_place(tmp_path / "file" / "pgdrill")
    problem, me = caught.value.problem, pwd.getpwuid(os.geteuid()).pw_name
    assert problem.reason == "work-directory"
    assert f"`install -d -m 0700 -o {me} {tmp_path}/file/pgdrill`" in problem.hint


def test_one_that_cannot_be_written_is_told() -> None:
    """Not even by root, to whom access(2) says that it can."""
    with pytest.raises(ConfigError, match="nothing can be written"):
        make_place(Path("/sys/kernel"))

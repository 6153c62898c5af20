"""PostgreSQL's programs on this host, by the distributions' habits and by what runs here."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pgdrill.postgres.server import pid_lines

DEBIAN, RED_HAT = "/usr/lib/postgresql/{major}/bin", "/usr/pgsql-{major}/bin"
NEEDED = ("postgres", "pg_controldata", "pg_waldump")
QUICK_SECONDS = 10


def find_programs(major_version: int, data_directory: Path | None = None) -> Path | None:
    """Find the ``bin`` folder of that major version.

    The running server's own comes first, then packages', then PATH's.
    """
    return next(
        (
            folder
            for folder in _candidates(major_version, data_directory)
            if _fits(folder, major_version)
        ),
        None,
    )


def usual_programs(major_version: int) -> Path:
    """Name the folder of Debian's packages, whether it is there or not."""
    return Path(DEBIAN.format(major=major_version))


def _candidates(major: int, data_directory: Path | None) -> Iterator[Path]:
    if data_directory and (running := _of_running_server(data_directory)):
        yield running
    yield usual_programs(major)
    yield Path(RED_HAT.format(major=major))
    for program in ("postgres", "pg_config"):
        if found := shutil.which(program):
            yield Path(found).resolve().parent


def _of_running_server(data_directory: Path) -> Path | None:
    """Return the folder that the postmaster of these files was started from.

    None where this user may not see it.
    """
    try:
        return Path(f"/proc/{int(pid_lines(data_directory)[0])}/exe").readlink().parent
    except (OSError, ValueError, IndexError):
        return None


def _fits(folder: Path, major: int) -> bool:
    if not all((folder / name).is_file() for name in NEEDED):
        return False
    try:
        words = [str(folder / "postgres"), "--version"]
        said = subprocess.run(
            words, capture_output=True, text=True, timeout=QUICK_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    return re.findall(r"\d+", said)[:1] == [str(major)]

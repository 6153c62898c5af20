"""Fixtures for every level: where tests work, which tools are here, and a folder short enough for
sockets.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

from pgdrill import tool_facts

# How long an example takes is a busy machine's matter, and no property of what is tested.
settings.register_profile("by count", deadline=None)
settings.load_profile("by count")

# The tools of the tests that ask every tool: their store speaks plain http.
TOOLS = tuple(name for name, facts in tool_facts.TOOLS.items() if not facts.https_only)
# The environment's own programs first, then what set-up installed: as the Makefile does it for a
# user.
PLACES = (Path(sys.executable).parent, Path(__file__).parents[1] / ".local" / "bin")


MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 6 * 2**30  # of memory, and of its file system; the tests take up to three


def pytest_configure(config: pytest.Config) -> None:
    """Work in memory where there is room: clusters come and go by the hundred, and a disk's file
    system is slow at that.

    Whoever sets TMPDIR decides. Workers inherit it.
    """
    if "TMPDIR" in os.environ or not MEMORY.is_dir():
        return
    there = os.statvfs(MEMORY)
    free = min(there.f_bavail * there.f_frsize, psutil.virtual_memory().available // 2)
    if free >= ENOUGH_BYTES and not there.f_flag & os.ST_NOEXEC and os.access(MEMORY, os.W_OK):
        folder = tempfile.mkdtemp(prefix="pgt-", dir=MEMORY)
        # not another session's inside this one
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        os.environ["TMPDIR"] = folder
        tempfile.tempdir = None


@pytest.fixture(scope="session", autouse=True)
def _programs_on_path() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for place in reversed(PLACES):
            patch.setenv("PATH", str(place), prepend=":")
        yield


def need(tool: str) -> str:
    """The tool's name, or a skip that says what is missing."""
    if tool_facts.TOOLS[tool].found() is None:
        pytest.skip(f"{tool} is not installed here: its tests are left out")
    return tool


def thorough() -> bool:
    """Whether ``make thorough`` asks, which has the time for what takes minutes."""
    return bool(os.environ.get("PGDRILL_THOROUGH"))


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A folder with a short path: a socket's name holds 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="pgdrill-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)

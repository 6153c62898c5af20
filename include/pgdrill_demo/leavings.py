"""Which processes work in a stack's folder: those that are the stack's, and those of somebody who
looks at it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

OWN_VARIABLES = ("AIRFLOW_HOME", "HOME")  # a shell that only looks at the stack has others


def own(home: Path) -> list[int]:
    """Processes that were given a home below the folder: Airflow's, and tools' that have a home of
    their own.
    """
    return [
        one.pid
        for one in _others()
        if any(_below(home, _environment(one).get(name, "")) for name in OWN_VARIABLES)
    ]


def users(home: Path) -> list[str]:
    """Whoever still works in the folder, as far as this user may look: in words, with number and
    program.
    """
    return [_shown(one) for one in _others() if any(_below(home, path) for path in _paths(one))]


def _others() -> Iterator[psutil.Process]:
    me = psutil.Process()
    mine = {me.pid, *(one.pid for one in me.parents())}
    return (one for one in psutil.process_iter() if one.pid not in mine)


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}  # somebody else's, or gone


def _paths(process: psutil.Process) -> Iterator[str]:
    """What it has open, its working directory, the words it was started with, its variables."""
    proc = Path("/proc") / str(process.pid)
    try:
        for link in (proc / "cwd", *(proc / "fd").iterdir()):
            yield os.readlink(link)  # noqa: PTH115 - what is open may have been removed
        yield from process.cmdline()
    except (psutil.Error, OSError):
        pass
    yield from _environment(process).values()


def _below(home: Path, path: str) -> bool:
    path = path.removesuffix(" (deleted)")
    return path == str(home) or path.startswith(f"{home}/")


def _shown(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:100] or process.name()}"
    except psutil.Error:
        return str(process.pid)

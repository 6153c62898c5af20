"""The launch of a server below its keeper (:mod:`pgdrill.host.keeper`).

It outlives the task that started it, and ends by itself when nobody has a right to it any more.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pgdrill.host.process import mark_process

KEEPER = Path(__file__).with_name("keeper.py")
KEEPER_MARK = "keeper.pid"  # beside the lease, for whoever has to end it


def keeper_words(lease_file: Path, pid_file: Path) -> list[str]:
    """Return the words to put before a server's own, so that it ends with its lease."""
    return [sys.executable, "-I", "-S", str(KEEPER), str(lease_file), str(pid_file), "--"]


def launch(
    words: Sequence[str],
    log_file: Path,
    environment: Mapping[str, str],
    lease_file: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own; it reads nothing, and writes into its log alone."""
    with log_file.open("ab") as log:
        launched = subprocess.Popen(
            list(words),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=dict(environment),
            cwd="/",
        )
    if lease_file:
        mark_process(lease_file.with_name(KEEPER_MARK), launched.pid)
    return launched

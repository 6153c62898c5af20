"""pgBackRest as it is installed on this host, and its own variables."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator

from pgdrill.host.process import Command
from pgdrill.repository.tools.installation import Run, ToolFinding

# as its help lists them
COMMANDS = ("annotate", "archive-get", "archive-push", "backup", "expire", "restore")
CIPHER = "PGBACKREST_REPO1_CIPHER_TYPE"
PREFIX = "PGBACKREST_"


def lacking(program: str, run: Run) -> list[str]:
    """Return the commands that pgdrill uses and this pgBackRest's help does not list."""
    done = run(Command((program, "help")))
    listed = {line.split()[0] for line in done.stdout.splitlines() if line.split()}
    return [f"`{name}`" for name in COMMANDS if name not in listed]


def settings(ours: Collection[str]) -> Iterator[ToolFinding]:
    """Look at the variables that pgBackRest gets, and pgdrill did not set."""
    own = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in ours)
    if os.environ.get(CIPHER, "none") != "none":
        yield ToolFinding(
            "red",
            CIPHER,
            os.environ[CIPHER],
            "a repository that pgdrill can read: it reads backup.info itself",
            f"take {CIPHER} away and let the store encrypt, or keep backups with wal-g",
        )
    else:
        yield ToolFinding(
            "green", "pgBackRest's variables", f"passed on: {', '.join(own) or 'none'}"
        )

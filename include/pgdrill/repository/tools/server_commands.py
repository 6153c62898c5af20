"""The commands that PostgreSQL runs for each WAL file, by way of ``wal.sh``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pgdrill.postgres.shell_words import shell_word
from pgdrill.repository.tools.protocols import WalTool

WAL_SCRIPT = Path(__file__).with_name("wal.sh")


def archive_command(tool: WalTool, segment_bytes: int) -> str:
    """Return PostgreSQL's ``archive_command`` for a tool.

    Credentials come from the server's own environment.
    """
    return _shell(["push", str(segment_bytes), "%f", "%p", *tool.wal_push()])


def restore_command(tool: WalTool, segment_bytes: int) -> str:
    """Return PostgreSQL's ``restore_command`` for a tool."""
    return _shell(
        ["fetch", str(tool.wal_absent_code), str(segment_bytes), "%f", "%p", *tool.wal_fetch()]
    )


def _shell(words: Sequence[str]) -> str:
    shown = (f'"{word}"' if word in ("%p", "%f") else shell_word(word) for word in words)
    return f"sh {shell_word(str(WAL_SCRIPT))} {' '.join(shown)}"

"""Parts of a recovery in a server's log: these lines stand there whatever the log level."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from pgdrill.postgres.wal import format_lsn, parse_history

OWN_LINE = re.compile(rb"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \w+ \[\d+\] ", re.MULTILINE)
REDO = re.compile(r"redo done at .* elapsed: ([\d.]+) s")
LAST_TIME = re.compile(r"last completed transaction was at log time ([\d-]+ [\d:.]+)\+00")
CHECKPOINT = re.compile(
    r"checkpoint starting: end-of-recovery.*?checkpoint complete:[^\n]* total=([\d.]+) s", re.DOTALL
)


class Words:
    """The lines that a server adds to its log.

    A restore_command's tool may write there too, and does so with every vain try.
    """

    def __init__(self, log_file: Path) -> None:
        self._log, self._read = log_file, 0

    def more(self) -> bool:
        """Return True if the server itself wrote a line since the last look.

        It does with every segment, and every ten seconds of redo.
        """
        if not self._log.exists() or self._log.stat().st_size == self._read:
            return False
        with self._log.open("rb") as file:
            file.seek(self._read)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read += len(whole + newline)
        return bool(OWN_LINE.search(whole))


def redo_seconds(log: str) -> float | None:
    """Return what PostgreSQL itself says replaying took; None where there was nothing to replay."""
    return _last(REDO, log)


def checkpoint_seconds(log: str) -> float | None:
    """Return what the checkpoint took that is made before the server opens.

    It writes pages that replay changed, and has a file to recycle for every segment.
    """
    return _last(CHECKPOINT, log)


def ended_at(data_directory: Path, log: str) -> tuple[str, datetime | None]:
    """Return where replay ended and when the last transaction in it did.

    It is read from files, for a server that was started again since and knows it no more.
    """
    histories = sorted((data_directory / "pg_wal").glob("????????.history"))
    history = parse_history(histories[-1].read_text(errors="replace")) if histories else ()
    times = LAST_TIME.findall(log)
    return format_lsn(history[-1].switch_lsn if history else 0), datetime.fromisoformat(
        f"{times[-1]}+00:00"
    ) if times else None


def _last(pattern: re.Pattern[str], log: str) -> float | None:
    found = pattern.findall(log)
    return float(found[-1]) if found else None

"""What a server's log says of its recovery's parts: the lines stand there whatever the log level."""

from __future__ import annotations

import re

REDO = re.compile(r"redo done at .* elapsed: ([\d.]+) s")
CHECKPOINT = re.compile(r"checkpoint starting: end-of-recovery.*?checkpoint complete:[^\n]* total=([\d.]+) s", re.DOTALL)


def redo_seconds(log: str) -> float | None:
    """What PostgreSQL itself says replaying took; None where there was nothing to replay."""
    return _last(REDO, log)


def checkpoint_seconds(log: str) -> float | None:
    """Of the checkpoint before it opens: pages that replay changed, and a file to recycle for every segment."""
    return _last(CHECKPOINT, log)


def _last(pattern: re.Pattern[str], log: str) -> float | None:
    found = pattern.findall(log)
    return float(found[-1]) if found else None
